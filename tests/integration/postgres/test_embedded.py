"""The embedded PostgreSQL, with real processes and real files."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from postgres.embedded import EmbeddedPostgres
from postgres.errors import EmbeddedPostgresError
from tests.support.servers.own_postgres import (
    data_directory,
    end_postgres,
    postmaster_pid,
    put_cluster,
    select,
    wait_for_end_of,
)
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[3]
# Starts the server, says so, and stops it when its input is closed.
HOLDER = """
import sys
from pathlib import Path
from postgres.embedded import EmbeddedPostgres
embedded = EmbeddedPostgres.ephemeral() if sys.argv[1] == "ephemeral" else EmbeddedPostgres(Path(sys.argv[1]))
with embedded:
    print(embedded.data_dir, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty directory, where a cluster is still to be made."""
    with data_directory() as directory:
        yield directory


@pytest.fixture
def made(data_dir: Path) -> Path:
    """A data directory whose database exists and is stopped."""
    put_cluster(data_dir)
    return data_dir


def hold(directory: Path | str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_what_was_committed_is_there_after_a_restart_and_durability_is_on(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as embedded, psycopg.connect(embedded.conninfo) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedPostgres(data_dir) as embedded:
        assert select(embedded.conninfo, "answer FROM kept") == 42
        assert str(select(embedded.conninfo, "version()")).startswith("PostgreSQL 18")
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert select(embedded.conninfo, f"current_setting('{name}')") == "on"
        assert select(embedded.conninfo, "current_setting('jit')") == "off", "embedded.conf is not in force"


def test_an_existing_database_starts_again_at_once(data_dir: Path) -> None:
    """There is one attempt, which finds nothing to make and nothing to recover."""
    with EmbeddedPostgres(data_dir):
        made_at = (data_dir / "postgres" / "PG_VERSION").stat().st_mtime_ns
    log = data_dir / "postgres.log"
    before = len(log.read_text())
    with EmbeddedPostgres(data_dir):
        said = log.read_text()[before:]
    assert said.count("starting PostgreSQL") == said.count("database system was shut down at") == 1, said
    assert "recovery" not in said
    assert (data_dir / "postgres" / "PG_VERSION").stat().st_mtime_ns == made_at


def test_it_listens_on_a_private_socket_and_on_no_network(made: Path) -> None:
    with EmbeddedPostgres(made) as embedded:
        assert select(embedded.conninfo, "current_setting('listen_addresses')") == ""
        assert (made / "postgres").stat().st_mode & 0o077 == 0
        assert (made / "postgres" / ".s.PGSQL.5432").stat().st_mode & 0o077 == 0


def test_the_last_of_many_users_stops_it(made: Path) -> None:
    first, second = EmbeddedPostgres(made), EmbeddedPostgres(made)
    first.start()
    second.start()
    first.stop()
    assert select(second.conninfo, "1") == 1
    second.stop()
    assert postmaster_pid(made) is None


def test_a_stopped_share_gives_no_conninfo_and_may_be_stopped_again(made: Path) -> None:
    embedded = EmbeddedPostgres(made)
    embedded.start()
    embedded.stop()
    embedded.stop()
    with pytest.raises(EmbeddedPostgresError, match="does not run"):
        _ = embedded.conninfo


def test_processes_that_start_at_once_on_a_fresh_directory_all_come_up(data_dir: Path) -> None:
    holders = [hold(data_dir) for _ in range(3)]
    assert [first_line(holder) for holder in holders] == [str(data_dir)] * 3
    for holder in holders:
        holder.communicate()
    assert [holder.returncode for holder in holders] == [0, 0, 0]
    assert postmaster_pid(data_dir) is None


def test_a_user_that_was_killed_does_not_count(made: Path) -> None:
    holder = hold(made)
    first_line(holder)
    embedded = EmbeddedPostgres(made)
    embedded.start()
    holder.kill()
    holder.communicate()
    embedded.stop()
    assert postmaster_pid(made) is None


def test_a_ctrl_c_in_the_terminal_does_not_reach_the_server(made: Path) -> None:
    holder = hold(made)
    first_line(holder)
    with EmbeddedPostgres(made) as embedded, psycopg.connect(embedded.conninfo) as connection:
        os.killpg(holder.pid, signal.SIGINT)
        holder.communicate()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_it_starts_again_after_its_server_was_killed(made: Path) -> None:
    with EmbeddedPostgres(made) as embedded:
        with psycopg.connect(embedded.conninfo) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        end_postgres(made)
        with EmbeddedPostgres(made) as again:
            assert select(again.conninfo, "answer FROM kept") == 42


def test_a_stale_pid_file_whose_pid_is_now_another_program_is_no_hindrance(made: Path) -> None:
    owner = (made / "postgres").stat()
    same_user = owner.st_uid if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", "60"], user=same_user) as other:
        stale = made / "postgres" / "postmaster.pid"
        stale.write_text(f"{other.pid}\n{made}/postgres\n1700000000\n5432\n{made}/postgres\n\n  1 2\nready   \n")
        os.chown(stale, owner.st_uid, owner.st_gid)
        try:
            with EmbeddedPostgres(made) as embedded:
                assert select(embedded.conninfo, "1") == 1
        finally:
            other.kill()


def check_start(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as embedded:
        assert select(embedded.conninfo, "1") == 1


@pytest.mark.parametrize("name", ["with space", 'it\'s "$HOME" `id`', "a,b", "é" * 60, "long" * 40])
def test_a_database_starts_in_any_path(data_dir: Path, name: str) -> None:
    put_cluster(data_dir / name)
    check_start(data_dir / name)


def test_a_database_is_made_in_any_path(data_dir: Path) -> None:
    check_start(data_dir / f'it\'s "$HOME" `id`, {"é" * 60}')


def has_begun(holder: "subprocess.Popen[str]", data_dir: Path) -> bool:
    """Return whether Python runs, though nothing of ours yet."""
    return Path(f"/proc/{holder.pid}/cwd").exists()


def has_its_share(holder: "subprocess.Popen[str]", data_dir: Path) -> bool:
    return (data_dir / "postgres.users").exists()


def runs_pg_ctl(holder: "subprocess.Popen[str]", data_dir: Path) -> bool:
    return Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text() != ""


def has_a_postmaster(holder: "subprocess.Popen[str]", data_dir: Path) -> bool:
    return postmaster_pid(data_dir) is not None


def listens(holder: "subprocess.Popen[str]", data_dir: Path) -> bool:
    return (data_dir / "postgres" / ".s.PGSQL.5432").exists()


@pytest.mark.parametrize("moment", [has_begun, has_its_share, runs_pg_ctl, has_a_postmaster, listens])
def test_a_start_that_is_interrupted_leaves_no_server_behind(
    made: Path, moment: Callable[["subprocess.Popen[str]", Path], bool]
) -> None:
    holder = hold(made)
    eventually(lambda: moment(holder, made))
    os.killpg(holder.pid, signal.SIGINT)
    holder.communicate()
    assert postmaster_pid(made) is None


def test_a_lock_that_an_interrupt_left_held_is_no_hindrance(made: Path) -> None:
    embedded = EmbeddedPostgres(made)
    interrupted = embedded._one_at_a_time()
    interrupted.__enter__()  # and never left, as when Ctrl-C comes just then
    with embedded:
        assert select(embedded.conninfo, "1") == 1


def test_an_ephemeral_one_leaves_nothing_behind() -> None:
    with EmbeddedPostgres.ephemeral() as embedded:
        assert select(embedded.conninfo, "1") == 1
    assert not embedded.data_dir.exists()


def test_an_ephemeral_one_leaves_nothing_behind_when_its_user_is_killed() -> None:
    holder = hold("ephemeral")
    directory = Path(first_line(holder))
    pid = postmaster_pid(directory)
    holder.kill()
    holder.communicate()
    assert pid
    eventually(lambda: not directory.exists())
    wait_for_end_of(pid)


def test_a_set_up_that_was_interrupted_is_made_anew(data_dir: Path) -> None:
    half_made = data_dir / "postgres.new"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(data_dir) as embedded:
        assert select(embedded.conninfo, "1") == 1
    assert not half_made.exists()


def refusal(data_dir: Path) -> str:
    with pytest.raises(EmbeddedPostgresError) as caught, EmbeddedPostgres(data_dir):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_versions_directory_is_refused(made: Path) -> None:
    (made / "postgres" / "PG_VERSION").write_text("16\n")
    assert "belongs to PostgreSQL 16; Turnlog runs PostgreSQL 18" in refusal(made)


def test_a_directory_of_other_files_is_refused_and_left_alone(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir()
    (data_dir / "postgres" / "thesis.txt").write_text("mine")
    assert "holds no PostgreSQL database" in refusal(data_dir)
    assert (data_dir / "postgres" / "thesis.txt").read_text() == "mine"


def test_a_file_in_place_of_the_directory_is_refused(data_dir: Path) -> None:
    (data_dir / "file").write_text("")
    assert "cannot use the data directory" in refusal(data_dir / "file")


def test_a_place_that_cannot_be_written_is_refused() -> None:
    assert "cannot use the data directory /proc/turnlog" in refusal(Path("/proc/turnlog"))


def test_broken_settings_are_refused_with_postgresqls_own_reason(made: Path) -> None:
    with (made / "postgres" / "postgresql.auto.conf").open("a") as settings:
        settings.write("shared_buffers = 'a lot'\n")
    assert "does not start" in refusal(made)
    assert "postgres.log" in refusal(made)


def test_what_alter_system_sets_goes_before_our_settings(made: Path) -> None:
    with EmbeddedPostgres(made) as embedded, psycopg.connect(embedded.conninfo, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET jit = on")
    with EmbeddedPostgres(made) as embedded:
        assert select(embedded.conninfo, "current_setting('jit')") == "on"


def test_it_brings_the_extensions_that_search_needs(made: Path) -> None:
    with EmbeddedPostgres(made) as embedded, psycopg.connect(embedded.conninfo) as connection:
        connection.execute("CREATE EXTENSION pg_trgm")
        connection.execute("CREATE EXTENSION unaccent")
        assert connection.execute("SELECT unaccent('é'), similarity('word', 'word')").fetchone() == ("e", 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_root_stops_it_though_a_parent_directory_was_closed_meanwhile(made: Path) -> None:
    with EmbeddedPostgres(made):
        made.chmod(0o700)
    assert postmaster_pid(made) is None
