"""Short calls through a model gateway."""

from typing import Any

import pytest
from pydantic import SecretStr

from tests.support.models.model_server import ModelServer
from turns.model.errors import ModelError
from turns.model.gateway import ModelGateway
from turns.model.gateway_types import ModelChunk, ModelEnd, ModelRequest, ModelTimeouts

KEY = "sk-test-4f7a9b2c1d8e"
PROMPT = "the prompt that nobody may log"
PATIENT = ModelTimeouts(first_token_s=60, between_tokens_s=60, total_s=120)
"""Only a hang takes longer, even on a busy machine."""


def gateway_to(server: ModelServer, timeouts: ModelTimeouts = PATIENT, max_attempts: int = 3) -> ModelGateway:
    return ModelGateway(api_base=server.url, api_key=SecretStr(KEY), timeouts=timeouts, max_attempts=max_attempts)


def request_to(model: str, **fields: Any) -> ModelRequest:
    return ModelRequest(model=model, messages=[{"role": "user", "content": PROMPT}], **fields)


async def answer_of(gateway: ModelGateway, model: str, **fields: Any) -> tuple[list[ModelChunk], ModelEnd]:
    items = [item async for item in gateway.stream(request_to(model, **fields))]
    *chunks, end = items
    assert isinstance(end, ModelEnd)
    return [chunk for chunk in chunks if isinstance(chunk, ModelChunk)], end


async def error_of(gateway: ModelGateway, model: str) -> tuple[list[ModelChunk], ModelError]:
    heard: list[ModelChunk] = []
    try:
        async for item in gateway.stream(request_to(model)):
            assert isinstance(item, ModelChunk)
            heard.append(item)
    except ModelError as error:
        return heard, error
    pytest.fail("the call did not fail")
