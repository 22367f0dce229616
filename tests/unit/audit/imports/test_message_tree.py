"""The messages of a tree come in an order in which they could have been said."""

from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.imports.errors import ImportFormatError
from audit.imports.message_tree import SourceNode, imported_messages
from domain.content import ReasoningBlock, Role, TextBlock
from tests.support.exports.outlines import outline


def said(
    source_id: str, parent: str | None, role: Role = "user", minute: int | None = None, *children: str
) -> SourceNode:
    at = None if minute is None else datetime(2025, 3, 1, 10, minute, tzinfo=UTC)
    return SourceNode(source_id, parent, role, (TextBlock(text=source_id.upper()),), None, at, children)


def test_messages_follow_their_parents_whatever_their_order_in_the_file() -> None:
    nodes = [said("c", "b"), said("a", None), said("b", "a")]
    assert outline(imported_messages(nodes, "c")) == [
        "a < None user: A *",
        "b < a user: B *",
        "c < b user: C *",
    ]


def test_alternatives_come_in_the_order_of_their_parent_and_the_current_branch_last() -> None:
    nodes = [
        said("q", None, "user", None, "a3", "a1", "a2"),
        said("a1", "q", "assistant"),
        said("a2", "q", "assistant"),
        said("a3", "q", "assistant"),
        said("a4", "q", "assistant"),
        said("next", "a3"),
    ]
    assert outline(imported_messages(nodes, "a1")) == [
        "q < None user: Q *",
        "a3 < q assistant: A3",
        "next < a3 user: NEXT",
        "a2 < q assistant: A2",
        "a4 < q assistant: A4",
        "a1 < q assistant: A1 *",
    ]


def test_first_messages_may_be_alternatives_too() -> None:
    nodes = [said("new", None), said("old", None), said("answer", "new", "assistant")]
    assert outline(imported_messages(nodes, "answer")) == [
        "old < None user: OLD",
        "new < None user: NEW *",
        "answer < new assistant: ANSWER *",
    ]


def test_a_message_without_parts_is_left_out_and_those_after_it_move_up() -> None:
    nodes = [SourceNode("root", None), said("a", "root"), SourceNode("hidden", "a", "system"), said("b", "hidden")]
    assert outline(imported_messages(nodes, "b")) == ["a < None user: A *", "b < a user: B *"]


@pytest.mark.parametrize(("first", "second", "current"), [(1, 2, "b"), (2, 1, "a"), (None, None, "b"), (1, None, "a")])
def test_without_a_current_message_the_newest_leaf_is_current(
    first: int | None, second: int | None, current: str
) -> None:
    nodes = [said("q", None, "user", 5), said("a", "q", "user", first), said("b", "q", "user", second)]
    assert [message.source_id for message in imported_messages(nodes, None) if message.is_current] == ["q", current]


def test_a_current_message_may_have_messages_after_it() -> None:
    assert outline(imported_messages([said("a", None), said("b", "a")], "a")) == ["a < None user: A *", "b < a user: B"]


def test_a_message_of_several_roles_becomes_several_messages() -> None:
    parts = (TextBlock(text="Look:"), ReasoningBlock(text="Hm"))
    nodes = [SourceNode("a", None, "user", parts), said("a#2", "a"), said("b", "a")]
    assert outline(imported_messages(nodes, "b")) == [
        "a < None user: Look: *",
        "a#3 < a assistant: (Hm) *",
        "a#2 < a#3 user: A#2",
        "b < a#3 user: B *",
    ]


def test_only_answers_have_a_model() -> None:
    nodes = [
        SourceNode("q", None, "user", (TextBlock(text="Q"),), "m"),
        SourceNode("a", "q", "assistant", (TextBlock(text="A"),), "m"),
    ]
    assert [message.model for message in imported_messages(nodes, None)] == [None, "m"]


def test_a_conversation_without_messages_is_empty() -> None:
    assert imported_messages([], None) == ()


def test_a_conversation_of_10000_messages_is_read() -> None:
    nodes = [said(str(number), str(number - 1) if number else None) for number in range(10_000)]
    Random(1).shuffle(nodes)
    assert [message.source_id for message in imported_messages(nodes, None)] == [
        str(number) for number in range(10_000)
    ]


@pytest.mark.parametrize(
    ("nodes", "current", "fault"),
    [
        ([said("a", None), said("a", None)], None, "message 'a' is there twice"),
        ([said("a", "z")], None, "the parent 'z' of message 'a' is missing"),
        ([said("a", None)], "z", "the current message 'z' is missing"),
        ([said("a", "a")], None, "the parents of message 'a' form a circle"),
        ([said("r", None), said("a", "b"), said("b", "a")], "b", "the parents of message 'a' form a circle"),
        (
            [said("a", "c"), said("b", "a"), said("c", "b"), said("d", "a")],
            "d",
            "the parents of message 'a' form a circle",
        ),
        ([said("a\n" + "x" * 100, "z")], None, "the parent 'z' of message 'a\\\\n" + "x" * 62 + "…' is missing"),
    ],
)
def test_what_is_no_tree_is_refused(nodes: list[SourceNode], current: str | None, fault: str) -> None:
    with pytest.raises(ImportFormatError, match=f"^{fault}$"):
        imported_messages(nodes, current)


@given(st.data())
def test_any_tree_is_put_in_order(data: st.DataObject) -> None:
    number = data.draw(st.integers(1, 20))
    parents = [data.draw(st.sampled_from([None, *range(each)])) for each in range(number)]
    left_out = data.draw(st.sets(st.integers(0, number - 1)))
    nodes = [
        SourceNode(str(each), None if parent is None else str(parent), "user", ())
        if each in left_out
        else said(str(each), None if parent is None else str(parent))
        for each, parent in enumerate(parents)
    ]
    current = data.draw(st.integers(0, number - 1))
    messages = imported_messages(data.draw(st.permutations(nodes)), str(current))

    assert sorted(int(message.source_id) for message in messages) == sorted(set(range(number)) - left_out)
    branch: set[str] = set()
    last: int | None = current
    while last is not None:
        branch.add(str(last))
        last = parents[last]
    assert {message.source_id for message in messages if message.is_current} == branch - {
        str(each) for each in left_out
    }
    # In a log a message goes on from the last one, or from an earlier one, after which all are replaced.
    shown_so_far: list[str] = []
    for message in messages:
        assert message.parent is None or message.parent in shown_so_far
        del shown_so_far[shown_so_far.index(message.parent) + 1 if message.parent else 0 :]
        shown_so_far.append(message.source_id)
    assert [source_id for source_id in shown_so_far if source_id in branch] == [
        message.source_id for message in messages if message.is_current
    ]
