"""Stories as far as a test wants them told, and what to hold its decisions against."""

from typing import Any

from domain.content import ToolResultBlock
from domain.decisions.conversations import Draft, Events
from tests.support.histories.builders import Story, draft


def idle() -> Story:
    return Story(title="Old")


def locked() -> Story:
    """Return a conversation whose turn runs."""
    story = idle()
    story.ask()
    return story


def waiting(*tools: str, **said: Any) -> Story:
    """Return a conversation whose turn waits for the results of calls, `call_a_0` and so on."""
    story = locked()
    story.call_tools(*(tools or ("a", "b")), **said)
    return story


def deleted() -> Story:
    story = idle()
    story.delete()
    return story


def results(*calls: str) -> Draft:
    """Return a message that answers calls."""
    return draft(role="tool", content=tuple(ToolResultBlock(tool_use_id=call, content="42") for call in calls))


def versions(events: Events) -> list[int]:
    return [event.originator_version for event in events]


def types(events: Events) -> list[type]:
    return [type(event) for event in events]
