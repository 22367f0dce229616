"""Texts are taken apart where Open WebUI rendered `<details>`, and only there."""

from itertools import pairwise

import pytest

from audit.imports.formats.rendered_details import parts_of_rendered
from audit.imports.source_parts import SourceCall, SourcePart, SourceResult
from domain.content import ReasoningBlock, TextBlock


def parts(text: str) -> list[SourcePart]:
    return list(parts_of_rendered(text))


def test_escaped_reasoning_of_newer_releases_is_read() -> None:
    text = (
        '<details type="reasoning" done="true" duration="1">\n<summary>Thought for 1 second</summary>\n'
        "&gt; Is a &lt; b?\n&gt; \n&gt; &gt; quoted\n</details>\nYes."
    )
    assert parts(text) == [ReasoningBlock(text="Is a < b?\n\n> quoted"), TextBlock(text="Yes.")]


def test_reasoning_of_older_releases_is_not_escaped() -> None:
    text = '<details type="reasoning" done="true" duration="1">\n<summary>x</summary>\n> Is &lt; a tag?\n</details>'
    assert parts(text) == [ReasoningBlock(text="Is &lt; a tag?")]


def test_a_result_may_be_in_the_body() -> None:
    text = (
        '<details type="tool_calls" done="true" id="7" name="f" arguments="{&quot;a&quot;: 1}">\n'
        "<summary>Tool Executed</summary>\n{&quot;b&quot;: 2}\n</details>"
    )
    assert parts(text) == [SourceCall("7", "f", {"a": 1}), SourceResult("7", "f", '{"b": 2}')]


def test_attributes_may_be_in_single_quotes() -> None:
    text = (
        """<details type="tool_calls" done="true" id="7" name="f" """
        """arguments='"{\\"a\\": \\"1 > 0\\"}"' result='"it&apos;s"'>\n"""
        "<summary>Tool Executed</summary>\n</details>"
    )
    assert parts(text) == [SourceCall("7", "f", {"a": "1 > 0"}), SourceResult("7", "f", "it's")]


def test_a_call_that_was_not_done_has_no_result() -> None:
    text = '<details type="tool_calls" done="false" id="7" name="f" arguments="">\n<summary>…</summary>\n</details>'
    assert parts(text) == [SourceCall("7", "f", {})]


@pytest.mark.parametrize(
    "text",
    [
        "\n no tags\n",
        "<details><summary>mine</summary>text</details>",
        '<details type="code_interpreter" done="true">x</details>',
        '<details type="reasoning" done="true">never closed',
        '<details type="reasoning" done=true>x</details>',
        'a <details type="reasoning"',
    ],
)
def test_other_texts_are_left_alone(text: str) -> None:
    assert parts(text) == [TextBlock(text=text)]


def test_a_details_inside_another_is_part_of_it() -> None:
    inner = '<details type="tool_calls" id="7" name="f">'
    text = f'<details type="reasoning" done="true">\n> I write {inner}\n</details>\nDone.'
    assert parts(text) == [ReasoningBlock(text=f"I write {inner}"), TextBlock(text="Done.")]


def test_a_text_full_of_openings_is_read_in_one_go() -> None:
    hostile = '<details type="reasoning" done="' * 20_000
    assert parts(hostile) == [TextBlock(text=hostile)]
    spaces = '<details type="reasoning">' + " " * 200_000 + "</details>"
    assert parts(spaces) == []
    several = '<details type="reasoning">x</details>' * 1000
    assert all(one == other for one, other in pairwise(parts(several)))
    assert len(parts(several)) == 1000
