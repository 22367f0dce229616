"""The context that a model is sent, with its tokens as providers count them.

The recipe is OpenAI's: https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from pydantic_core import to_json

from commands.tokens import Tokenizer
from domain.content import TextBlock, ToolResultBlock, is_blank
from domain.events import MessageAdded
from domain.tools import ToolDefinition
from projections.models.context import Context
from projections.models.token_estimates import IMAGE_TOKENS, MESSAGE_TOKENS, ROLE_TOKENS
from turns.model.messages import model_messages
from turns.model.provider_rules import ProviderRules
from turns.model.tool_declarations import declarations

CountText = Callable[[str], int]

REPLY_TOKENS: Final = 3
"""Tokens that begin the reply."""
TOOLS_TOKENS: Final = 9
"""Tokens around the definitions of tools. A system message saves four of them."""

CUT_CHARACTERS: Final = 1024
"""Counters that cut long texts, as litellm's does after so many characters, count a token or two more at each cut."""
CUT_TOKENS: Final = 2


class SentContext(NamedTuple):
    """The messages that a model is sent, in OpenAI's chat form, and their tokens.

    The tokens are as providers count them. `dropped` counts the earlier messages that are not sent, as they are
    recorded. `messages` merges some of them.
    """

    messages: list[dict[str, Any]]
    tokens: int
    dropped: int


async def sent_context(
    context: Context,
    conversation_id: UUID,
    max_tokens: int,
    last: int | None = None,
    *,
    tools: Sequence[ToolDefinition] = (),
    rules: ProviderRules | None = None,
    system_prompt: str | None = None,
) -> SentContext:
    """Return the newest messages that fit into `max_tokens`, after `system_prompt`.

    The prompt and the definitions of `tools` have to fit, too. At most `last` messages are sent, besides all system
    messages. A tool result whose call is dropped is not sent.

    Raises:
        StoreUnavailableError: the store is unavailable.
    """
    # The prompt and the definitions of tools may be megabytes.
    if tools or system_prompt:
        counter = await asyncio.to_thread(TokenCounter, tools, rules, system_prompt)
    else:
        counter = TokenCounter(rules=rules)
    window = await context.window(conversation_id, max_tokens, last, count=counter.count)
    tokens = window.tokens if window.messages else counter.count([])
    return SentContext(counter.sent_messages(window.messages), tokens, window.dropped)


class TokenCounter:
    """Counts the tokens of recorded messages as a provider counts them in one request."""

    def __init__(
        self,
        tools: Sequence[ToolDefinition] = (),
        rules: ProviderRules | None = None,
        system_prompt: str | None = None,
    ) -> None:
        """Count the system prompt and the tools that are sent with every window."""
        self._rules = rules
        self._texts = TextCounter(Tokenizer())
        self._definitions = self._texts(declarations(tools)) if tools else None
        # Providers refuse a blank text.
        prompt = [] if system_prompt is None or is_blank(system_prompt) else [system_prompt]
        self._prompt = [{"role": "system", "content": text} for text in prompt]
        for text in prompt:
            self._texts(text)
        self._last: tuple[Sequence[MessageAdded], list[dict[str, Any]]] = ([], self._prompt)

    def count(self, messages: Sequence[MessageAdded]) -> int:
        """Return the tokens of prompt, messages and tools, 0 without prompt and messages."""
        self._texts.trust(messages)
        return _request_tokens(self.sent_messages(messages), self._definitions, self._texts)

    def sent_messages(self, messages: Sequence[MessageAdded]) -> list[dict[str, Any]]:
        """Return `messages` in the form in which they are sent, after the prompt."""
        # The window that is sent is mostly the one that was counted last.
        if messages != self._last[0]:
            self._last = (messages, [*self._prompt, *model_messages(messages, self._rules)])
        return self._last[1]


class TextCounter:
    """Counts the tokens of texts: at least as many as any counter of o200k_base finds."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, int] = {}

    def trust(self, messages: Sequence[MessageAdded]) -> None:
        """Take over the recorded tokens of messages that consist of a single text."""
        for message in messages:
            if message.encoding == self._tokenizer.name and len(message.content) == 1:
                (block,) = message.content
                if isinstance(block, TextBlock):
                    self._known[block.text] = message.tokens
                elif isinstance(block, ToolResultBlock):
                    self._known[block.content] = message.tokens

    def __call__(self, text: str) -> int:
        """Return the tokens of `text`."""
        if text not in self._known:
            self._known[text] = self._tokenizer.count(text)
        return self._known[text] + CUT_TOKENS * (len(text) // CUT_CHARACTERS)


def sent_tokens(messages: Sequence[Mapping[str, Any]], tools: Sequence[ToolDefinition], count: CountText) -> int:
    """Return the tokens of messages and of the tools that are sent with them.

    The messages are in OpenAI's chat form. No messages take 0.
    """
    return _request_tokens(messages, count(declarations(tools)) if tools else None, count)


def _request_tokens(messages: Sequence[Mapping[str, Any]], definitions: int | None, count: CountText) -> int:
    """Return the tokens of a request.

    `definitions` is the tokens of the tools' definitions, None without tools.
    """
    if not messages:
        return 0
    with_system = any(message["role"] == "system" for message in messages)
    tools = 0 if definitions is None else definitions + TOOLS_TOKENS - 4 * with_system
    return REPLY_TOKENS + tools + sum(_message_tokens(message, count) for message in messages)


def _message_tokens(message: Mapping[str, Any], count: CountText) -> int:
    texts = [message.get("tool_call_id"), message.get("reasoning_content")]
    counted = sum(count(text) for text in texts if text)
    calls = sum(_call_tokens(call, count) for call in message.get("tool_calls", ()))
    return MESSAGE_TOKENS + ROLE_TOKENS + counted + calls + _content_tokens(message["content"], count)


def _content_tokens(content: str | Sequence[Mapping[str, Any]] | None, count: CountText) -> int:
    if content is None:
        return 0
    if isinstance(content, str):
        return count(content)
    return sum(count(part["text"]) if part["type"] == "text" else IMAGE_TOKENS for part in content)


def _call_tokens(call: Mapping[str, Any], count: CountText) -> int:
    """Return the tokens of a call. Its id is counted with the result."""
    # Models read the names of calls and no ids. litellm counts the ids and no names. The longer of both is counted.
    function = call["function"]
    name = max(0, count(function["name"]) - count(call["id"]))
    extra = call.get("extra_content")
    return count(function["arguments"]) + name + (count(to_json(extra).decode()) if extra else 0)
