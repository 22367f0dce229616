"""Tool calls with their results as every provider takes them: one result to each call, and each id used once.

A history promises neither: clients record calls and results in any order, and messages are deleted or trimmed away.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from domain.content import ToolResultBlock, ToolUseBlock, is_blank
from domain.events import MessageAdded
from domain.tools import UNANSWERED, tool_uses

NO_CONTENT = "(no content)"
"""Stands where something must be said and nothing was: Anthropic and Bedrock refuse a text that is empty or blank."""

_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")
"""What OpenAI refuses in a tool's name, and what litellm writes as `_` in an id for Anthropic."""
_SIGNATURE = "__thought__"
"""Begins the signature that litellm keeps in the ids of Gemini's calls, and takes off for all other providers."""
_MAX_ID_CHARACTERS, _MAX_NAME_CHARACTERS = 40, 64  # OpenAI's


@dataclass(slots=True)
class Exchange:
    """A call, under an id that nothing else in the window has, and what answers it."""

    id: str
    use: ToolUseBlock
    result: str = UNANSWERED

    def call(self, *, with_extra: bool = True) -> dict[str, Any]:
        """Return the entry in the assistant's `tool_calls`, `with_extra` content where the call has some."""
        name = _FOREIGN.sub("_", self.use.name)[:_MAX_NAME_CHARACTERS] or "tool"
        arguments = to_json(self.use.input).decode()
        call = {"id": self.id, "type": "function", "function": {"name": name, "arguments": arguments}}
        return {**call, "extra_content": self.use.extra_content} if with_extra and self.use.extra_content else call

    def answer(self) -> dict[str, Any]:
        """Return the tool message."""
        return {"role": "tool", "tool_call_id": self.id, "content": self.result}


def exchanges(said: Iterable[MessageAdded]) -> dict[UUID, list[Exchange]]:
    """Return the calls of the messages that make some, by the message's id, in order.

    A result belongs to the nearest message before it that makes a call of its id, and there to the first such call
    that has none yet; where there is no such call, it belongs to none and is left out. What closed a call makes room
    for a result that came late after all.
    """
    made: dict[UUID, list[Exchange]] = {}
    waiting: dict[str, list[Exchange]] = {}
    used: set[str] = set()
    for message in said:
        if message.role == "assistant" and (uses := tool_uses(message.content)):
            made[message.message_id] = [Exchange(_unused_id(use.id, used), use) for use in uses]
            waiting |= _by_id(made[message.message_id])
        elif message.role == "tool":
            _answer(waiting, message)
    return made


def _by_id(made: list[Exchange]) -> dict[str, list[Exchange]]:
    by_id: dict[str, list[Exchange]] = {}
    for exchange in made:
        by_id.setdefault(exchange.use.id, []).append(exchange)
    return by_id


def _answer(waiting: dict[str, list[Exchange]], message: MessageAdded) -> None:
    for block in message.content:
        if not isinstance(block, ToolResultBlock) or block.content == UNANSWERED:
            continue
        if unanswered := waiting.get(block.tool_use_id):
            unanswered.pop(0).result = _result(block)


def _result(block: ToolResultBlock) -> str:
    """Return the text of a result; OpenAI's tool message cannot say otherwise that the tool failed."""
    text = NO_CONTENT if is_blank(block.content) else block.content
    plain = not block.is_error or text[:5].lower() == "error"
    return text if plain else f"Error: {text}"


def _unused_id(call_id: str, used: set[str]) -> str:
    """Return `call_id` itself where it can be sent: not empty, not too long, and still of its own once it is mended.

    Anthropic wants ids to be unique in all messages, not only in one.
    """
    mended = _FOREIGN.sub("_", call_id.partition(_SIGNATURE)[0])
    if 0 < len(mended) <= _MAX_ID_CHARACTERS and mended not in used:
        used.add(mended)
        return call_id
    stem = mended[: _MAX_ID_CHARACTERS - 8] or "call"
    unused = next(new for number in count(len(used)) if (new := f"{stem}_{number}") not in used)
    used.add(unused)
    return unused
