"""The supervisor, with real worker processes that do no work."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest

from tests.support.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[3]


class Supervised:
    def __init__(self, kind: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.cli.stub_workers", kind],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lines: Queue[str] = Queue()
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line.strip())

    def line(self) -> str:
        return self._lines.get(timeout=PATIENCE_S)

    def pids_once_announced(self) -> list[int]:
        pids = [int(self.line()) for _ in range(2)]
        assert self.line() == "announced"
        return pids


@pytest.fixture
def orderly() -> Iterator[Supervised]:
    yield from _supervised("orderly")


@pytest.fixture
def stubborn() -> Iterator[Supervised]:
    yield from _supervised("stubborn")


def _supervised(kind: str) -> Iterator[Supervised]:
    supervised = Supervised(kind)
    yield supervised
    supervised.process.kill()
    supervised.process.wait()


def wait_until_gone(pid: int) -> None:
    eventually(lambda: not Path(f"/proc/{pid}/cwd").exists())


def test_a_request_to_end_ends_the_workers(orderly: Supervised) -> None:
    pids = orderly.pids_once_announced()
    orderly.process.send_signal(signal.SIGTERM)
    assert orderly.process.wait(PATIENCE_S) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_worker_that_crashed_is_replaced(orderly: Supervised) -> None:
    crashed, other = orderly.pids_once_announced()
    os.kill(crashed, signal.SIGKILL)
    assert int(orderly.line()) not in (crashed, other)


def test_a_second_request_to_end_is_passed_on(stubborn: Supervised) -> None:
    stubborn.pids_once_announced()
    stubborn.process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        stubborn.process.wait(0.5)
    stubborn.process.send_signal(signal.SIGINT)
    assert stubborn.process.wait(PATIENCE_S) == 1


def test_workers_end_with_a_supervisor_that_was_killed(orderly: Supervised) -> None:
    pids = orderly.pids_once_announced()
    orderly.process.kill()
    for pid in pids:
        wait_until_gone(pid)


def test_workers_that_cannot_start_end_the_supervisor() -> None:
    assert Supervised("broken").process.wait(PATIENCE_S) == 1
