"""The lag of the read models: from a commit to its row, and a whole request."""

import asyncio
from random import Random
from time import perf_counter
from uuid import UUID

from benchmarks.measure import Measurement, Plan, Target
from benchmarks.workload.callers import call_ms
from benchmarks.workload.serving import serve, turnlog_serve
from benchmarks.workload.store import CALLER, Store, open_store, start_conversations, text_message
from benchmarks.workload.texts import Turn, turns
from domain.events import MessageAdded
from projections.catalog import PROJECTIONS
from projections.models.history import History

NAME = "lag"
EVENTS_A_SECOND = 2000
READ_EVERY = 10
CONVERSATIONS = 200
WAIT_S = 10.0
TICK_S = 0.001
CALLS = 10_000


class Appends:
    """Messages recorded at a fixed rate, independent of the projections.

    Every tenth message is looked up in the history.
    """

    def __init__(self, store: Store, conversations: list[UUID], texts: list[Turn]) -> None:
        self._store = store
        self._history = History(store.database)
        self._conversations = conversations
        self._texts = texts
        self._random = Random(1)
        self._commit_ms: list[float] = []
        self._visible_ms: list[float] = []

    async def visible_ms(self, seconds: float) -> float:
        """Append for `seconds` and return the p99 time from a commit to its row."""
        self._commit_ms, self._visible_ms = [], []
        async with asyncio.TaskGroup() as tasks:
            start, made = perf_counter(), 0
            while (elapsed := perf_counter() - start) < seconds:
                wanted = int(elapsed * EVENTS_A_SECOND)
                for number in range(made, wanted):
                    tasks.create_task(self._append(look=number % READ_EVERY == 0))
                made = wanted
                await asyncio.sleep(TICK_S)
        return _p99(self._visible_ms)

    async def commit_ms(self, _: float) -> float:
        """Return the p99 time from command to commit of the same appends."""
        return _p99(self._commit_ms)

    async def _append(self, *, look: bool) -> None:
        conversation_id, text = self._random.choice(self._conversations), self._random.choice(self._texts)
        asked = perf_counter()
        committed = await self._store.commands.add_message(CALLER, conversation_id, text_message("user", text.question))
        done = perf_counter()
        if look:
            (message,) = committed.events
            assert committed.position and isinstance(message, MessageAdded)
            behind = await self._store.progress.wait(committed.position, WAIT_S)
            row = await self._history.message(conversation_id, message.message_id)
            assert row and not behind, f"not visible after {WAIT_S} s: {behind}"
            self._commit_ms.append((done - asked) * 1000)
            self._visible_ms.append((perf_counter() - done) * 1000)


async def run(plan: Plan) -> list[Measurement]:
    """Return the p99 of the lag, and the median of a request with its wait.

    The request waits for its own write.
    """
    texts = turns()
    async with open_store(plan.conninfo, PROJECTIONS) as store:
        conversations = await start_conversations(store, CONVERSATIONS)
        appends = Appends(store, conversations, texts)
        live = await plan.interleave({"visible": appends.visible_ms, "commit": appends.commit_ms})
    async with open_store(plan.conninfo) as store, serve(*turnlog_serve()) as server:
        groups = server.turns(texts)

        async def request_ms(seconds: float) -> float:
            return (await server.load(groups, seconds, connections=1)).p50_ms

        alone = await plan.interleave(
            {
                "commit": lambda seconds: call_ms(seconds, CALLS, lambda: _record(store, conversations[0])),
                "request": request_ms,
            }
        )
    at_rate = f"p99 from commit to read row, at {EVENTS_A_SECOND:,} events/s"
    request = "p50 of POST messages by one client, own write awaited"
    lag, wait = Target(50, at_least=False, of_ratio=False), Target(6, at_least=False, of_ratio=False)
    commit = "from command to commit"
    return [
        Measurement(NAME, at_rate, "ms", live["visible"], commit, live["commit"], lag),
        Measurement(NAME, request, "ms", alone["request"], f"{commit}, in process", alone["commit"], wait),
    ]


async def _record(store: Store, conversation_id: UUID) -> None:
    await store.commands.add_message(CALLER, conversation_id, text_message("user", "And what of the second one?"))


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]
