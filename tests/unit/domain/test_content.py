"""The blocks that a message may have, and the media types of images."""

from base64 import b64decode, b64encode

import pytest
from pydantic import TypeAdapter, ValidationError

from domain.content import (
    BLOCKS_OF_ROLE,
    MAX_TEXT_BYTES,
    Content,
    ContentBlock,
    ContextBlock,
    ImageBlock,
    ReasoningBlock,
    Role,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    check_content,
    plain_text,
)
from domain.errors import InvalidContentError, UnsupportedImageError
from domain.images import MAX_URL_CHARACTERS, check_image, sniff_media_type

IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "image/jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "image/gif": b"GIF89a\x01\0\x01\0",
    "image/webp": b"RIFF\x1a\0\0\0WEBPVP8L",
}
BLOCKS: list[ContentBlock] = [
    TextBlock(text="Hello"),
    ImageBlock(url="https://example.org/cat.png"),
    ContextBlock(data={"page": 3}),
    ReasoningBlock(text="Hm"),
    ToolUseBlock(id="call_1", name="search", input={"q": "cats"}),
    ToolResultBlock(tool_use_id="call_1", content="[]"),
]
ROLES: list[Role] = ["system", "user", "assistant", "tool"]


def image(media_type: str, data: bytes) -> ImageBlock:
    return ImageBlock(media_type=media_type, data=b64encode(data).decode())


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("block", BLOCKS, ids=[block.type for block in BLOCKS])
def test_a_role_may_use_only_its_own_blocks(role: Role, block: ContentBlock) -> None:
    if block.type in BLOCKS_OF_ROLE[role]:
        check_content(role, [block])
    else:
        with pytest.raises(InvalidContentError) as refusal:
            check_content(role, [block])
        assert refusal.value.path == ("content", 0, "type")


def test_a_message_without_blocks_is_refused() -> None:
    with pytest.raises(InvalidContentError):
        check_content("user", [])


@pytest.mark.parametrize(("role", "block"), [("user", TextBlock(text="")), ("assistant", ReasoningBlock(text=""))])
def test_an_empty_text_is_refused_with_its_path(role: Role, block: ContentBlock) -> None:
    with pytest.raises(InvalidContentError) as refusal:
        check_content(role, [*([TextBlock(text="x")] if role == "user" else []), block])
    assert refusal.value.path[-1] == "text"


def test_a_tool_result_may_be_empty() -> None:
    check_content("tool", [ToolResultBlock(tool_use_id="1", content="")])


@pytest.mark.parametrize("letter", ["a", "ä", "€", "𝄞"])
def test_a_text_of_exactly_a_mebibyte_is_accepted_and_one_byte_more_is_not(letter: str) -> None:
    whole = letter * (MAX_TEXT_BYTES // len(letter.encode()))
    padded = whole + "a" * (MAX_TEXT_BYTES - len(whole.encode()))
    check_content("user", [TextBlock(text=padded)])
    with pytest.raises(InvalidContentError):
        check_content("user", [TextBlock(text=padded + "a")])
    with pytest.raises(InvalidContentError):
        check_content("tool", [ToolResultBlock(tool_use_id="1", content=padded + "a")])


@pytest.mark.parametrize(("media_type", "data"), IMAGES.items())
def test_an_image_whose_bytes_match_its_media_type_is_accepted(media_type: str, data: bytes) -> None:
    assert sniff_media_type(data) == media_type
    check_content("user", [image(media_type, data)])


@pytest.mark.parametrize("claimed", IMAGES)
@pytest.mark.parametrize("actual", [*IMAGES, "text"])
def test_an_image_whose_bytes_do_not_match_its_media_type_is_refused(claimed: str, actual: str) -> None:
    if claimed != actual:
        with pytest.raises(UnsupportedImageError):
            check_content("user", [image(claimed, IMAGES.get(actual, b"<svg/>"))])


@pytest.mark.parametrize("data", [b"", b"\x89PNG", b"RIFF\0\0\0\0WAVE", b"GIF88a"])
def test_other_bytes_have_no_media_type(data: bytes) -> None:
    assert sniff_media_type(data) is None


def test_a_gif_of_the_older_version_is_a_gif() -> None:
    assert sniff_media_type(b"GIF87a") == "image/gif"


@pytest.mark.parametrize("media_type", ["image/svg+xml", "IMAGE/PNG", "", "x" * 100_000])
def test_a_media_type_that_is_not_supported_is_refused_with_a_short_message(media_type: str) -> None:
    with pytest.raises(UnsupportedImageError) as refusal:
        check_content("user", [image(media_type, IMAGES["image/png"])])
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("data", ["not base64!", "AAA", "QUJD\nREVG", "ä", "QUI=QUJD"])
def test_data_that_is_not_base64_is_refused(data: str) -> None:
    with pytest.raises(UnsupportedImageError):
        check_content("user", [ImageBlock(media_type="image/png", data=data)])


@pytest.mark.parametrize(("ending", "other"), [(b"12", "J="), (b"1", "R==")])
def test_base64_that_is_not_canonical_is_refused(ending: bytes, other: str) -> None:
    data = b64encode(IMAGES["image/gif"].ljust(12) + ending).decode()
    check_content("user", [ImageBlock(media_type="image/gif", data=data)])
    changed = data[: -len(other)] + other
    assert b64decode(changed) == b64decode(data)
    with pytest.raises(UnsupportedImageError):
        check_content("user", [ImageBlock(media_type="image/gif", data=changed)])


def test_checking_an_image_returns_the_bytes_that_it_carries() -> None:
    assert check_image("image/png", PNG, None, None, ()) == IMAGES["image/png"]
    assert check_image("image/png", None, None, HASH, ()) is None
    assert check_image(None, None, "https://example.org/a.png", None, ()) is None


@pytest.mark.parametrize("media_type", IMAGES)
def test_a_stored_image_is_referred_to_by_its_hash(media_type: str) -> None:
    check_content("user", [ImageBlock(media_type=media_type, sha256=HASH)])


def test_a_stored_image_needs_a_supported_media_type_too() -> None:
    with pytest.raises(UnsupportedImageError):
        check_content("user", [ImageBlock(media_type="image/svg+xml", sha256=HASH)])


@pytest.mark.parametrize("hash_", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, f"{'0' * 64}\n"])
def test_a_hash_is_64_hexadecimal_digits(hash_: str) -> None:
    with pytest.raises(ValidationError):
        ImageBlock(media_type="image/png", sha256=hash_)


