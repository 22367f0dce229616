"""A plan records all branches, and the current one becomes the history."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.imports.import_plan import ImportPlan, PlannedMessage, import_plan, with_images
from audit.imports.imported_conversation import ImageReference, imported_conversation
from audit.imports.message_tree import SourceNode, imported_messages
from audit.imports.source_parts import SourceCall, SourcePart, SourceResult
from domain.content import ContextBlock, ImageBlock, Role, TextBlock, ToolResultBlock
from domain.tools import UNANSWERED
from tests.support.exports.outlines import shown_block

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
PICTURE = ImageBlock(url="https://example.org/a.png")


def planned(*nodes: SourceNode, current: str | None = None, owner: str = "alice", **changes: Any) -> ImportPlan:
    given_values: dict[str, Any] = {
        "source_format": "chatgpt",
        "source_id": "c1",
        "title": "The sky",
        "created_at": NOON,
        "messages": imported_messages(nodes, current),
        "left_out": {"sound and film": 1},
        **changes,
    }
    return import_plan(imported_conversation(**given_values), owner)


def said(source_id: str, parent: str | None, role: Role = "user", *parts: SourcePart, **changes: Any) -> SourceNode:
    return SourceNode(source_id, parent, role, parts or (TextBlock(text=source_id),), **changes)


def steps(plan: ImportPlan) -> list[str]:
    """Return a line for each step: a message, or the messages that are replaced."""
    shown: dict[UUID, str] = {}
    lines: list[str] = []
    for step in plan.steps:
        if isinstance(step, PlannedMessage):
            shown[step.id] = " | ".join(map(shown_block, step.content))
            lines.append(f"{step.role}: {shown[step.id]}")
        else:
            lines.append(f"replace {step.messages} from {shown[step.first_id]}")
    return lines


def test_a_plan_keeps_what_is_known_of_the_source() -> None:
    plan = planned(said("q", None, said_at=NOON), said("a", "q", "assistant", model="gpt-4o"))
    question, answer = plan.steps
    assert isinstance(question, PlannedMessage)
    assert isinstance(answer, PlannedMessage)
    assert (plan.title, plan.left_out) == ("The sky", {"sound and film": 1})
    assert plan.metadata == {
        "imported_from": {"format": "chatgpt", "id": "c1", "created_at": "2025-03-01T12:00:00+00:00"}
    }
    assert (question.role, question.said_at, question.model, question.in_reply_to) == ("user", NOON, None, None)
    assert (answer.role, answer.said_at, answer.model, answer.in_reply_to) == ("assistant", None, "gpt-4o", question.id)
    assert planned(source_id=None, created_at=None).metadata == {"imported_from": {"format": "chatgpt"}}


def test_ids_are_those_of_the_source_and_the_owner() -> None:
    nodes = [said("q", None), said("a", "q", "assistant")]
    assert planned(*nodes) == planned(*nodes)
    first, other = planned(*nodes), planned(*nodes, owner="bob")
    ids = [
        {plan.conversation_id, *(step.id for step in plan.steps if isinstance(step, PlannedMessage))}
        for plan in (first, other)
    ]
    assert [len(each) for each in ids] == [3, 3]
    assert not ids[0] & ids[1]


def test_an_alternative_replaces_what_came_after_its_parent() -> None:
    plan = planned(
        said("q", None),
        said("a1", "q", "assistant"),
        said("q2", "a1"),
        said("a2", "q", "assistant"),
        said("q3", "a2"),
        current="q3",
    )
    assert steps(plan) == ["user: q", "assistant: a1", "user: q2", "replace 2 from a1", "assistant: a2", "user: q3"]


def test_an_edited_first_question_replaces_everything() -> None:
    assert steps(planned(said("q1", None), said("a1", "q1", "assistant"), said("q2", None), current="q2")) == [
        "user: q1",
        "assistant: a1",
        "replace 2 from q1",
        "user: q2",
    ]


def test_what_the_source_does_not_show_is_replaced_at_the_end() -> None:
    assert steps(planned(said("q", None), said("a", "q", "assistant"), current="q")) == [
        "user: q",
        "assistant: a",
        "replace 1 from a",
    ]


def test_an_answer_is_a_reply_to_the_question_that_is_shown_before_it() -> None:
    plan = planned(
        said("q1", None), said("q2", "q1"), said("a2", "q2", "assistant"), said("a1", "q1", "assistant"), current="a1"
    )
    answers = [step for step in plan.steps if isinstance(step, PlannedMessage) and step.role == "assistant"]
    questions = [step for step in plan.steps if isinstance(step, PlannedMessage) and step.role == "user"]
    assert [answer.in_reply_to for answer in answers] == [questions[1].id, questions[0].id]


def test_calls_without_a_result_are_closed_before_the_user_goes_on() -> None:
    call = SourceCall("one", "search", {})
    plan = planned(
        said("a", None, "assistant", call, SourceCall("two", "search", {})),
        said("r", "a", "tool", SourceResult("two", None, "found")),
        said("q1", "r"),
        said("q2", "r"),
        current="q2",
    )
    assert steps(plan) == [
        "assistant: one=search({}) | two=search({})",
        "tool: two: found",
        f"tool: one failed: {UNANSWERED}",
        "user: q1",
        f"replace 2 from one failed: {UNANSWERED}",
        f"tool: one failed: {UNANSWERED}",
        "user: q2",
    ]
    closing = [step for step in plan.steps if isinstance(step, PlannedMessage) and step.role == "tool"]
    assert isinstance(closing[1].content[0], ToolResultBlock)
    assert len({step.id for step in closing}) == 3


def test_images_are_recorded_where_a_message_may_have_them() -> None:
    reference = ImageReference(reference="file-service://file-7", name="a.png")
    plan = planned(
        said("q", None, "user", PICTURE, reference),
        said("a", "q", "assistant", TextBlock(text="Nice"), PICTURE),
        said("b", "a", "assistant", reference),
        said("c", "b"),
    )
    question, answer, last = plan.steps
    assert isinstance(question, PlannedMessage)
    assert question.content == (PICTURE, reference)
    assert isinstance(answer, PlannedMessage)
    assert answer.content == (TextBlock(text="Nice"),)
    assert isinstance(last, PlannedMessage)
    assert last.role == "user"
    assert plan.left_out == {"sound and film": 1, "images": 2}


def test_a_reference_becomes_the_image_or_a_context_block() -> None:
    there, missing = (ImageReference(reference=f"file-service://file-{number}", name="a.png") for number in (7, 8))
    content = with_images((TextBlock(text="Look"), there, missing), lambda given: PICTURE if given == there else None)
    assert content == (
        TextBlock(text="Look"),
        PICTURE,
        ContextBlock(data={"image": {"reference": "file-service://file-8", "name": "a.png"}}),
    )


def test_a_conversation_of_10000_messages_is_planned() -> None:
    nodes = [said(str(number), str(number - 1) if number else None) for number in range(10_000)]
    assert len(planned(*nodes).steps) == 10_000


@pytest.mark.parametrize("owner", ["alice", ""])
def test_a_conversation_without_messages_has_no_steps(owner: str) -> None:
    assert planned(owner=owner).steps == ()


@given(st.data())
def test_the_history_after_all_steps_is_the_current_branch(data: st.DataObject) -> None:
    number = data.draw(st.integers(1, 20))
    parents = [data.draw(st.sampled_from([None, *range(each)])) for each in range(number)]
    roles: list[Role] = [data.draw(st.sampled_from(["user", "assistant", "system"])) for _ in range(number)]
    empty = data.draw(st.sets(st.integers(0, number - 1)))
    nodes = [
        SourceNode(str(each), None if parent is None else str(parent), roles[each])
        if each in empty
        else said(str(each), None if parent is None else str(parent), roles[each])
        for each, parent in enumerate(parents)
    ]
    current = data.draw(st.integers(0, number - 1))
    messages = imported_messages(nodes, str(current))
    plan = planned(messages=messages)

    history: list[PlannedMessage] = []
    for step in plan.steps:
        if isinstance(step, PlannedMessage):
            history.append(step)
        else:
            place = [message.id for message in history].index(step.first_id)
            assert len(history) - place == step.messages
            del history[place:]
    shown = [shown_block(message.content[0]) for message in history]
    branch = [message.source_id for message in messages if message.is_current]
    assert branch == (shown if branch else [])
