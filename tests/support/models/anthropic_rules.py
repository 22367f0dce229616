"""Anthropic's rules for a list of messages, whose violation its API refuses.

Source: https://docs.anthropic.com/en/api/messages and https://docs.anthropic.com/en/docs/build-with-claude/tool-use
"""

import re
from itertools import pairwise
from typing import Any

Block = dict[str, Any]
Message = dict[str, Any]


def check_anthropic(messages: list[Message]) -> None:
    """Fail where Anthropic would refuse `messages` of user and assistant."""
    roles = [message["role"] for message in messages]
    assert roles == [("user", "assistant")[n % 2] for n in range(len(roles))], roles
    for message in messages:
        assert message["content"]
        for block in message["content"]:
            _check_block(message["role"], block)
    for before, after in pairwise([{"content": []}, *messages, {"content": []}]):
        _check_results(before["content"], after["content"])
    ids = [block["id"] for message in messages for block in message["content"] if block["type"] == "tool_use"]
    assert len(ids) == len(set(ids)), f"an id is used twice: {ids}"


def _check_block(role: str, block: Block) -> None:
    assert block["type"] in {"user": {"text", "image", "tool_result"}, "assistant": {"text", "tool_use"}}[role]
    if block["type"] == "text":
        assert block["text"].strip(), f"blank: {block['text']!r}"
    elif block["type"] == "tool_use":
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"])
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", block["name"])
        assert isinstance(block["input"], dict)
    elif block["type"] == "tool_result":
        assert isinstance(block["content"], str) and block["content"].strip()


def _check_results(before: list[Block], after: list[Block]) -> None:
    """Fail unless the next message begins with one result for each call."""
    calls = [block["id"] for block in before if block["type"] == "tool_use"]
    answered = [block["tool_use_id"] for block in after if block["type"] == "tool_result"]
    assert sorted(calls) == sorted(answered)
    assert all(block["type"] == "tool_result" for block in after[: len(answered)])
