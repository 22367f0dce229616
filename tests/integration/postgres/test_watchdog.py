"""One of the processes that use an embedded PostgreSQL restarts it if it died."""

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import psycopg
import pytest

from postgres.cluster import Cluster
from postgres.embedded import Condition, EmbeddedPostgres
from postgres.errors import ClusterError
from postgres.programs import run_program
from tests.support.servers.own_postgres import kill_postmaster, postmaster_pid, select
from tests.support.waiting import eventually

CHECK_INTERVAL_S = 0.02


@pytest.fixture
def watched(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(data_dir) as embedded:
        embedded.watch(CHECK_INTERVAL_S)
        yield embedded


def runs(embedded: EmbeddedPostgres) -> bool:
    return embedded.condition() is Condition.RUNNING


def runs_again(embedded: EmbeddedPostgres, instead_of: int) -> bool:
    return postmaster_pid(embedded.data_dir) not in (None, instead_of) and runs(embedded)


def stop_as_an_operator(data_dir: Path, mode: str = "fast") -> None:
    done = run_program(data_dir / "postgres", "pg_ctl", "stop", "-w", "-m", mode)
    assert done.returncode == 0, done.stderr


class Checks:
    """A count of the checks that a watchdog made of a cluster."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        exists = Cluster.exists

        def counted(cluster: Cluster) -> bool:
            self.count += 1
            return exists(cluster)

        monkeypatch.setattr(Cluster, "exists", counted)

    def wait_for_more(self) -> None:
        before = self.count
        eventually(lambda: self.count > before + 3)


def test_a_killed_server_runs_again_with_its_committed_data(watched: EmbeddedPostgres, data_dir: Path) -> None:
    with psycopg.connect(watched.conninfo) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    for _ in range(2):
        killed = kill_postmaster(data_dir)
        eventually(lambda killed=killed: runs_again(watched, killed))
        assert select(watched.conninfo, "answer FROM kept") == 42


def test_a_killed_server_with_open_sessions_runs_again(watched: EmbeddedPostgres, data_dir: Path) -> None:
    with psycopg.connect(watched.conninfo, autocommit=True) as connection:
        connection.execute("SELECT 1")
        killed = kill_postmaster(data_dir)
        eventually(lambda: runs_again(watched, killed))
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_one_of_several_watchers_restarts_the_server(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    users = [EmbeddedPostgres(data_dir) for _ in range(3)]
    for user in users:
        user.start()
        user.watch(CHECK_INTERVAL_S)
    killed = kill_postmaster(data_dir)
    eventually(lambda: "runs again" in caplog.text)
    assert runs_again(users[0], killed)
    for user in users:
        user.stop()
    assert caplog.text.count("runs again") == 1
    assert postmaster_pid(data_dir) is None


def test_a_pid_file_with_the_pid_of_another_program_counts_as_a_death(
    watched: EmbeddedPostgres, data_dir: Path
) -> None:
    pid_file = data_dir / "postgres" / "postmaster.pid"
    with subprocess.Popen(["sleep", "60"]) as other:
        killed = postmaster_pid(data_dir)
        assert killed
        words = pid_file.read_text()
        os.kill(killed, signal.SIGSTOP)  # hides the moment between the kill and the reuse of the pid
        pid_file.write_text(words.replace(str(killed), str(other.pid), 1))
        os.kill(killed, signal.SIGKILL)
        try:
            eventually(lambda: runs_again(watched, other.pid))
        finally:
            other.kill()


@pytest.mark.parametrize("mode", ["smart", "fast", "immediate"])
def test_a_server_that_was_stopped_on_purpose_is_not_restarted(
    watched: EmbeddedPostgres, data_dir: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    checks = Checks(monkeypatch)
    stop_as_an_operator(data_dir, mode)
    checks.wait_for_more()
    assert postmaster_pid(data_dir) is None
    assert watched.condition() is Condition.STOPPED
    shutil.copytree(data_dir / "postgres", data_dir / "copy", symlinks=True)
    shutil.rmtree(data_dir / "postgres")
    checks.wait_for_more()
    assert not (data_dir / "postgres").exists()


@pytest.mark.parametrize("words", ["", "\n", "nonsense\n"])
def test_a_pid_file_without_a_pid_does_not_count_as_a_death(
    watched: EmbeddedPostgres, data_dir: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """Check a pid file as it is for a moment while a server starts."""
    checks = Checks(monkeypatch)
    pid_file = data_dir / "postgres" / "postmaster.pid"
    before = pid_file.read_text()
    pid_file.write_text(words)
    checks.wait_for_more()
    assert pid_file.read_text() == words
    pid_file.write_text(before)


def test_a_server_that_another_command_restarted_is_still_watched(watched: EmbeddedPostgres, data_dir: Path) -> None:
    stop_as_an_operator(data_dir)
    with EmbeddedPostgres(data_dir):
        pass
    killed = kill_postmaster(data_dir)
    eventually(lambda: runs_again(watched, killed))


class RefusingCluster:
    """Makes starts fail as on a full disk, until `reason` is `None`.

    PostgreSQL removes the pid file itself in this case.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tries = 0
        self.reason: str | None = "could not write lock file: No space left on device"
        start = Cluster.start

        def failing(cluster: Cluster) -> None:
            self.tries += 1
            if self.reason is not None:
                (cluster.directory / "postmaster.pid").unlink(missing_ok=True)
                raise ClusterError(self.reason)
            start(cluster)

        monkeypatch.setattr(Cluster, "start", failing)


def test_a_failed_start_is_retried_and_logged_once(
    watched: EmbeddedPostgres,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    refusing = RefusingCluster(monkeypatch)
    kill_postmaster(data_dir)
    eventually(lambda: refusing.tries >= 4)
    assert watched.condition() is Condition.DIED
    assert caplog.text.count("No space left on device") == 1
    refusing.reason = None
    eventually(lambda: runs(watched))
    eventually(lambda: "runs again" in caplog.text)
    assert not (data_dir / "postgres.died").exists()


def test_a_death_is_known_to_every_process_after_a_failed_start_in_one(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = EmbeddedPostgres(data_dir), EmbeddedPostgres(data_dir)
    first.start()
    second.start()
    refusing = RefusingCluster(monkeypatch)
    first.watch(CHECK_INTERVAL_S)
    kill_postmaster(data_dir)
    eventually(lambda: refusing.tries)
    first.stop()
    assert second.condition() is Condition.DIED
    refusing.reason = None
    second.watch(CHECK_INTERVAL_S)
    eventually(lambda: runs(second))
    second.stop()


def test_a_command_that_starts_the_server_ends_the_attempts_of_the_watcher(
    watched: EmbeddedPostgres, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = RefusingCluster(monkeypatch)
    kill_postmaster(data_dir)
    eventually(lambda: refusing.tries)
    refusing.reason = None
    with EmbeddedPostgres(data_dir) as command:
        assert select(command.conninfo, "1") == 1
    checks = Checks(monkeypatch)
    checks.wait_for_more()
    stop_as_an_operator(data_dir)
    checks.wait_for_more()
    assert watched.condition() is Condition.STOPPED


def test_a_process_that_stops_does_not_restart_the_server(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded = EmbeddedPostgres(data_dir)
    embedded.start()
    held = Event()
    has_died = Cluster.has_died

    def slow(cluster: Cluster) -> bool:
        found = has_died(cluster)
        if found and not held.is_set():
            held.set()
            eventually(lambda: embedded._watchdog is None or embedded._watchdog._ending.is_set())
        return found

    monkeypatch.setattr(Cluster, "has_died", slow)
    embedded.watch(CHECK_INTERVAL_S)
    killed = kill_postmaster(data_dir)
    assert held.wait(30)
    embedded.stop()
    assert postmaster_pid(data_dir) == killed, "the server was started"


def test_an_ephemeral_server_is_watched_and_removes_its_directory() -> None:
    with EmbeddedPostgres.ephemeral() as embedded:
        embedded.watch(CHECK_INTERVAL_S)
        killed = kill_postmaster(embedded.data_dir)
        eventually(lambda: runs_again(embedded, killed))
    assert not embedded.data_dir.exists()


def test_a_frozen_or_starting_server_does_not_count_as_dead(watched: EmbeddedPostgres) -> None:
    assert watched.condition() is Condition.RUNNING
    pid_file = watched.data_dir / "postgres" / "postmaster.pid"
    pid_file.write_text(pid_file.read_text().replace("ready   ", "starting"))
    assert watched.condition() is Condition.STARTING
    pid_file.write_text(pid_file.read_text().replace("starting", "ready   "))
    pid = postmaster_pid(watched.data_dir)
    assert pid
    os.kill(pid, signal.SIGSTOP)
    assert watched.condition() is Condition.RUNNING
    os.kill(pid, signal.SIGCONT)
