"""Tool calls paired with their results: one result a call, and unique ids.

A history promises neither. Clients record calls and results in any order, and messages are deleted or trimmed away.
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
"""Replaces an empty text: Anthropic and Bedrock refuse a text that is empty or blank."""

_REFUSED_CHARACTERS = re.compile(r"[^a-zA-Z0-9_-]")
"""Characters that OpenAI refuses in a tool's name, and that litellm replaces by `_` in an id for Anthropic."""
_SIGNATURE_MARK = "__thought__"
"""Begins the signature that litellm keeps in the ids of Gemini's calls, and removes for all other providers."""
_MAX_ID_CHARACTERS, _MAX_NAME_CHARACTERS = 40, 64  # OpenAI's


@dataclass(slots=True)
class Exchange:
    """A tool call, under an id that is unique in the window, and its result."""

    id: str
    use: ToolUseBlock
    result: str = UNANSWERED

    def call(self, *, with_extra: bool = True) -> dict[str, Any]:
        """Return the entry for the assistant's `tool_calls`.

        It has the call's extra content if `with_extra`.
        """
        name = _REFUSED_CHARACTERS.sub("_", self.use.name)[:_MAX_NAME_CHARACTERS] or "tool"
        arguments = to_json(self.use.input).decode()
        call = {"id": self.id, "type": "function", "function": {"name": name, "arguments": arguments}}
        return {**call, "extra_content": self.use.extra_content} if with_extra and self.use.extra_content else call

    def answer(self) -> dict[str, Any]:
        """Return the tool message."""
        return {"role": "tool", "tool_call_id": self.id, "content": self.result}


def exchanges(recorded: Iterable[MessageAdded]) -> dict[UUID, list[Exchange]]:
    """Return the calls of the messages that make some, in order, by the message's id.

    A result belongs to the nearest message before it that makes a call with its id. There it belongs to the first
    such call that has no result yet. A result without such a call is left out. A placeholder for a missing result
    gives way to a result that comes later.
    """
    made: dict[UUID, list[Exchange]] = {}
    open_calls: dict[str, list[Exchange]] = {}
    used: set[str] = set()
    for message in recorded:
        if message.role == "assistant" and (uses := tool_uses(message.content)):
            made[message.message_id] = [Exchange(_unused_id(use.id, used), use) for use in uses]
            open_calls |= _by_id(made[message.message_id])
        elif message.role == "tool":
            _add_results(open_calls, message)
    return made


def _by_id(made: list[Exchange]) -> dict[str, list[Exchange]]:
    by_id: dict[str, list[Exchange]] = {}
    for exchange in made:
        by_id.setdefault(exchange.use.id, []).append(exchange)
    return by_id


def _add_results(open_calls: dict[str, list[Exchange]], message: MessageAdded) -> None:
    for block in message.content:
        if not isinstance(block, ToolResultBlock) or block.content == UNANSWERED:
            continue
        if unanswered := open_calls.get(block.tool_use_id):
            unanswered.pop(0).result = _result(block)


def _result(block: ToolResultBlock) -> str:
    """Return the text of a result, which begins with `Error` if the tool failed."""
    # OpenAI's tool message has no field for a failure.
    text = NO_CONTENT if is_blank(block.content) else block.content
    plain = not block.is_error or text[:5].lower() == "error"
    return text if plain else f"Error: {text}"


def _unused_id(call_id: str, used: set[str]) -> str:
    """Return `call_id` if it can be sent, otherwise a new id.

    An id can be sent if it is not empty, not too long, and unique after its characters are replaced.
    """
    # Anthropic requires ids to be unique in all messages, not only in one.
    sent = _REFUSED_CHARACTERS.sub("_", call_id.partition(_SIGNATURE_MARK)[0])
    if 0 < len(sent) <= _MAX_ID_CHARACTERS and sent not in used:
        used.add(sent)
        return call_id
    stem = sent[: _MAX_ID_CHARACTERS - 8] or "call"
    unused = next(new for number in count(len(used)) if (new := f"{stem}_{number}") not in used)
    used.add(unused)
    return unused
