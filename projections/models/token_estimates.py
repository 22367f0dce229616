"""Estimates of the tokens that a message takes when it is sent to a model.

An estimate needs the event alone, so a projection can store it. A window is counted exactly when it is read.
"""

from typing import Final

from pydantic_core import to_json

from domain.content import Content, ImageBlock, ReasoningBlock, Role, TextBlock, ToolResultBlock, ToolUseBlock
from domain.events import MessageAdded

MESSAGE_TOKENS: Final = 3
"""Tokens around each message."""
ROLE_TOKENS: Final = 1
"""Tokens of a message's role."""
IMAGE_TOKENS: Final = 1600
"""Tokens of an image of any size: about Anthropic's maximum; OpenAI's rule for GPT-4o gives 1,445 at most."""

_CHARACTERS_PER_TOKEN: Final = 3  # of the ids and names of calls


def estimated_tokens(message: MessageAdded) -> int:
    """Return an estimate of the tokens that a message takes when it is sent."""
    return estimate(message.role, message.tokens, message.content)


def estimate(role: Role, tokens: int, content: Content | None) -> int:
    """Return an estimate of the tokens that a message with these recorded ones takes.

    The content of a single text does not matter, and may be None.
    """
    framing = MESSAGE_TOKENS + ROLE_TOKENS
    if content is None or (len(content) == 1 and role != "tool" and isinstance(content[0], TextBlock)):
        return framing + tokens  # most messages: a rebuild estimates a million of them
    calls = [len(block.name) for block in content if isinstance(block, ToolUseBlock)]
    results = [len(block.tool_use_id) for block in content if isinstance(block, ToolResultBlock)]
    images = sum(isinstance(block, ImageBlock) for block in content)
    messages = len(results) if role == "tool" else 1  # each result is sent as a message of its own
    names = sum(calls + results) // _CHARACTERS_PER_TOKEN
    return messages * framing + images * IMAGE_TOKENS + names + _tokens_without_reasoning(tokens, content)


def _tokens_without_reasoning(tokens: int, content: Content) -> int:
    """Return the recorded tokens without the share of the reasoning."""
    # Reasoning is sent in open tool loops only.
    reasoning = sum(len(block.text) for block in content if isinstance(block, ReasoningBlock))
    if not reasoning:
        return tokens
    others = sum(len(block.text) for block in content if isinstance(block, TextBlock))
    others += sum(len(to_json(block.input)) for block in content if isinstance(block, ToolUseBlock))
    return tokens * others // (others + reasoning)
