"""A turn of two durable messages through the commands, against the floor."""

from random import Random
from uuid import UUID

from benchmarks.baselines.floor import CONVERSATIONS, open_floor
from benchmarks.measure import CALLERS, Measurement, Plan
from benchmarks.workload.callers import Work, rate
from benchmarks.workload.store import CALLER, Store, open_store, start_conversations, text_message
from benchmarks.workload.texts import Turn, turns

NAME = "turns_in_process"


async def run(plan: Plan) -> list[Measurement]:
    """Return turns per second of the commands and of the floor.

    The commands decide, count tokens and serialise.
    """
    texts = turns()
    async with open_store(plan.conninfo) as store, open_floor(store.database, texts) as floor:
        conversations = await start_conversations(store, CONVERSATIONS)
        callers = [_caller(store, conversations, texts)] * CALLERS
        figures = await plan.interleave(
            {"floor": floor.batched, "turns": lambda seconds: rate(seconds, callers), "bare": floor.bare}
        )
    floor_rounds, floor_name = figures["floor"], "one batched writer of the same rows"
    return [
        Measurement(NAME, "turns of two messages", "turns/s", figures["turns"], floor_name, floor_rounds),
        Measurement(
            NAME, "bare INSERT per message, 32 connections", "turns/s", figures["bare"], floor_name, floor_rounds
        ),
    ]


def _caller(store: Store, conversations: list[UUID], texts: list[Turn]) -> Work:
    random = Random(1)

    async def turn() -> None:
        conversation_id, text = random.choice(conversations), random.choice(texts)
        await store.commands.add_message(CALLER, conversation_id, text_message("user", text.question))
        await store.commands.add_message(CALLER, conversation_id, text_message("assistant", text.answer))

    return turn
