"""Background tasks: their failures are logged, and they are closed together."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from typing import Any

from eventlog.errors import StoreUnavailableError

FIRST_PAUSE_S = 0.2
MAX_PAUSE_S = 1.0
CANCEL_AGAIN_S = 2.0
HEALTHY_AFTER_S = 30.0
"""After work has run for this long, every error is logged again.

An attempt that waits for an unavailable store fails sooner.
"""
_REMEMBERED_ERRORS = 8

_log = logging.getLogger(__name__)


class Background:
    """The background tasks of one service."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` until it returns. After an error, log it, wait, and run `work` again.

        The wait grows from 0.2 to 1 s while `work` fails within a second. The task has no context variables: it does
        not belong to the request that happens to start it.
        """
        self._add(asyncio.create_task(_keep(name, work), name=name, context=Context()))

    def once(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` once. An error is logged."""
        self._add(asyncio.create_task(_once(name, work), name=name))

    async def finish(self) -> None:
        """Wait until all tasks have ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended.

        Tasks started later end at once.
        """
        self._closed = True
        await cancel_and_wait(self._tasks)

    def _add(self, task: asyncio.Task[None]) -> None:
        if self._closed:
            task.cancel()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended. Their errors are not raised."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        # Before Python 3.12, asyncio.wait_for may lose a cancellation, and psycopg waits with it.
        ended, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
        await asyncio.gather(*ended, return_exceptions=True)


async def _keep(name: str, work: Callable[[], Awaitable[None]]) -> None:
    clock = asyncio.get_running_loop().time
    pause_s, reported = FIRST_PAUSE_S, deque[str](maxlen=_REMEMBERED_ERRORS)
    while True:
        began = clock()
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - a logged boundary of the process
            lasted_s = clock() - began
            if lasted_s > MAX_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            if lasted_s > HEALTHY_AFTER_S:
                reported.clear()
            # A repeated error is logged once, as an outage lasts for many attempts, which fail in a few ways by turns.
            if (text := f"{error!r} {error.__cause__!r}") not in reported:
                _report(name, error)
                reported.append(text)
        else:
            return
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)


async def _once(name: str, work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - a logged boundary of the process
        _report(name, error)


def _report(name: str, error: Exception) -> None:
    if isinstance(error, StoreUnavailableError):
        _log.warning("%s waits for the store: %s", name, error.__cause__ or error)
    else:
        _log.error("%s failed", name, exc_info=error)
