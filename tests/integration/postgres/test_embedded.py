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
# Starts the server, prints its directory, and stops it when its input is closed.
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
    """An empty directory without a cluster."""
    with data_directory() as directory:
        yield directory


@pytest.fixture
def cluster_dir(data_dir: Path) -> Path:
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


def test_committed_data_survives_a_restart_and_durability_is_on(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as embedded, psycopg.connect(embedded.conninfo) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedPostgres(data_dir) as embedded:
        assert select(embedded.conninfo, "answer FROM kept") == 42
        assert str(select(embedded.conninfo, "version()")).startswith("PostgreSQL 18")
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert select(embedded.conninfo, f"current_setting('{name}')") == "on"
        assert select(embedded.conninfo, "current_setting('jit')") == "off", "embedded.conf is not in force"


def test_an_existing_database_starts_without_recovery(data_dir: Path) -> None:
    """Check that it starts in one attempt, with nothing to create or recover."""
    with EmbeddedPostgres(data_dir):
        made_at = (data_dir / "postgres" / "PG_VERSION").stat().st_mtime_ns
    log = data_dir / "postgres.log"
    before = len(log.read_text())
    with EmbeddedPostgres(data_dir):
        said = log.read_text()[before:]
    assert said.count("starting PostgreSQL") == said.count("database system was shut down at") == 1, said
    assert "recovery" not in said
    assert (data_dir / "postgres" / "PG_VERSION").stat().st_mtime_ns == made_at


def test_the_server_listens_on_a_private_socket_and_on_no_network(cluster_dir: Path) -> None:
    with EmbeddedPostgres(cluster_dir) as embedded:
        assert select(embedded.conninfo, "current_setting('listen_addresses')") == ""
        assert (cluster_dir / "postgres").stat().st_mode & 0o077 == 0
        assert (cluster_dir / "postgres" / ".s.PGSQL.5432").stat().st_mode & 0o077 == 0


def test_the_last_user_stops_the_server(cluster_dir: Path) -> None:
    first, second = EmbeddedPostgres(cluster_dir), EmbeddedPostgres(cluster_dir)
    first.start()
    second.start()
    first.stop()
    assert select(second.conninfo, "1") == 1
    second.stop()
    assert postmaster_pid(cluster_dir) is None


def test_a_stopped_user_has_no_conninfo_and_may_be_stopped_again(cluster_dir: Path) -> None:
    embedded = EmbeddedPostgres(cluster_dir)
    embedded.start()
    embedded.stop()
    embedded.stop()
    with pytest.raises(EmbeddedPostgresError, match="does not run"):
        _ = embedded.conninfo


def test_processes_that_start_at_once_on_a_new_directory_all_start(data_dir: Path) -> None:
    holders = [hold(data_dir) for _ in range(3)]
    assert [first_line(holder) for holder in holders] == [str(data_dir)] * 3
    for holder in holders:
        holder.communicate()
    assert [holder.returncode for holder in holders] == [0, 0, 0]
    assert postmaster_pid(data_dir) is None


def test_a_killed_user_does_not_keep_the_server_running(cluster_dir: Path) -> None:
    holder = hold(cluster_dir)
    first_line(holder)
    embedded = EmbeddedPostgres(cluster_dir)
    embedded.start()
    holder.kill()
    holder.communicate()
    embedded.stop()
    assert postmaster_pid(cluster_dir) is None


def test_a_ctrl_c_in_the_terminal_does_not_reach_the_server(cluster_dir: Path) -> None:
    holder = hold(cluster_dir)
    first_line(holder)
    with EmbeddedPostgres(cluster_dir) as embedded, psycopg.connect(embedded.conninfo) as connection:
        os.killpg(holder.pid, signal.SIGINT)
        holder.communicate()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_killed_server_starts_again_for_the_next_user(cluster_dir: Path) -> None:
    with EmbeddedPostgres(cluster_dir) as embedded:
        with psycopg.connect(embedded.conninfo) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        end_postgres(cluster_dir)
        with EmbeddedPostgres(cluster_dir) as again:
            assert select(again.conninfo, "answer FROM kept") == 42


def test_a_stale_pid_file_with_the_pid_of_another_program_does_not_prevent_a_start(cluster_dir: Path) -> None:
    owner = (cluster_dir / "postgres").stat()
    same_user = owner.st_uid if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", "60"], user=same_user) as other:
        stale = cluster_dir / "postgres" / "postmaster.pid"
        stale.write_text(
            f"{other.pid}\n{cluster_dir}/postgres\n1700000000\n5432\n{cluster_dir}/postgres\n\n  1 2\nready   \n"
        )
        os.chown(stale, owner.st_uid, owner.st_gid)
        try:
            with EmbeddedPostgres(cluster_dir) as embedded:
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


def test_a_database_is_created_in_any_path(data_dir: Path) -> None:
    check_start(data_dir / f'it\'s "$HOME" `id`, {"é" * 60}')


def has_begun(holder: "subprocess.Popen[str]", data_dir: Path) -> bool:
    """Return whether Python runs. Our code may not run yet."""
    return Path(f"/proc/{holder.pid}/cwd").exists()


def is_registered(holder: "subprocess.Popen[str]", data_dir: Path) -> bool:
    return (data_dir / "postgres.users").exists()


def runs_pg_ctl(holder: "subprocess.Popen[str]", data_dir: Path) -> bool:
    return Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text() != ""


def has_a_postmaster(holder: "subprocess.Popen[str]", data_dir: Path) -> bool:
    return postmaster_pid(data_dir) is not None


def listens(holder: "subprocess.Popen[str]", data_dir: Path) -> bool:
    return (data_dir / "postgres" / ".s.PGSQL.5432").exists()


@pytest.mark.parametrize("moment", [has_begun, is_registered, runs_pg_ctl, has_a_postmaster, listens])
def test_an_interrupted_start_leaves_no_server_running(
    cluster_dir: Path, moment: Callable[["subprocess.Popen[str]", Path], bool]
) -> None:
    holder = hold(cluster_dir)
    eventually(lambda: moment(holder, cluster_dir))
    os.killpg(holder.pid, signal.SIGINT)
    holder.communicate()
    assert postmaster_pid(cluster_dir) is None


def test_a_lock_left_held_by_an_interrupt_does_not_prevent_a_start(cluster_dir: Path) -> None:
    embedded = EmbeddedPostgres(cluster_dir)
    interrupted = embedded._one_at_a_time()
    interrupted.__enter__()  # and never exited, as if Ctrl-C came at this moment
    with embedded:
        assert select(embedded.conninfo, "1") == 1


def test_an_ephemeral_server_removes_its_directory() -> None:
    with EmbeddedPostgres.ephemeral() as embedded:
        assert select(embedded.conninfo, "1") == 1
    assert not embedded.data_dir.exists()


def test_an_ephemeral_server_removes_its_directory_when_its_user_is_killed() -> None:
    holder = hold("ephemeral")
    directory = Path(first_line(holder))
    pid = postmaster_pid(directory)
    holder.kill()
    holder.communicate()
    assert pid
    eventually(lambda: not directory.exists())
    wait_for_end_of(pid)


def test_an_interrupted_creation_is_repeated(data_dir: Path) -> None:
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


def test_a_directory_of_another_version_is_refused(cluster_dir: Path) -> None:
    (cluster_dir / "postgres" / "PG_VERSION").write_text("16\n")
    assert "belongs to PostgreSQL 16; Turnlog runs PostgreSQL 18" in refusal(cluster_dir)


def test_a_directory_of_other_files_is_refused_and_unchanged(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir()
    (data_dir / "postgres" / "thesis.txt").write_text("mine")
    assert "holds no PostgreSQL database" in refusal(data_dir)
    assert (data_dir / "postgres" / "thesis.txt").read_text() == "mine"


def test_a_file_in_place_of_the_directory_is_refused(data_dir: Path) -> None:
    (data_dir / "file").write_text("")
    assert "cannot use the data directory" in refusal(data_dir / "file")


def test_a_directory_that_cannot_be_written_is_refused() -> None:
    assert "cannot use the data directory /proc/turnlog" in refusal(Path("/proc/turnlog"))


def test_invalid_settings_are_refused_with_a_reference_to_the_postgresql_log(cluster_dir: Path) -> None:
    with (cluster_dir / "postgres" / "postgresql.auto.conf").open("a") as settings:
        settings.write("shared_buffers = 'a lot'\n")
    assert "does not start" in refusal(cluster_dir)
    assert "postgres.log" in refusal(cluster_dir)


def test_alter_system_overrides_our_settings(cluster_dir: Path) -> None:
    with EmbeddedPostgres(cluster_dir) as embedded, psycopg.connect(embedded.conninfo, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET jit = on")
    with EmbeddedPostgres(cluster_dir) as embedded:
        assert select(embedded.conninfo, "current_setting('jit')") == "on"


def test_the_extensions_for_search_are_installed(cluster_dir: Path) -> None:
    with EmbeddedPostgres(cluster_dir) as embedded, psycopg.connect(embedded.conninfo) as connection:
        connection.execute("CREATE EXTENSION pg_trgm")
        connection.execute("CREATE EXTENSION unaccent")
        assert connection.execute("SELECT unaccent('é'), similarity('word', 'word')").fetchone() == ("e", 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_root_stops_the_server_after_a_parent_directory_became_inaccessible(cluster_dir: Path) -> None:
    with EmbeddedPostgres(cluster_dir):
        cluster_dir.chmod(0o700)
    assert postmaster_pid(cluster_dir) is None
