"""Any recorded conversation is valid in the form that litellm sends to Anthropic."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings

from domain.events import MessageAdded
from tests.support.histories.free_histories import free_histories
from tests.support.models.anthropic_rules import check_anthropic
from turns.model.gateway import ModelGateway
from turns.model.messages import model_messages

Sent = list[dict[str, Any]]


@pytest.fixture
async def translated(gateway: ModelGateway) -> Callable[[Sent], dict[str, Any]]:
    """Return the function that translates chat messages into a request to Anthropic."""
    await gateway.warm_up()
    transformation: Any = importlib.import_module("litellm.llms.anthropic.chat.transformation")
    return lambda messages: transformation.AnthropicConfig().transform_request(
        model="claude-sonnet-4-5", messages=messages, optional_params={}, litellm_params={}, headers={}
    )


async def test_any_recorded_conversation_is_valid_for_anthropic(
    translated: Callable[[Sent], dict[str, Any]],
) -> None:
    @settings(max_examples=150, database=None)
    @given(free_histories())
    def check(history: list[MessageAdded]) -> None:
        sent = model_messages(history)
        if any(message["role"] != "system" for message in sent):  # litellm refuses to send an empty list
            request = translated(sent)
            check_anthropic(request["messages"])
            assert all(block["text"].strip() for block in request.get("system", ()))

    check()
