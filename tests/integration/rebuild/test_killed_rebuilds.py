"""Killed rebuild processes: reads continue, and the next run resumes the rebuild."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from benchmarks.workload.generator import make_log
from projections.catalog import PROJECTIONS, install
from tests.support.rebuilding import WORKERS, build_records, held_parts, run_turnlog, url
from tests.support.small_parts import PART_EVENTS
from tests.support.store import rows, value
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[3]
EVENTS = 8_000
PARTS = EVENTS // PART_EVENTS


@pytest.fixture
def unprojected_log(database_url: str) -> str:
    """A log without projections."""
    install(database_url)
    make_log(database_url, "turnlog", EVENTS)
    return database_url


class Rebuild:
    """`turnlog projections rebuild --all --workers 2` as a process."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        command = ["projections", "rebuild", "--all", "--workers", str(WORKERS), "--database-url", url(conninfo)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.small_parts", *command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def workers(self) -> list[int]:
        """Return the process ids of the workers, without the resource tracker."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def workers_at(self, parts: int) -> list[int]:
        """Return the process ids of the workers as soon as at most `parts` parts are left."""
        eventually(lambda: is_planned(self.conninfo) and parts_left(self.conninfo) <= parts and self.workers())
        workers = self.workers()
        assert 1 <= len(workers) <= WORKERS
        return workers

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate()
        return self.process.returncode, output


def wait_for_end_of(workers: list[int]) -> None:
    eventually(lambda: not any(map(is_alive, workers)))


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # A killed process that was not reaped yet is no longer alive.
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def parts_left(conninfo: str) -> int:
    """Return the number of parts that the listing still needs.

    Check first that the live build can be read.
    """
    assert value(conninfo, "SELECT count(*) FROM listing JOIN history USING (conversation_id)") >= 0
    return value(conninfo, "SELECT count(*) FROM rebuild_parts WHERE name = 'listing'")


def is_planned(conninfo: str) -> bool:
    return value(conninfo, "SELECT count(*) FROM rebuilds") == len(PROJECTIONS)


def interrupted(conninfo: str) -> int:
    """Return the number of builds that are known to be interrupted.

    PostgreSQL notices a dead client after a moment.
    """
    _, status, _ = run_turnlog(conninfo, "status")
    return status.count("running, build 2 was interrupted while loading")


def test_a_rebuild_that_is_killed_repeatedly_ends_with_the_right_rows(unprojected_log: str) -> None:
    random = Random(5)
    most = PARTS + 1
    for _ in range(2):
        wanted = random.randrange(most * 2 // 3, most)
        with held_parts(unprojected_log, wanted * 2 // 3):
            killed = Rebuild(unprojected_log)
            workers = killed.workers_at(wanted)
            killed.process.kill()
            killed.end()
            wait_for_end_of(workers)
            assert 0 < parts_left(unprojected_log) <= wanted
            eventually(lambda: interrupted(unprojected_log) == len(PROJECTIONS))
        most = parts_left(unprojected_log)
        assert build_records(unprojected_log, "listing").states == [(1, "live"), (2, "building")]

    with held_parts(unprojected_log, most * 2 // 3):
        worker_killed = Rebuild(unprojected_log)
        os.kill(worker_killed.workers_at(most - 1)[0], signal.SIGKILL)
        code, output = worker_killed.end()
    assert code == 1
    assert output.splitlines()[-1].startswith("Error: The build was interrupted: "), output

    last = Rebuild(unprojected_log)
    eventually(lambda: parts_left(unprojected_log) == 0 or last.process.poll() is not None)
    code, output = last.end()
    assert code == 0, output
    for projection in PROJECTIONS:
        found = build_records(unprojected_log, projection.name)
        assert (found.states, found.plans) == ([(1, "kept"), (2, "live")], 0)
    counted = "SELECT count(*), sum(version) FROM listing"
    expected = (
        "SELECT count(*), sum(last) FROM ("
        "SELECT max(version) AS last FROM events WHERE type <> 'StreamDelta' GROUP BY aggregate_id)"
    )
    assert rows(unprojected_log, counted) == rows(unprojected_log, expected)
    code, output, _ = run_turnlog(unprojected_log, "verify", "--all", "--workers", "2")
    assert (code, output.count("all the same")) == (0, len(PROJECTIONS))


def test_a_coordinator_that_is_terminated_leaves_no_worker(unprojected_log: str) -> None:
    most = PARTS
    for number in (signal.SIGTERM, signal.SIGINT):
        with held_parts(unprojected_log, most // 2):
            ended = Rebuild(unprojected_log)
            workers = ended.workers_at(most - 1)
            ended.process.send_signal(number)
        assert ended.end()[0] != 0
        wait_for_end_of(workers)
        most = parts_left(unprojected_log)
        assert most > 0
    assert build_records(unprojected_log, "listing").states[-1] == (2, "building")
