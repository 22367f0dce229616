"""Tools that a model may call, and results for calls without an answer."""

from collections.abc import Sequence

from pydantic import Field

from domain.content import Content, ToolResultBlock, ToolUseBlock
from domain.values import Frozen, JsonObject, Text

MAX_TOOLS = 128
UNANSWERED = "No result: the call was closed without one."
UNANSWERED_TOKENS = 10
UNANSWERED_ENCODING = "o200k_base"


class ToolDefinition(Frozen):
    """A tool that a model may call."""

    name: Text = Field(
        pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The tool's name, as the model will call it. Client."
    )
    description: Text = Field(
        default="", max_length=16_384, description="A description of the tool for the model. Client."
    )
    input_schema: JsonObject = Field(description="JSON schema of the tool's input. Client.")


def tool_uses(content: Content) -> tuple[ToolUseBlock, ...]:
    """Return the tool calls among the blocks of a message."""
    return tuple(block for block in content if isinstance(block, ToolUseBlock))


def unanswered(calls: Sequence[str]) -> Content:
    """Return an error result for each of these calls, which have no answer."""
    return tuple(ToolResultBlock(tool_use_id=call, content=UNANSWERED, is_error=True) for call in calls)
