"""A signature that a provider streams with a tool call is sent back with it."""

import json
from typing import Any
from uuid import uuid4

import pytest

from tests.support.http.api_client import Api
from tests.support.http.tool_turns import ADD, results_path, sent
from tests.support.models.model_scripts import Raw, Script
from tests.support.models.model_server import ModelServer

SIGNED = {"google": {"thought_signature": "c2ln"}}


@pytest.mark.parametrize("provider", ["", "openai/", "hosted_vllm/"])
def test_a_streamed_signature_is_sent_back_with_its_call(
    api: Api, id_: str, models: ModelServer, provider: str
) -> None:
    calls: list[dict[str, Any]] = [
        {"index": n, "id": f"call_{n}", "type": "function", "function": {"name": "add", "arguments": "{}"}}
        for n in (0, 1)
    ]
    calls[0]["extra_content"] = SIGNED
    chunk: dict[str, Any] = {"choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": None}]}
    name = f"gemini-{uuid4().hex[:12]}"
    models.script(name, Script([Raw(json.dumps(chunk))], finish_reason="tool_calls"), Script(["It is 3."]))
    turn = api.turn(id_, provider + name, content="How much?", tools=[ADD]).json()["turn"]
    assert api.messages(id_)[1]["content"][0]["extra_content"] == SIGNED
    results = [{"tool_use_id": f"call_{n}", "content": "3"} for n in (0, 1)]
    assert api.http.post(results_path(turn), json={"results": results}).status_code == 200
    first, second = sent(models, name)[1]["messages"][1]["tool_calls"]
    assert first["extra_content"] == SIGNED
    assert "extra_content" not in second
