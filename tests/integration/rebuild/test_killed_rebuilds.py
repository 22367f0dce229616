"""Rebuilds as processes, killed at any moment: what is read goes on, and the next run goes on where they were."""

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
def made_log(database_url: str) -> str:
    """A log that nothing is projected of yet."""
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
        """Return the process ids of those that load; the first child only looks after leaked resources."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def workers_at(self, parts: int) -> list[int]:
        """Return the process ids of those that load, once at most `parts` parts are left."""
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
    # A killed process that nobody has asked for yet is no longer alive.
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def parts_left(conninfo: str) -> int:
    """Return how many parts the listing still needs, after reading what is read meanwhile."""
    assert value(conninfo, "SELECT count(*) FROM listing JOIN history USING (conversation_id)") >= 0
    return value(conninfo, "SELECT count(*) FROM rebuild_parts WHERE name = 'listing'")


def is_planned(conninfo: str) -> bool:
    return value(conninfo, "SELECT count(*) FROM rebuilds") == len(PROJECTIONS)


def interrupted(conninfo: str) -> int:
    """Return how many builds are known to be interrupted: PostgreSQL hears of a death after a moment."""
    _, status, _ = run_turnlog(conninfo, "status")
    return status.count("running, build 2 was interrupted while loading")


def test_a_rebuild_that_is_killed_again_and_again_ends_with_what_the_log_says(made_log: str) -> None:
    random = Random(5)
    most = PARTS + 1
    for _ in range(2):
        wanted = random.randrange(most * 2 // 3, most)
        with held_parts(made_log, wanted * 2 // 3):
            killed = Rebuild(made_log)
            workers = killed.workers_at(wanted)
            killed.process.kill()
            killed.end()
            wait_for_end_of(workers)
            assert 0 < parts_left(made_log) <= wanted
            eventually(lambda: interrupted(made_log) == len(PROJECTIONS))
        most = parts_left(made_log)
        assert build_records(made_log, "listing").states == [(1, "live"), (2, "building")]

    with held_parts(made_log, most * 2 // 3):
        robbed = Rebuild(made_log)
        os.kill(robbed.workers_at(most - 1)[0], signal.SIGKILL)
        code, output = robbed.end()
    assert code == 1
    assert output.splitlines()[-1].startswith("Error: The build was interrupted: "), output

    last = Rebuild(made_log)
    eventually(lambda: parts_left(made_log) == 0 or last.process.poll() is not None)
    code, output = last.end()
    assert code == 0, output
    for projection in PROJECTIONS:
        found = build_records(made_log, projection.name)
        assert (found.states, found.plans) == ([(1, "kept"), (2, "live")], 0)
    counted = "SELECT count(*), sum(version) FROM listing"
    expected = (
        "SELECT count(*), sum(last) FROM ("
        "SELECT max(version) AS last FROM events WHERE type <> 'StreamDelta' GROUP BY conversation_id)"
    )
    assert rows(made_log, counted) == rows(made_log, expected)
    code, output, _ = run_turnlog(made_log, "verify", "--all", "--workers", "2")
    assert (code, output.count("all the same")) == (0, len(PROJECTIONS))


def test_a_coordinator_that_is_asked_to_end_leaves_no_worker(made_log: str) -> None:
    most = PARTS
    for number in (signal.SIGTERM, signal.SIGINT):
        with held_parts(made_log, most // 2):
            ended = Rebuild(made_log)
            workers = ended.workers_at(most - 1)
            ended.process.send_signal(number)
        assert ended.end()[0] != 0
        wait_for_end_of(workers)
        most = parts_left(made_log)
        assert most > 0
    assert build_records(made_log, "listing").states[-1] == (2, "building")
