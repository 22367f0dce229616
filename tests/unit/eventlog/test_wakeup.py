"""Wakeups: one task waits until another calls `set`, or for a time."""

import asyncio

import pytest

from eventlog.feeds.wakeup import Wakeup, resolve
from tests.support.fake_time import in_fake_time, now


async def test_a_set_before_the_wait_ends_it_at_once_and_counts_once() -> None:
    wakeup = Wakeup()
    wakeup.set()
    wakeup.set()
    assert await wakeup.wait(60)
    assert not await wakeup.wait(0)


@in_fake_time
async def test_a_set_ends_a_wait() -> None:
    wakeup, began = Wakeup(), now()
    asyncio.get_running_loop().call_later(2, wakeup.set)
    assert await wakeup.wait(60)
    assert now() - began == 2


@in_fake_time
async def test_a_wait_ends_after_its_time() -> None:
    wakeup, began = Wakeup(), now()
    assert not await wakeup.wait(60)
    assert now() - began == 60


async def test_a_cancelled_wait_leaves_the_wakeup_usable() -> None:
    wakeup = Wakeup()
    waiting = asyncio.create_task(wakeup.wait(60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    wakeup.set()
    assert await wakeup.wait(60)


async def test_resolve_leaves_a_future_that_is_done() -> None:
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    resolve(waiter)
    resolve(waiter)
    assert waiter.result() is None
