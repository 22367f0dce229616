"""Content blocks: what a message is made of."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from domain.errors import ContentPath, InvalidContentError
from domain.images import check_image
from domain.values import Frozen, JsonObject, Metadata, Sha256, Text

MAX_TEXT_BYTES = 1024 * 1024

Role = Literal["system", "user", "assistant", "tool"]


class TextBlock(Frozen):
    """Something said in words."""

    type: Literal["text"] = "text"
    text: Text = Field(description="The words, in Unicode without NUL. Client or model.")


def _is_none(value: object) -> bool:
    return value is None


class ImageBlock(Frozen):
    """A picture: its bytes, the hash of bytes that are kept beside the log, or where a model can fetch it."""

    type: Literal["image"] = "image"
    media_type: str | None = Field(
        default=None,
        exclude_if=_is_none,
        description="image/png, image/jpeg, image/gif or image/webp; None with `url`.",
    )
    data: str | None = Field(
        default=None, exclude_if=_is_none, description="The bytes in base64; None with `sha256` or `url`. Client."
    )
    url: Text | None = Field(
        default=None, exclude_if=_is_none, description="http(s) address of the picture; None with bytes. Client."
    )
    sha256: Sha256 | None = Field(
        default=None, exclude_if=_is_none, description="The key of the bytes in the table `images`; None else. Server."
    )


class ContextBlock(Frozen):
    """Application state for the model, not shown as speech."""

    type: Literal["context"] = "context"
    data: JsonObject = Field(description="Any JSON object. Client.")


class ReasoningBlock(Frozen):
    """What a model thought before it answered; never part of the answer."""

    type: Literal["reasoning"] = "reasoning"
    text: Text = Field(description="The words. Model.")


class ToolUseBlock(Frozen):
    """A model's call of a tool."""

    type: Literal["tool_use"] = "tool_use"
    id: Text = Field(description="The call's id, unique in its conversation. Model.")
    name: Text = Field(description="The tool's name. Model.")
    input: JsonObject = Field(description="The call's arguments. Model.")
    extra_content: Metadata | None = Field(
        default=None,
        exclude_if=_is_none,
        description="What the provider sent beside the call and wants back, such as a thought signature. Model.",
    )


class ToolResultBlock(Frozen):
    """What a tool answered."""

    type: Literal["tool_result"] = "tool_result"
    tool_use_id: Text = Field(description="The call it answers. Client.")
    content: Text = Field(description="The answer as text, often JSON. Client.")
    is_error: bool = Field(default=False, description="Whether the tool failed. Client.")


ContentBlock = Annotated[
    TextBlock | ImageBlock | ContextBlock | ReasoningBlock | ToolUseBlock | ToolResultBlock,
    Field(discriminator="type"),
]
Content = tuple[ContentBlock, ...]

BLOCK_TYPES = frozenset({"text", "image", "context", "reasoning", "tool_use", "tool_result"})
BLOCKS_OF_ROLE: dict[str, frozenset[str]] = {
    "system": frozenset({"text"}),
    "user": frozenset({"text", "image", "context"}),
    "assistant": frozenset({"text", "reasoning", "tool_use"}),
    "tool": frozenset({"tool_result"}),
}


def check_content(role: Role, content: Sequence[ContentBlock], message: ContentPath = ()) -> None:
    """Check that a message is not empty, holds only blocks that its role may use, and is not too large.

    `message` is the path of the message among several, which the paths of errors begin with.

    Raises:
        InvalidContentError: a rule is broken.
        UnsupportedImageError: an image's bytes are not what they claim.
    """
    if not content:
        raise InvalidContentError("must hold at least one block", (*message, "content"))
    for index, block in enumerate(content):
        path = (*message, "content", index)
        if block.type not in BLOCKS_OF_ROLE[role]:
            raise InvalidContentError(f"a {role} message cannot hold a {block.type} block", (*path, "type"))
        _check_block(block, path)


def _check_block(block: ContentBlock, path: ContentPath) -> None:
    if isinstance(block, TextBlock | ReasoningBlock):
        _check_text(block.text, (*path, "text"))
    elif isinstance(block, ToolResultBlock):
        _check_size(block.content, (*path, "content"))
    elif isinstance(block, ImageBlock):
        check_image(block.media_type, block.data, block.url, block.sha256, path)


def _check_text(text: str, path: ContentPath) -> None:
    if not text:
        raise InvalidContentError("must not be empty", path)
    _check_size(text, path)


def _check_size(text: str, path: ContentPath) -> None:
    # A character is at most four bytes, so short texts need no encoding to be judged.
    if len(text) * 4 > MAX_TEXT_BYTES and len(text.encode()) > MAX_TEXT_BYTES:
        raise InvalidContentError(f"must be at most {MAX_TEXT_BYTES} bytes", path)


def plain_text(content: Sequence[ContentBlock]) -> str:
    """Return the text blocks of `content`, joined by newlines: what a transcript shows."""
    return "\n".join(block.text for block in content if isinstance(block, TextBlock))


def is_blank(text: str) -> bool:
    """Return whether `text` says nothing: it is empty, or only white space."""
    return not text or text.isspace()
