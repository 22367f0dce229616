"""Long texts are cut, images are told by their bytes, arguments are objects."""

from base64 import b64encode
from typing import Any

import pytest

from audit.imports.imported_conversation import ImageReference
from audit.imports.source_parts import arguments, image, reasoning, result_text, texts
from domain.content import MAX_TEXT_BYTES, ImageBlock, check_content, plain_text

PNG = b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").decode()


@pytest.mark.parametrize(
    "text",
    [
        "a line\n" * 400_000,
        "\n" * 10 + "é" * 1_500_000,
        "😀" * 300_000 + "\nthe end",
        "x" * MAX_TEXT_BYTES,
        "x" * (MAX_TEXT_BYTES - 1) + "\nx",
    ],
    ids=["lines", "accents", "emoji", "the longest block", "a line more"],
)
def test_a_long_text_becomes_blocks_that_a_message_may_have(text: str) -> None:
    blocks = list(texts(text))
    check_content("user", blocks)
    assert plain_text(blocks).replace("\n", "") == text.replace("\n", "")


def test_a_long_text_is_cut_between_lines() -> None:
    text = "a line\n" * 400_000 + "the end"
    assert plain_text(list(texts(text))) == text


@pytest.mark.parametrize("blank", [None, "", " \n"])
def test_a_blank_text_is_no_block(blank: str | None) -> None:
    assert [*texts(blank), *reasoning(blank)] == []


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_a_long_result_is_cut_and_says_so(character: str) -> None:
    cut = result_text(character * MAX_TEXT_BYTES * 2)
    assert MAX_TEXT_BYTES - 4 <= len(cut.encode()) <= MAX_TEXT_BYTES
    assert cut.strip(character) == "\n[The rest was left out at the import.]"


@pytest.mark.parametrize("text", ["", "short", "x" * MAX_TEXT_BYTES, "é" * (MAX_TEXT_BYTES // 2)])
def test_a_result_that_is_short_enough_is_kept(text: str) -> None:
    assert result_text(text) == text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.org/a.png", ImageBlock(url="https://example.org/a.png")),
        (f"data:image/png;base64,{PNG}", ImageBlock(media_type="image/png", data=PNG)),
        (f"data:image/jpg;base64,{PNG}", ImageBlock(media_type="image/png", data=PNG)),
        (f"DATA:;base64,{PNG}", ImageBlock(media_type="image/png", data=PNG)),
        ("data:image/png;base64,%%%", None),
        ("data:image/png;base64,AAAA", None),
        ("data:image/svg+xml,<svg/>", None),
        ("/api/v1/files/7/content", ImageReference(reference="/api/v1/files/7/content", name="a.png")),
        ("file-service://file-7", ImageReference(reference="file-service://file-7", name="a.png")),
    ],
)
def test_an_image_is_told_by_its_address_and_its_bytes(url: str, expected: object) -> None:
    found = image(url, "a.png")
    assert found == expected
    if isinstance(found, ImageBlock):
        check_content("user", [found])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"city": "Oslo"}, {"city": "Oslo"}),
        ('{"city": "Oslo"}', {"city": "Oslo"}),
        ("", {}),
        (None, {}),
        ("{}", {}),
        ("null", {}),
        ("print(1)", {"input": "print(1)"}),
        ('{"city": ', {"input": '{"city": '}),
        ('{"n": NaN}', {"input": '{"n": NaN}'}),
        ('{"n": 123456789012345678901234567890}', {"n": 123456789012345678901234567890}),
        (f'{{"n": {"1" * 5_000}}}', {"input": f'{{"n": {"1" * 5_000}}}'}),
        ('{"half": "\\ud800"}', {"input": '{"half": "\\ud800"}'}),
        ("[1, 2]", {"input": "[1, 2]"}),
        ("0", {"input": "0"}),
        ([1, 2], {"input": [1, 2]}),
        ("[" * 10_000, {"input": "[" * 10_000}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_arguments_are_an_object_or_its_only_member(given: Any, expected: dict[str, Any]) -> None:
    assert arguments(given) == expected
