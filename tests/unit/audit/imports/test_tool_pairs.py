"""Every result of a tool names a call before it, whatever the source knows of ids."""

import pytest

from audit.imports.message_tree import SourceNode, imported_messages
from audit.imports.source_parts import SourceCall, SourcePart, SourceResult
from domain.content import Role, TextBlock
from tests.support.exports.outlines import outline


def call(name: str, call_id: str | None = None) -> SourceCall:
    return SourceCall(call_id, name, {"x": 1})


def result(text: str, name: str | None = None, call_id: str | None = None) -> SourceResult:
    return SourceResult(call_id, name, text)


def said(*messages: tuple[Role, tuple[SourcePart, ...]]) -> list[str]:
    """Return the outline of messages that follow each other, named a, b, c."""
    ids = "abcdefgh"
    nodes = [
        SourceNode(ids[place], ids[place - 1] if place else None, role, parts)
        for place, (role, parts) in enumerate(messages)
    ]
    return outline(imported_messages(nodes, None))


def test_results_inside_an_answer_become_messages_of_the_tool() -> None:
    answer = (TextBlock(text="I look."), call("search"), result("found", "search"), TextBlock(text="There it is."))
    assert said(("assistant", answer)) == [
        'a < None assistant: I look. | a:2=search({"x": 1}) *',
        "a#2 < a tool: a:2: found *",
        "a#3 < a#2 assistant: There it is. *",
    ]


def test_ids_pair_calls_and_results_in_any_order() -> None:
    calls = (call("search", "one"), call("search", "two"))
    results = (result("second", None, "two"), result("first", None, "one"))
    assert said(("assistant", calls), ("tool", results)) == [
        'a < None assistant: one=search({"x": 1}) | two=search({"x": 1}) *',
        "b < a tool: two: second | one: first *",
    ]


def test_without_ids_the_results_of_one_message_are_in_the_order_of_its_calls() -> None:
    calls = (call("search"), call("fetch"), call("search"))
    results = (result("fetched", "fetch"), result("first", "search"), result("second", "search"))
    assert said(("assistant", calls), ("tool", results))[1] == ("b < a tool: a:2: fetched | a:1: first | a:3: second *")


def test_a_result_belongs_to_the_newest_call_and_not_to_one_that_was_given_up() -> None:
    assert (
        said(
            ("assistant", (call("search"),)),
            ("assistant", (call("search"),)),
            ("tool", (result("found", "search"),)),
        )[2]
        == "c < b tool: b:1: found *"
    )


@pytest.mark.parametrize("name", [None, "another name"])
def test_a_result_of_an_unknown_tool_belongs_to_the_newest_call(name: str | None) -> None:
    assert said(("assistant", (call("search"),)), ("tool", (result("found", name),)))[1] == "b < a tool: a:1: found *"


@pytest.mark.parametrize(
    ("lonely", "shown"),
    [
        (result("found", "files"), ["b < a assistant: b:1=files({}) *", "b#2 < b tool: b:1: found *"]),
        (result("found"), ["b < a assistant: b:1=tool({}) *", "b#2 < b tool: b:1: found *"]),
        (result("found", None, "lost"), ["b < a assistant: lost=tool({}) *", "b#2 < b tool: lost: found *"]),
    ],
)
def test_a_result_without_a_call_gets_one(lonely: SourceResult, shown: list[str]) -> None:
    assert said(("assistant", (TextBlock(text="Hello"),)), ("tool", (lonely,)))[1:] == shown


def test_a_call_has_one_result() -> None:
    assert said(("assistant", (call("search"),)), ("tool", (result("1"), result("2")))) == [
        'a < None assistant: a:1=search({"x": 1}) *',
        "b < a tool: a:1: 1 *",
        "b#2 < b assistant: b:2=tool({}) *",
        "b#3 < b#2 tool: b:2: 2 *",
    ]


def test_a_users_message_ends_the_wait_for_results() -> None:
    outlined = said(
        ("assistant", (call("search"),)),
        ("user", (TextBlock(text="Never mind"),)),
        ("tool", (result("found", "search"),)),
    )
    assert outlined[2:] == ["c < b assistant: c:1=search({}) *", "c#2 < c tool: c:1: found *"]


def test_alternatives_do_not_share_calls() -> None:
    nodes = [
        SourceNode("q", None, "user", (TextBlock(text="Q"),)),
        SourceNode("a", "q", "assistant", (call("search", "one"),)),
        SourceNode("b", "q", "assistant", (call("search", "two"),)),
        SourceNode("r", "a", "tool", (result("found"),)),
        SourceNode("s", "b", "tool", (result("found"),)),
    ]
    lines = outline(imported_messages(nodes, "s"))
    assert [line for line in lines if "tool" in line] == ["r < a tool: one: found", "s < b tool: two: found *"]


def test_a_failed_call_stays_failed() -> None:
    failed = SourceResult(None, None, "no such file", is_error=True)
    assert said(("assistant", (call("read"),)), ("tool", (failed,)))[1] == "b < a tool: a:1 failed: no such file *"
