"""The context of a long conversation, against the same window of a short one."""

from uuid import UUID

from benchmarks.measure import Measurement, Plan, Round, Target
from benchmarks.workload.callers import call_ms
from benchmarks.workload.store import dialogue, open_store, settle, start_conversations, text_message
from benchmarks.workload.texts import turns
from projections.catalog import PROJECTIONS
from projections.models.context import Context
from turns.model.sent_context import sent_context

NAME = "context"
LONG, SHORT = 10_000, 100
BUDGETS = (2_000, 8_000)
CALLS = 500


async def run(plan: Plan) -> list[Measurement]:
    """Return the times of one window of 10,000 messages and of 100.

    Both conversations end with the same messages.
    """
    messages = dialogue(turns(), LONG)
    system = text_message("system", "You are a careful assistant that answers in full sentences.")
    async with open_store(plan.conninfo, PROJECTIONS) as store:
        (long,) = await start_conversations(store, 1, [system, *messages])
        (short,) = await start_conversations(store, 1, [system, *messages[-SHORT:]])
        await settle(store)
        context = Context(store.database, store.log)
        return [await _measured(plan, context, long, short, tokens) for tokens in BUDGETS]


async def _measured(plan: Plan, context: Context, long: UUID, short: UUID, tokens: int) -> Measurement:
    window, same = await sent_context(context, long, tokens), await sent_context(context, short, tokens)
    assert window.messages == same.messages, "the two windows differ"
    figures = await plan.interleave(
        {"long": _reading(context, long, tokens), "short": _reading(context, short, tokens)}
    )
    measure = f"window of {tokens:,} tokens ({len(window.messages)} messages) from {LONG:,} messages"
    baseline = f"the same window from {SHORT} messages"
    return Measurement(NAME, measure, "ms", figures["long"], baseline, figures["short"], Target(2, at_least=False))


def _reading(context: Context, conversation_id: UUID, tokens: int) -> Round:
    return lambda seconds: call_ms(seconds, CALLS, lambda: sent_context(context, conversation_id, tokens))
