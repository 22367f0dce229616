"""OpenAI's rules for chat messages, checked without the code under test.

Source: https://platform.openai.com/docs/api-reference/chat/create and the messages of its 400s about ids and names. It
also checks the rules of other providers: a user begins, roles alternate, and no text is blank.
"""

import json
import re
from itertools import dropwhile, takewhile
from typing import Any

Message = dict[str, Any]

MAY_FOLLOW = {"the start": {"user"}, "user": {"assistant"}, "assistant": {"user"}, "tool": {"user", "assistant"}}


def check_openai(messages: list[Message]) -> None:
    """Fail where a provider would refuse `messages`."""
    for message in takewhile(_is_system, messages):
        _check_message(message)
    rest = dropwhile(_is_system, messages)
    previous = "the start"
    for message in rest:
        assert message["role"] in MAY_FOLLOW[previous], f"{message['role']} follows {previous}"
        previous = message["role"]
        _check_message(message)
        for call in message.get("tool_calls", ()):
            _check_call(call)
            result = next(rest, {})
            assert result.keys() == {"role", "tool_call_id", "content"}
            assert (result["role"], result["tool_call_id"]) == ("tool", call["id"])
            _check_text(result["content"])
            previous = "tool"
    ids = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    assert len(ids) == len(set(ids)), f"an id is used twice: {ids}"


def _is_system(message: Message) -> bool:
    return message["role"] == "system"


def _check_message(message: Message) -> None:
    content, calls = message["content"], message.get("tool_calls")
    assert message.keys() - {"tool_calls", "reasoning_content"} == {"role", "content"}
    assert calls is None or (calls and message["role"] == "assistant")
    if "reasoning_content" in message:
        assert message["role"] == "assistant" and isinstance(message["reasoning_content"], str)
        assert message["reasoning_content"], "DeepSeek refuses an empty one"
    if isinstance(content, list):
        assert content and message["role"] in ("user", "system")
        for part in content:
            _check_part(part)
    elif content is not None or not calls:
        _check_text(content)


def _check_part(part: dict[str, Any]) -> None:
    if part["type"] == "text":
        assert part.keys() == {"type", "text"}
        _check_text(part["text"])
    else:
        assert part.keys() == {"type", "image_url"} and part["type"] == "image_url"
        assert part["image_url"]["url"].startswith(("data:image/", "https://", "http://"))


def _check_call(call: dict[str, Any]) -> None:
    assert call.keys() - {"extra_content"} == {"id", "type", "function"} and call["type"] == "function"
    assert isinstance(call.get("extra_content", {}), dict)
    own_id, _, _ = call["id"].partition("__thought__")  # litellm removes Gemini's signature for other providers
    assert 1 <= len(own_id) <= 40
    assert call["function"].keys() == {"name", "arguments"}
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", call["function"]["name"])
    assert isinstance(json.loads(call["function"]["arguments"]), dict)


def _check_text(text: object) -> None:
    assert isinstance(text, str) and text.strip(), f"blank: {text!r}"