PNG = b64encode(IMAGES["image/png"]).decode()
HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "block",
    [
        ImageBlock(),
        ImageBlock(media_type="image/png"),
        ImageBlock(data=PNG),
        ImageBlock(media_type="image/png", data=PNG, url="https://example.org/a.png"),
        ImageBlock(media_type="image/png", url="https://example.org/a.png"),
        ImageBlock(sha256=HASH),
        ImageBlock(sha256=HASH, media_type="image/png", data=PNG),
        ImageBlock(sha256=HASH, url="https://example.org/a.png"),
        ImageBlock(sha256=HASH, media_type="image/png", url="https://example.org/a.png"),
        ImageBlock(url="ftp://example.org/a.png"),
        ImageBlock(url="javascript:alert(1)"),
        ImageBlock(url="https://" + "a" * MAX_URL_CHARACTERS),
    ],
)
def test_an_image_has_either_data_or_a_hash_or_a_web_address(block: ImageBlock) -> None:
    with pytest.raises(InvalidContentError):
        check_content("user", [block])


@pytest.mark.parametrize(
    "block",
    [
        {"type": "video", "url": "https://example.org"},
        {"text": "no type"},
        {"type": "text", "text": "x", "extra": 1},
        {"type": "text", "text": "a\0b"},
        {"type": "text", "text": 5},
        {"type": "tool_use", "id": "1", "name": "f", "input": [1]},
        {"type": "tool_use", "id": "1", "name": "f", "input": {}, "extra_content": "c2ln"},
        {"type": "tool_use", "id": "1", "name": "f", "input": {}, "extra_content": {"a": "\0"}},
        {"type": "tool_use", "id": "1", "name": "f", "input": {}, "extra_content": {"a": "\ud800"}},
        {"type": "tool_use", "id": "1", "name": "f", "input": {}, "extra_content": {"a": "x" * 64 * 1024}},
        {"type": "context", "data": {"a": float("nan")}},
        {"type": "tool_result", "tool_use_id": "1", "content": "\0"},
    ],
)
def test_a_block_of_an_unknown_shape_is_refused(block: object) -> None:
    adapter: TypeAdapter[Content] = TypeAdapter(Content)
    with pytest.raises(ValidationError):
        adapter.validate_python([block])


def test_the_plain_text_of_a_message_is_that_of_its_text_blocks() -> None:
    assert (
        plain_text([ReasoningBlock(text="Hm"), TextBlock(text="One"), BLOCKS[4], TextBlock(text="Two")]) == "One\nTwo"
    )
