"""A command on a long conversation, against the same on a short one.

Both are measured with and without the state in memory.
"""

from collections.abc import Iterator
from uuid import UUID

from benchmarks.measure import Measurement, Plan, Round, Target
from benchmarks.workload.callers import call_ms
from benchmarks.workload.store import CALLER, Store, dialogue, open_store, settle, start_conversations, text_message
from benchmarks.workload.texts import turns
from commands.commands import Commands

NAME = "commands"
LONG, SHORT = 10_000, 10
CALLS = 200


async def run(plan: Plan) -> list[Measurement]:
    """Return the times of adding a message to 10,000 messages and to 10.

    A cold command is the first on its conversation: the process has no state of it, while connections and code are
    warm. The long conversation grows by one message per call, so the calls cover every distance from its last
    snapshot. A short conversation is used once.
    """
    messages = dialogue(turns(), LONG)
    async with open_store(plan.conninfo) as store:
        (long,) = await start_conversations(store, 1, messages)
        short = iter(await start_conversations(store, 2 * CALLS * (plan.rounds + 1), messages[:SHORT]))
        await settle(store)
        warm = await plan.interleave({"long": _warm(store, long), "short": _warm_once(store, short)})
        cold = await plan.interleave({"long": _cold(store, long), "short": _cold_once(store, short)})
    baseline, target = f"the same on {SHORT} messages", Target(2, at_least=False)
    return [
        Measurement(NAME, f"warm command on {LONG:,} messages", "ms", warm["long"], baseline, warm["short"], target),
        Measurement(NAME, f"cold command on {LONG:,} messages", "ms", cold["long"], baseline, cold["short"], target),
    ]


def _warm(store: Store, conversation_id: UUID) -> Round:
    return lambda seconds: call_ms(seconds, CALLS, lambda: _add(store.commands, conversation_id))


def _warm_once(store: Store, conversation_ids: Iterator[UUID]) -> Round:
    return lambda seconds: call_ms(seconds, CALLS, lambda: _add(store.commands, next(conversation_ids)))


def _cold(store: Store, conversation_id: UUID) -> Round:
    return lambda seconds: call_ms(seconds, CALLS, lambda: _add(store.fresh_commands(), conversation_id))


def _cold_once(store: Store, conversation_ids: Iterator[UUID]) -> Round:
    return lambda seconds: call_ms(seconds, CALLS, lambda: _add(store.fresh_commands(), next(conversation_ids)))


async def _add(commands: Commands, conversation_id: UUID) -> None:
    await commands.add_message(CALLER, conversation_id, text_message("user", "And what of the second one?"))
