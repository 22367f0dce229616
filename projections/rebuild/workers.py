"""Worker processes that load builds.

They ignore Ctrl-C and end with the process that started them.
"""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process

import psycopg

from projections.errors import BuildInterruptedError
from projections.postgres_errors import error_message


class Workers:
    """A pool of worker processes."""

    def __init__(self, pool: Executor, number: int) -> None:
        self._pool = pool
        # One more job than workers waits in the pool. The others wait here, where they can be cancelled.
        self._slots = asyncio.Semaphore(number + 1)

    async def run(self, job: Callable[[], None]) -> None:
        """Run a job in a worker and wait for its end.

        Raises:
            BuildInterruptedError: the worker or the database has gone.
        """
        try:
            async with self._slots:
                running = asyncio.wrap_future(self._submit(job))
                try:
                    await asyncio.wait([running])
                finally:
                    # A cancelled caller waits too, so that it never drops tables that a worker writes to.
                    await asyncio.wait([running])
                    error = running.exception()
                if error:
                    raise error
        except (BrokenProcessPool, psycopg.OperationalError) as error:
            raise BuildInterruptedError(f"The build was interrupted: {error_message(error)}.") from error

    def _submit(self, job: Callable[[], None]) -> Future[None]:
        """Give a job to the pool."""
        # A worker that starts for the job inherits the blocked signal, so Ctrl-C does not end it while it starts.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._pool.submit(job)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def open_workers(number: int) -> Generator[Workers]:
    """Open a pool of `number` workers, which start on demand.

    The end of the block waits for the jobs that run.
    """
    pool = ProcessPoolExecutor(number, get_context("spawn"), _start_worker)
    try:
        yield Workers(pool, number)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


async def run_all(work: Sequence[Coroutine[None, None, None]]) -> None:
    """Run coroutines concurrently. The first error cancels the others."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            # A task that is being cancelled waits for its worker. A second cancel would end that wait.
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def end_with_parent() -> None:
    """End this process when its parent process ends, also when the parent is killed."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=[parent.join], daemon=True).start()


def _end_after(wait: Callable[[], object]) -> None:
    wait()
    os._exit(1)


def _start_worker() -> None:
    """Initialise a worker process."""
    # The parent handles Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    # A chunk of events is freed as a whole. Rare garbage collections suffice and save a fifth of the time.
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
