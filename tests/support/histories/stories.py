"""Conversations in common states, and drafts of tool results."""

from typing import Any

from domain.content import ToolResultBlock
from domain.decisions.conversations import Draft, Events
from tests.support.histories.builders import Story, draft


def idle() -> Story:
    return Story(title="Old")


def locked() -> Story:
    """Return a conversation with a running turn."""
    story = idle()
    story.ask()
    return story


def waiting(*tools: str, **changes: Any) -> Story:
    """Return a conversation whose turn waits for the results of tool calls.

    The calls' ids are `call_a_0` and so on.
    """
    story = locked()
    story.call_tools(*(tools or ("a", "b")), **changes)
    return story


def deleted() -> Story:
    story = idle()
    story.delete()
    return story


def results(*calls: str) -> Draft:
    """Return a draft with the results of tool calls."""
    return draft(role="tool", content=tuple(ToolResultBlock(tool_use_id=call, content="42") for call in calls))


def versions(events: Events) -> list[int]:
    return [event.originator_version for event in events]


def types(events: Events) -> list[type]:
    return [type(event) for event in events]
