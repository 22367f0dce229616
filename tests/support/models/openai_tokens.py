"""OpenAI's published recipe for the tokens of chat messages.

Source: https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb. It uses
OpenAI's own tokenizer and no code of Turnlog. Calls, images and two tokens for each 1,024 characters of a text are not
in the recipe, and are counted as in docs/http-api.md.
"""

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiktoken

IMAGE = 1600


@cache
def encoding() -> tiktoken.Encoding:
    """Return o200k_base from the files that ship inside litellm."""
    spec = importlib.util.find_spec("litellm")
    assert spec and spec.submodule_search_locations
    with pytest.MonkeyPatch.context() as patch:
        folder = Path(spec.submodule_search_locations[0], "litellm_core_utils", "tokenizers")
        patch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
        return tiktoken.get_encoding("o200k_base")


def text_tokens(text: str) -> int:
    return len(encoding().encode_ordinary(text)) + 2 * (len(text) // 1024)


def openai_tokens(messages: list[dict[str, Any]]) -> int:
    """Return the tokens of a request with these messages, or 0 without messages."""
    total = 3 if messages else 0
    for message in messages:
        total += 3 + text_tokens(message["role"])
        content: Any = message["content"] or []
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            total += text_tokens(part["text"]) if part["type"] == "text" else IMAGE
        total += text_tokens(message.get("reasoning_content", "")) + text_tokens(message.get("tool_call_id", ""))
        for call in message.get("tool_calls", []):
            function = call["function"]
            total += text_tokens(function["arguments"])
            total += max(0, text_tokens(function["name"]) - text_tokens(call["id"]))
            if "extra_content" in call:
                total += text_tokens(json.dumps(call["extra_content"], separators=(",", ":"), ensure_ascii=False))
    return total
