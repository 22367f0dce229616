"""The naive view of every table that a projection fills."""

from collections.abc import Callable, Iterable

from domain.events import ConversationEvent
from tests.support.naive_views.agents import naive_agents
from tests.support.naive_views.context import naive_context
from tests.support.naive_views.history import naive_history, naive_stream_text
from tests.support.naive_views.listing import naive_listing
from tests.support.naive_views.rows import Row
from tests.support.naive_views.turns import naive_turns
from tests.support.naive_views.usage import naive_usage, naive_usage_conversations
from tests.support.naive_views.waits import naive_waits

NAIVE: dict[str, Callable[[Iterable[ConversationEvent]], list[Row]]] = {
    "listing": naive_listing,
    "history": naive_history,
    "turns": naive_turns,
    "stream_text": naive_stream_text,
    "context": naive_context,
    "usage": naive_usage,
    "usage_conversations": naive_usage_conversations,
    "agents": naive_agents,
    "waits": naive_waits,
}
