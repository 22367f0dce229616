"""How many tokens providers count for what a model is sent.

The recipe is OpenAI's: https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic_core import to_json

from commands.tokens import Tokenizer
from domain.content import ImageBlock, ReasoningBlock, TextBlock, ToolResultBlock, ToolUseBlock
from domain.events import MessageAdded
from domain.tools import ToolDefinition
from projections.models.tool_declarations import declarations

Count = Callable[[str], int]

MESSAGE_TOKENS: Final = 3
"""Around each message."""
REPLY_TOKENS: Final = 3
"""They begin the reply."""
TOOLS_TOKENS: Final = 9
"""Around the definitions of tools, of which a system message saves four."""
IMAGE_TOKENS: Final = 1600
"""An image of any size: about the most that Anthropic counts for one; OpenAI's rule for GPT-4o gives 1,445 at most."""

CUT_CHARACTERS: Final = 1024
"""Counters that cut long texts, as litellm's does after so many characters, find a token or two more at each cut."""
CUT_TOKENS: Final = 2

_ROLE_TOKENS: Final = 1
_CHARACTERS_A_TOKEN: Final = 3  # of the ids and names of calls


def text_counter(tokenizer: Tokenizer, said: Iterable[MessageAdded] = ()) -> Count:
    """Return the function that counts the tokens of a text: at least as many as any counter of o200k_base finds.

    Where a text is all that a message says, its tokens are those that were recorded.
    """
    known: dict[str, int] = {}
    for message in said:
        if message.encoding == tokenizer.name and len(message.content) == 1:
            (block,) = message.content
            if isinstance(block, TextBlock):
                known[block.text] = message.tokens
            elif isinstance(block, ToolResultBlock):
                known[block.content] = message.tokens

    def count(text: str) -> int:
        if text not in known:
            known[text] = tokenizer.count(text)
        return known[text] + CUT_TOKENS * (len(text) // CUT_CHARACTERS)

    return count


def sent_tokens(messages: Sequence[Mapping[str, Any]], tools: Sequence[ToolDefinition], count: Count) -> int:
    """Return the tokens of messages in OpenAI's chat form and of the tools that are sent with them; 0 for nothing."""
    if not messages:
        return 0
    with_system = any(message["role"] == "system" for message in messages)
    framing = TOOLS_TOKENS - 4 * with_system if tools else 0
    defined = count(declarations(tools)) if tools else 0
    return REPLY_TOKENS + framing + defined + sum(_message_tokens(message, count) for message in messages)


def _message_tokens(message: Mapping[str, Any], count: Count) -> int:
    texts = [message.get("tool_call_id"), message.get("reasoning_content")]
    counted = sum(count(text) for text in texts if text)
    calls = sum(_call_tokens(call, count) for call in message.get("tool_calls", ()))
    return MESSAGE_TOKENS + _ROLE_TOKENS + counted + calls + _content_tokens(message["content"], count)


def _content_tokens(content: str | Sequence[Mapping[str, Any]] | None, count: Count) -> int:
    if content is None:
        return 0
    if isinstance(content, str):
        return count(content)
    return sum(count(part["text"]) if part["type"] == "text" else IMAGE_TOKENS for part in content)


def _call_tokens(call: Mapping[str, Any], count: Count) -> int:
    """Return the tokens of a call, without its id as far as that is counted with the result.

    Models read the names of calls and no ids; litellm counts the ids and no names. The longer of both is counted.
    """
    function = call["function"]
    name = max(0, count(function["name"]) - count(call["id"]))
    extra = call.get("extra_content")
    return count(function["arguments"]) + name + (count(to_json(extra).decode()) if extra else 0)


def estimated_tokens(said: MessageAdded) -> int:
    """Return about what a message takes when it is sent, by its event alone and without reading its text."""
    framing = MESSAGE_TOKENS + _ROLE_TOKENS
    if len(said.content) == 1 and said.role != "tool" and isinstance(said.content[0], TextBlock):
        return framing + said.tokens  # most messages: a rebuild estimates a million of them
    calls = [len(block.name) for block in said.content if isinstance(block, ToolUseBlock)]
    results = [len(block.tool_use_id) for block in said.content if isinstance(block, ToolResultBlock)]
    images = sum(isinstance(block, ImageBlock) for block in said.content)
    messages = len(results) if said.role == "tool" else 1  # each result is sent as a message of its own
    names = sum(calls + results) // _CHARACTERS_A_TOKEN
    return messages * framing + images * IMAGE_TOKENS + names + _spoken_tokens(said)


def _spoken_tokens(said: MessageAdded) -> int:
    """Return the recorded tokens without the share of the reasoning, which is sent in open tool loops only."""
    thought = sum(len(block.text) for block in said.content if isinstance(block, ReasoningBlock))
    if not thought:
        return said.tokens
    spoken = sum(len(block.text) for block in said.content if isinstance(block, TextBlock))
    spoken += sum(len(to_json(block.input)) for block in said.content if isinstance(block, ToolUseBlock))
    return said.tokens * spoken // (spoken + thought)
