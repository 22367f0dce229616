"""Processes that load builds: they work side by side, hear no Ctrl-C, and end with the process that started them."""

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
    """Some processes that do jobs."""

    def __init__(self, pool: Executor, number: int) -> None:
        self._pool = pool
        # One more job than workers waits in the pool; the others wait here, where they can be given up.
        self._room = asyncio.Semaphore(number + 1)

    async def run(self, job: Callable[[], None]) -> None:
        """Let a worker do a job.

        Raises:
            BuildInterruptedError: the worker or the database has gone.
        """
        try:
            async with self._room:
                begun = asyncio.wrap_future(self._submit(job))
                try:
                    await asyncio.wait([begun])
                finally:
                    # Also who gives up waits: nobody may drop tables that a worker writes to.
                    await asyncio.wait([begun])
                    error = begun.exception()
                if error:
                    raise error
        except (BrokenProcessPool, psycopg.OperationalError) as error:
            raise BuildInterruptedError(f"The build was interrupted: {error_message(error)}.") from error

    def _submit(self, job: Callable[[], None]) -> Future[None]:
        """Hand a job on; a worker that starts for it never hears of a Ctrl-C, not even while it is starting."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._pool.submit(job)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def open_workers(number: int) -> Generator[Workers]:
    """Give so many workers, which start when they are first needed; at the end jobs that have begun are waited for."""
    pool = ProcessPoolExecutor(number, get_context("spawn"), _start_worker)
    try:
        yield Workers(pool, number)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


async def run_all(work: Sequence[Coroutine[None, None, None]]) -> None:
    """Run everything at once; the first error ends what has not begun."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            # One that is being cancelled waits for its worker; to cancel it once more would end that wait.
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def end_with_parent() -> None:
    """Let this process end when the one that started it does, however that ends."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=[parent.join], daemon=True).start()


def _end_after(wait: Callable[[], object]) -> None:
    wait()
    os._exit(1)


def _start_worker() -> None:
    """A worker ends with the process that started it, which alone hears a Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    # A chunk of events is thrown away as a whole: looking for cycles in it now and then is enough, and saves a fifth.
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
