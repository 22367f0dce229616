"""A connection whose socket stays watched from one statement to the next."""

import asyncio
import os
from asyncio import AbstractEventLoop, Future
from collections.abc import Generator
from types import TracebackType
from typing import Any, NamedTuple, TypeVar
from weakref import ref

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg.rows import TupleRow
from psycopg.waiting import READY_R, WAIT_R, Ready, Wait

from eventlog.bell import finish

_Result = TypeVar("_Result")


class WatchedConnection(AsyncConnection[TupleRow]):
    """psycopg's connection, which waits for less.

    psycopg begins and ends a watch on the socket each time it waits for an answer. On uvloop that is eight system
    calls, a third of what a short statement costs its caller; here the watch goes on until something comes that nobody
    waits for. It is on a descriptor of its own, for libpq closes the socket's when the connection breaks, and whatever
    opens next gets the same number.
    """

    _waiter: Future[None] | None = None
    _answered = False
    _watch: "_Watch | None" = None

    async def wait(self, gen: PQGen[_Result], interval: float = 0.1, timeout: float | None = None) -> _Result:
        """Return what `gen`, one of psycopg's dialogues with the server, comes to.

        Where it waits for more than an answer, or is interrupted, psycopg's own wait goes on with it.

        Raises:
            psycopg.Error: as the dialogue does.
        """
        interruption = None
        if timeout is None:
            try:
                wanted = next(gen)
                while wanted == WAIT_R:
                    await self._readable()
                    wanted = gen.send(READY_R)
            except StopIteration as end:
                return end.value
            except (asyncio.CancelledError, KeyboardInterrupt) as error:
                wanted, interruption = WAIT_R, error
            gen = _Resumed(gen, wanted, interruption)
        self._unwatch()
        return await super().wait(gen, interval, timeout)

    async def close(self) -> None:
        """Close the connection."""
        self._unwatch()
        await super().close()

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        if self._watch is None or self._watch.loop is not loop:
            self._unwatch()
            self._watch = self._watched(loop)
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _watched(self, loop: AbstractEventLoop) -> "_Watch":
        connection: ref[WatchedConnection] = ref(self)
        try:
            watch = _Watch(loop, os.dup(self.fileno()))
            loop.add_reader(watch.descriptor, _come, connection, watch)
        except OSError as error:
            raise psycopg.OperationalError("the connection's socket cannot be watched") from error
        return watch

    def come(self) -> None:
        """Take note that the socket can be read."""
        if self._waiter is not None:
            finish(self._waiter)
            self._answered = True
        elif self._answered:
            self._answered = False  # asyncio says once more what was being read when it looked
        else:
            self._unwatch()  # a notice, or the end of the connection: the next statement will read it

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.end()
            self._watch = None


class _Watch(NamedTuple):
    """An event loop's watch on a descriptor, which is the watch's own."""

    loop: AbstractEventLoop
    descriptor: int

    def end(self) -> None:
        """Stop watching."""
        if not self.loop.is_closed():
            self.loop.remove_reader(self.descriptor)
        os.close(self.descriptor)


def _come(connection: ref[WatchedConnection], watch: _Watch) -> None:
    if (watched := connection()) is not None:
        watched.come()
    else:
        watch.end()  # nobody has closed it; that it is gone has closed it


class _Resumed(Generator[Wait, Ready | int, _Result]):
    """A dialogue that stands where it has said what it waits for, as psycopg's wait takes one: from the beginning.

    Interrupted ones begin with their interruption, so that psycopg deals with it.
    """

    def __init__(self, gen: PQGen[_Result], wanted: Wait, interruption: BaseException | None) -> None:
        self._gen = gen
        self._wanted = wanted
        self._interruption = interruption

    def send(self, value: Ready | int | None) -> Wait:
        """Go on, with None from where it stands."""
        if self._interruption is not None:
            interruption, self._interruption = self._interruption, None
            raise interruption
        if value is not None:
            self._wanted = self._gen.send(value)
        return self._wanted

    def throw(self, typ: Any, val: object = None, tb: TracebackType | None = None) -> Wait:
        """Let it end, as whoever closes a generator does."""
        return self._gen.throw(typ)
