"""A supervisor of two workers that print their pid and report that they are ready.

`test_processes.py` runs it. A worker is `orderly`, `broken` or `stubborn`. A broken one does not start, and
a stubborn one ignores the first request to end.
"""

import os
import signal
import sys
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from cli.processes import Supervisor, detach_from_terminal


def work(lifeline: Connection, kind: str) -> None:
    detach_from_terminal(lifeline)
    if kind == "broken":
        sys.exit(3)
    if kind == "stubborn":
        signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(os.getpid(), flush=True)
    lifeline.send(True)
    while True:
        time.sleep(60)


def start(lifeline: Connection) -> SpawnProcess:
    process = get_context("spawn").Process(target=work, args=(lifeline, sys.argv[1]))
    process.start()
    return process


if __name__ == "__main__":
    sys.exit(Supervisor(2, start, lambda: print("announced", flush=True)).run(grace_s=30))
