"""Messages as models take them: OpenAI's chat form, which litellm translates for every other provider.

Histories are free, providers are not: what is said here is valid for OpenAI and, translated, for Anthropic, whatever
was recorded. System messages come first; then user and assistant speak in turn, a user first; every tool call is
answered right behind the message that makes it; and no text is empty.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal, NamedTuple

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
from projections.models.tool_exchanges import NO_CONTENT, Exchange, exchanges

Spoken = str | list[dict[str, Any]]


class ProviderRules(NamedTuple):
    """What goes back to a model of that which models say for themselves.

    `reasoning` goes back with answers that called tools: `never`, in the tool `loop` that is still open, or `always`.
    The extra content of a call goes back to the `model` that sent it; None: to any.
    """

    reasoning: Literal["never", "loop", "always"] = "loop"
    model: str | None = None


class _Speech(NamedTuple):
    role: Role
    content: Spoken
    calls: Sequence[Exchange] = ()
    reasoning: str = ""
    with_extra: bool = True


def model_messages(said: Sequence[MessageAdded], rules: ProviderRules | None = None) -> list[dict[str, Any]]:
    """Return what a model is sent for the messages of a window, oldest first.

    Neighbours of one role become one message, an answer without words or calls is left out, and a call without a
    result gets one that says so. Where no user begins, a placeholder does.
    """
    rules = rules or ProviderRules()
    runs = [(role, list(run)) for role, run in groupby(_speeches(said, rules), attrgetter("role"))]
    talk: list[dict[str, Any]] = []
    for place, (role, run) in enumerate(runs, start=1):
        if role == "user":
            talk.append(_user(run))
        else:
            talk.extend(_assistant(run, _returns_reasoning(rules, run, is_last=place == len(runs))))
    if talk and talk[0]["role"] != "user":
        talk.insert(0, {"role": "user", "content": NO_CONTENT})
    system = [_content(message.content) for message in said if message.role == "system"]
    return [*({"role": "system", "content": content} for content in system if content), *talk]


def _speeches(said: Sequence[MessageAdded], rules: ProviderRules) -> Iterator[_Speech]:
    """Yield what users said and all that an assistant did say; a user's silence is a turn of the talk too."""
    calls = exchanges(said)
    for message in said:
        if message.role == "user":
            yield _Speech("user", _content(message.content))
        elif message.role == "assistant":
            text, made = plain_text(message.content), calls.get(message.message_id, ())
            if made or not is_blank(text):
                with_extra = None in (message.model, rules.model) or message.model == rules.model
                reasoning = "".join(block.text for block in message.content if isinstance(block, ReasoningBlock))
                yield _Speech("assistant", "" if is_blank(text) else text, made, reasoning, with_extra)


def _user(run: Sequence[_Speech]) -> dict[str, Any]:
    return {"role": "user", "content": _joined([speech.content for speech in run]) or NO_CONTENT}


def _returns_reasoning(rules: ProviderRules, run: Sequence[_Speech], *, is_last: bool) -> bool:
    """Return whether the reasoning of what an assistant said between two users is sent with it."""
    wanted = rules.reasoning == "always" or (rules.reasoning == "loop" and is_last)
    return wanted and any(speech.calls for speech in run) and any(not is_blank(speech.reasoning) for speech in run)


def _assistant(run: Sequence[_Speech], with_reasoning: bool) -> Iterator[dict[str, Any]]:
    """Yield one message for each that makes calls, its results behind it, and one for what is said after the last."""
    said: list[_Speech] = []
    for speech in run:
        said.append(speech)
        if speech.calls:
            calls = [exchange.call(with_extra=speech.with_extra) for exchange in speech.calls]
            yield {**_answer(said, with_reasoning), "tool_calls": calls}
            yield from (exchange.answer() for exchange in speech.calls)
            said = []
    if said:
        yield _answer(said, with_reasoning)


def _answer(said: Sequence[_Speech], with_reasoning: bool) -> dict[str, Any]:
    message = {"role": "assistant", "content": _joined([speech.content for speech in said]) or None}
    if not with_reasoning:
        return message
    thoughts = [speech.reasoning for speech in said if not is_blank(speech.reasoning)]
    # DeepSeek refuses an answer of a tool loop without the field, and an empty one; where nothing was thought, a space.
    return {**message, "reasoning_content": "\n\n".join(thoughts) or " "}


def _joined(contents: list[Spoken]) -> Spoken:
    if len(contents) == 1:
        return contents[0]
    texts = [content for content in contents if isinstance(content, str)]
    if len(texts) == len(contents):
        return "\n\n".join(text for text in texts if text)
    return [part for content in contents for part in _parts(content)]


def _parts(content: Spoken) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [_text(content)] if content else []
    return content


def _content(content: Sequence[ContentBlock]) -> Spoken:
    """Return a single text as it is, anything else as parts, without the blank ones; empty where nothing is left."""
    blocks = [block for block in content if not (isinstance(block, TextBlock) and is_blank(block.text))]
    if len(blocks) == 1 and isinstance(blocks[0], TextBlock):
        return blocks[0].text
    return [_part(block) for block in blocks]


def _part(block: ContentBlock) -> dict[str, Any]:
    if isinstance(block, ImageBlock):
        url = block.url or f"data:{block.media_type};base64,{block.data}"
        return {"type": "image_url", "image_url": {"url": url}}
    if isinstance(block, ContextBlock):
        return _text(f"<context>{to_json(block.data).decode()}</context>")
    assert isinstance(block, TextBlock)
    return _text(block.text)


def _text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}
