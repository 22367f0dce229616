"""The events of a plan lead to the state and the history that the source shows."""

from datetime import UTC, datetime
from typing import Any

import pytest

from audit.imports.formats.chatgpt_export import chatgpt_conversation
from audit.imports.import_events import import_events
from audit.imports.import_plan import PlannedMessage, import_plan, with_images
from domain.content import ImageBlock, TextBlock
from domain.conversation import Conversation, fold
from domain.decisions.conversations import Draft, Events
from domain.errors import InvalidContentError
from domain.events import ConversationStarted, MessageAdded, MessagesSuperseded
from tests.support.exports.conversations import chatgpt, node
from tests.support.exports.files import Json
from tests.support.histories.builders import ENCODING, OWNER, origin
from tests.support.naive_views.history import naive_history

REGENERATED = chatgpt(
    node("q", None, "user", "Hello", create_time=1700000001.5),
    node("a1", "q", "assistant", "Hi?", metadata={"model_slug": "gpt-4"}),
    node("a2", "q", "assistant", "Hi!", metadata={"model_slug": "gpt-4o"}),
    node("q2", "a2", "user", "Bye"),
)


def recorded(conversation: Json, **changes: Any) -> Events:
    plan = import_plan(chatgpt_conversation(conversation), OWNER)
    drafts = [drafted(step)._replace(**changes) for step in plan.steps if isinstance(step, PlannedMessage)]
    return import_events(plan, origin(), drafts)


def drafted(step: PlannedMessage) -> Draft:
    content = with_images(step.content, lambda _: None)
    sent = Draft(step.id, step.role, content, 1, ENCODING, step.in_reply_to)
    return sent._replace(model=step.model, said_at=step.said_at)


def test_events_are_numbered_and_name_who_imports() -> None:
    events = recorded(REGENERATED)
    assert [type(event) for event in events] == [
        ConversationStarted,
        MessageAdded,
        MessageAdded,
        MessagesSuperseded,
        MessageAdded,
        MessageAdded,
    ]
    assert [event.originator_version for event in events] == [1, 2, 3, 4, 5, 6]
    assert {event.actor for event in events} == {origin().actor}
    assert len({event.originator_id for event in events}) == 1


def test_superseded_messages_are_named_by_their_version() -> None:
    superseded = recorded(REGENERATED)[3]
    assert isinstance(superseded, MessagesSuperseded)
    assert (superseded.from_version, superseded.count) == (3, 1)


def test_the_state_counts_what_is_shown() -> None:
    state = fold(None, recorded(REGENERATED))
    assert isinstance(state, Conversation)
    assert (state.owner_id, state.title, state.message_count) == (OWNER, "The sky", 3)
    assert state.metadata["imported_from"]["id"] == "c1"


def test_the_history_is_the_current_branch_with_its_models() -> None:
    rows = [row for row in naive_history(recorded(REGENERATED)) if row["status"] != "superseded"]
    assert [row["content"][0]["text"] for row in rows] == ["Hello", "Hi!", "Bye"]
    assert [row["model"] for row in rows] == [None, "gpt-4o", None]
    assert [row["said_at"] for row in rows] == [datetime(2023, 11, 14, 22, 13, 21, 500000, UTC), None, None]
    assert {row["created_at"] for row in rows} == {origin().at}
    assert [row["author_id"] for row in rows] == [origin().actor, None, origin().actor]
    assert rows[1]["in_reply_to"] == rows[0]["message_id"]


@pytest.mark.parametrize("content", [(), (ImageBlock(url="ftp://example.org"),), (TextBlock(text=""),)])
def test_a_message_that_breaks_a_rule_is_refused_with_its_place(content: Any) -> None:
    with pytest.raises(InvalidContentError) as refused:
        recorded(chatgpt(node("q", None, "user", "Hello")), content=content)
    assert refused.value.path[:2] == ("messages", 0)
