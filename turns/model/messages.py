"""Messages in OpenAI's chat form, which litellm translates for other providers.

Histories are free, and providers are not. The messages made here are valid for OpenAI and, translated, for Anthropic,
whatever was recorded. System messages come first. Then user and assistant alternate, a user first. Every tool call is
answered directly behind the message that makes it. No text is empty.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from pydantic_core import to_json

from domain.content import (
    ContentBlock,
    ContextBlock,
    ImageBlock,
    ReasoningBlock,
    Role,
    TextBlock,
    is_blank,
    plain_text,
)
from domain.events import MessageAdded
from turns.model.provider_rules import ProviderRules
from turns.model.tool_exchanges import NO_CONTENT, Exchange, exchanges

SentContent = str | list[dict[str, Any]]


class _Contribution(NamedTuple):
    """The contribution of one recorded message to the dialogue."""

    role: Role
    content: SentContent
    calls: Sequence[Exchange] = ()
    reasoning: str = ""
    with_extra: bool = True


def model_messages(recorded: Sequence[MessageAdded], rules: ProviderRules | None = None) -> list[dict[str, Any]]:
    """Return the messages for a model, made from the recorded ones of a window.

    They are oldest first. Consecutive messages of one role become one message. An answer without text or calls is left
    out. A call without a result gets one that says so. If no user message comes first, a placeholder does.
    """
    rules = rules or ProviderRules()
    runs = [(role, list(run)) for role, run in groupby(_contributions(recorded, rules), attrgetter("role"))]
    dialogue: list[dict[str, Any]] = []
    for place, (role, run) in enumerate(runs, start=1):
        if role == "user":
            dialogue.append(_user_message(run))
        else:
            dialogue.extend(_assistant_messages(run, _returns_reasoning(rules, run, is_last=place == len(runs))))
    if dialogue and dialogue[0]["role"] != "user":
        dialogue.insert(0, {"role": "user", "content": NO_CONTENT})
    system = [_content(message.content) for message in recorded if message.role == "system"]
    return [*({"role": "system", "content": content} for content in system if content), *dialogue]


def _contributions(recorded: Sequence[MessageAdded], rules: ProviderRules) -> Iterator[_Contribution]:
    """Yield each user message, and each assistant message that has text or calls."""
    calls = exchanges(recorded)
    for message in recorded:
        if message.role == "user":  # an empty one too: it separates two answers
            yield _Contribution("user", _content(message.content))
        elif message.role == "assistant":
            text, made = plain_text(message.content), calls.get(message.message_id, ())
            if made or not is_blank(text):
                with_extra = None in (message.model, rules.model) or message.model == rules.model
                reasoning = "".join(block.text for block in message.content if isinstance(block, ReasoningBlock))
                yield _Contribution("assistant", "" if is_blank(text) else text, made, reasoning, with_extra)


def _user_message(run: Sequence[_Contribution]) -> dict[str, Any]:
    return {"role": "user", "content": _joined([one.content for one in run]) or NO_CONTENT}


def _returns_reasoning(rules: ProviderRules, run: Sequence[_Contribution], *, is_last: bool) -> bool:
    """Return whether messages between two user messages are sent with reasoning."""
    wanted = rules.reasoning == "always" or (rules.reasoning == "loop" and is_last)
    return wanted and any(one.calls for one in run) and any(not is_blank(one.reasoning) for one in run)


def _assistant_messages(run: Sequence[_Contribution], with_reasoning: bool) -> Iterator[dict[str, Any]]:
    """Yield a message for each that makes calls, with its results behind it.

    One for the text after the last call follows.
    """
    pending: list[_Contribution] = []
    for one in run:
        pending.append(one)
        if one.calls:
            calls = [exchange.call(with_extra=one.with_extra) for exchange in one.calls]
            yield {**_assistant_message(pending, with_reasoning), "tool_calls": calls}
            yield from (exchange.answer() for exchange in one.calls)
            pending = []
    if pending:
        yield _assistant_message(pending, with_reasoning)


def _assistant_message(run: Sequence[_Contribution], with_reasoning: bool) -> dict[str, Any]:
    message = {"role": "assistant", "content": _joined([one.content for one in run]) or None}
    if not with_reasoning:
        return message
    reasoning = [one.reasoning for one in run if not is_blank(one.reasoning)]
    # DeepSeek refuses an answer of a tool loop in which the field is missing or empty. A space stands for no reasoning.
    return {**message, "reasoning_content": "\n\n".join(reasoning) or " "}


def _joined(contents: list[SentContent]) -> SentContent:
    if len(contents) == 1:
        return contents[0]
    texts = [content for content in contents if isinstance(content, str)]
    if len(texts) == len(contents):
        return "\n\n".join(text for text in texts if text)
    return [part for content in contents for part in _parts(content)]


def _parts(content: SentContent) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [_text_part(content)] if content else []
    return content


def _content(content: Sequence[ContentBlock]) -> SentContent:
    """Return a single text as it is, and else a list of parts without blank texts."""
    blocks = [block for block in content if not (isinstance(block, TextBlock) and is_blank(block.text))]
    if len(blocks) == 1 and isinstance(blocks[0], TextBlock):
        return blocks[0].text
    return [_part(block) for block in blocks]


def _part(block: ContentBlock) -> dict[str, Any]:
    if isinstance(block, ImageBlock):
        url = block.url or f"data:{block.media_type};base64,{block.data}"
        return {"type": "image_url", "image_url": {"url": url}}
    if isinstance(block, ContextBlock):
        return _text_part(f"<context>{to_json(block.data).decode()}</context>")
    assert isinstance(block, TextBlock)
    return _text_part(block.text)


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
