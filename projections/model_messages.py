"""Messages as models take them: OpenAI's chat form, which litellm translates for every other provider."""

from typing import Any

from pydantic_core import to_json

from domain.content import (
    ContentBlock,
    ContextBlock,
    ImageBlock,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    spoken_text,
)
from domain.events import MessageAdded


def model_message(message: MessageAdded) -> list[dict[str, Any]]:
    """Return what a model is sent for a message: one chat message, or one for each tool result it holds."""
    if message.role == "tool":
        return [_tool_result(block) for block in message.content if isinstance(block, ToolResultBlock)]
    if message.role == "assistant":
        return [_assistant(message)]
    return [{"role": message.role, "content": _content(message.content)}]


def _assistant(message: MessageAdded) -> dict[str, Any]:
    calls = [_tool_call(block) for block in message.content if isinstance(block, ToolUseBlock)]
    text = spoken_text(message.content)
    sent: dict[str, Any] = {"role": "assistant", "content": text or None if calls else text}
    return {**sent, "tool_calls": calls} if calls else sent


def _content(content: tuple[ContentBlock, ...]) -> str | list[dict[str, Any]]:
    if len(content) == 1 and isinstance(content[0], TextBlock):
        return content[0].text
    return [_part(block) for block in content]


def _part(block: ContentBlock) -> dict[str, Any]:
    if isinstance(block, ImageBlock):
        url = block.url or f"data:{block.media_type};base64,{block.data}"
        return {"type": "image_url", "image_url": {"url": url}}
    if isinstance(block, ContextBlock):
        return {"type": "text", "text": f"<context>{to_json(block.data).decode()}</context>"}
    assert isinstance(block, TextBlock)
    return {"type": "text", "text": block.text}


def _tool_call(block: ToolUseBlock) -> dict[str, Any]:
    arguments = to_json(block.input).decode()
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _tool_result(block: ToolResultBlock) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": block.content}
