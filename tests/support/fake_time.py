"""An event loop for tests whose time jumps to the next timer without waiting."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from selectors import DefaultSelector, SelectorKey
from typing import Any, ParamSpec

P = ParamSpec("P")


def in_fake_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on a loop with fake time.

    The test fails at once if all its tasks wait and no timer is set.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=_FakeTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def now() -> float:
    """Return the running loop's time."""
    return asyncio.get_running_loop().time()


async def left_behind() -> set[asyncio.Task[Any]]:
    """Return the loop's other tasks that do not end within a second."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    return (await asyncio.wait(others, timeout=1))[1] if others else set()


class _JumpingSelector(DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1024.0  # sums with binary fractions stay exact

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        ready = super().select(0)
        if timeout is None and not ready:
            raise AssertionError("all tasks wait, and no timer is set")
        self.now += timeout or 0
        return ready


class _FakeTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now
