"""Content blocks, the parts of a message, and their rules."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from domain.errors import ContentPath, InvalidContentError
from domain.images import check_image
from domain.values import Frozen, JsonObject, Metadata, Sha256, Text

MAX_TEXT_BYTES = 1024 * 1024

Role = Literal["system", "user", "assistant", "tool"]


class TextBlock(Frozen):
    """A text."""

    type: Literal["text"] = "text"
    text: Text = Field(description="The text, in Unicode without NUL. Client or model.")


def _is_none(value: object) -> bool:
    return value is None


class ImageBlock(Frozen):
    """An image: its bytes, the hash of stored bytes, or a URL that a model can fetch."""

    type: Literal["image"] = "image"
    media_type: str | None = Field(
        default=None,
        exclude_if=_is_none,
        description="image/png, image/jpeg, image/gif or image/webp. None with `url`.",
    )
    data: str | None = Field(
        default=None, exclude_if=_is_none, description="The bytes in base64. None with `sha256` or `url`. Client."
    )
    url: Text | None = Field(
        default=None, exclude_if=_is_none, description="The http or https URL of the image. None with bytes. Client."
    )
    sha256: Sha256 | None = Field(
        default=None, exclude_if=_is_none, description="The key of the bytes in the table `images`, or None. Server."
    )


class ContextBlock(Frozen):
    """Application state for the model, which is not part of the visible text."""

    type: Literal["context"] = "context"
    data: JsonObject = Field(description="Any JSON object. Client.")


class ReasoningBlock(Frozen):
    """The model's reasoning before its answer. It is never part of the answer."""

    type: Literal["reasoning"] = "reasoning"
    text: Text = Field(description="The text. Model.")


class ToolUseBlock(Frozen):
    """A call of a tool by the model."""

    type: Literal["tool_use"] = "tool_use"
    id: Text = Field(description="The id of the call. Model.")
    name: Text = Field(description="The tool's name. Model.")
    input: JsonObject = Field(description="The call's arguments. Model.")
    extra_content: Metadata | None = Field(
        default=None,
        exclude_if=_is_none,
        description="Data that the provider sent beside the call and expects back, such as a thought signature. Model.",
    )


class ToolResultBlock(Frozen):
    """The result of a tool call."""

    type: Literal["tool_result"] = "tool_result"
    tool_use_id: Text = Field(description="The id of the call. Client.")
    content: Text = Field(description="The result as text, often JSON. Client.")
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
    """Check the content of a message.

    It must not be empty, hold only blocks that its role may use, and be within the limits of size.

    `message` is the path of the message among several, which the paths of errors begin with.

    Raises:
        InvalidContentError: a rule is broken.
        UnsupportedImageError: the bytes of an image do not match its type.
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
    # A character has at most four bytes, so short texts need not be encoded.
    if len(text) * 4 > MAX_TEXT_BYTES and len(text.encode()) > MAX_TEXT_BYTES:
        raise InvalidContentError(f"must be at most {MAX_TEXT_BYTES} bytes", path)


def plain_text(content: Sequence[ContentBlock]) -> str:
    """Return the text blocks of `content`, joined by newlines."""
    return "\n".join(block.text for block in content if isinstance(block, TextBlock))


def is_blank(text: str) -> bool:
    """Return whether `text` is empty or only white space."""
    return not text or text.isspace()
