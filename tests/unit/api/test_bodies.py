"""The memory that arriving bodies share, and the clients that are disconnected."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from api.http.bodies import SEGMENT_BYTES, ArrivingBody, BodyMemory
from api.http.problems import ProblemError
from tests.support.fake_time import in_fake_time, now

SEGMENT = b"x" * SEGMENT_BYTES


class Clients:
    """Bodies in a memory of `segments`, and the names of disconnected clients."""

    def __init__(self, segments: int) -> None:
        self.memory = BodyMemory(segments * SEGMENT_BYTES, stalled_s=1, wait_s=5)
        self.disconnected: list[str] = []
        self._open = ExitStack()

    def arriving(self, name: str) -> ArrivingBody:
        return self._open.enter_context(self.memory.arriving(lambda: self.disconnected.append(name)))

    def leave(self) -> None:
        self._open.close()


@pytest.mark.parametrize(
    "sizes", [[0], [1], [SEGMENT_BYTES], [SEGMENT_BYTES + 1], [1, 2 * SEGMENT_BYTES], [70_000] * 9]
)
async def test_a_body_consists_of_the_pieces_that_were_added(sizes: Sequence[int]) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    with BodyMemory().arriving(None) as body:
        for piece in pieces:
            await body.add(piece)
        assert body.content() == b"".join(pieces)


async def test_memory_is_released_even_after_an_error() -> None:
    memory = BodyMemory(2 * SEGMENT_BYTES, wait_s=0)

    async def fail() -> None:
        with memory.arriving(None) as body:
            await body.add(SEGMENT * 2)
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await fail()


@in_fake_time
async def test_a_stalled_client_is_disconnected_for_another_body() -> None:
    clients = Clients(4)
    first, second, third = map(clients.arriving, ("first", "second", "third"))
    await first.add(SEGMENT * 2)
    await asyncio.sleep(0.25)
    await second.add(SEGMENT * 2)
    began = now()
    await third.add(SEGMENT * 2)
    assert (clients.disconnected, now() - began) == (["first"], 0.75)
    with pytest.raises(ProblemError, match="broke off"):
        await first.add(b"x")
    await third.add(SEGMENT * 2)
    assert clients.disconnected == ["first", "second"]
    assert third.content() == SEGMENT * 4


@in_fake_time
async def test_a_client_that_keeps_sending_stays_connected_and_the_newcomer_is_refused() -> None:
    clients = Clients(1)
    sending, newcomer = clients.arriving("sending"), clients.arriving("newcomer")

    async def send() -> None:
        while True:
            await sending.add(b"x")
            await asyncio.sleep(0.5)

    sending_task, began = asyncio.create_task(send()), now()
    await asyncio.sleep(0)
    with pytest.raises(ProblemError) as refused:
        await newcomer.add(b"x")
    assert (refused.value.kind, refused.value.headers) == ((503, "SERVER_BUSY"), {"Retry-After": "1"})
    assert (clients.disconnected, now() - began) == ([], 5)
    sending_task.cancel()


@in_fake_time
async def test_memory_that_is_released_is_used_at_once() -> None:
    clients, released_at = Clients(1), 0.0
    with clients.memory.arriving(None) as first:
        await first.add(SEGMENT)
        waiting = asyncio.create_task(clients.arriving("second").add(SEGMENT))
        await asyncio.sleep(3)
        assert not waiting.done()
        released_at = now()
    await waiting
    assert (now(), clients.disconnected) == (released_at, [])


@in_fake_time
async def test_bodies_that_wait_for_each_other_are_refused_after_the_timeout() -> None:
    clients = Clients(2)
    bodies = [clients.arriving("first"), clients.arriving("second")]
    for body in bodies:
        await body.add(SEGMENT)
    began = now()
    answers = await asyncio.gather(*(body.add(b"x") for body in bodies), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ProblemError, ProblemError]
    assert (clients.disconnected, now() - began) == ([], 5)
    clients.leave()
    await clients.arriving("third").add(SEGMENT * 2)
