"""The tool calls of a model as they are recorded."""

from typing import Any

import pytest

from turns.model.errors import ModelError
from turns.model.gateway_types import ToolCall
from turns.model_run import _tool_use  # pyright: ignore[reportPrivateUsage]

SIGNED = {"google": {"thought_signature": "c2ln"}}


def test_a_call_is_recorded_with_the_extra_content_of_its_provider() -> None:
    assert _tool_use(ToolCall("1", "f", {"a": 1}, SIGNED)).extra_content == SIGNED
    assert "extra_content" not in _tool_use(ToolCall("1", "f", {"a": 1})).model_dump()


def test_characters_that_cannot_be_stored_are_replaced() -> None:
    recorded = _tool_use(ToolCall("1", "f", {}, {"a\0": ["\ud800"]}))
    assert recorded.extra_content == {"a\ufffd": ["\ufffd"]}


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels > 1 else {}


@pytest.mark.parametrize(
    "extra", [{"a": "x" * 64 * 1024}, {"a": float("inf")}, nested(65)], ids=["too large", "infinite", "too deep"]
)
def test_a_call_whose_extra_content_cannot_be_stored_fails_the_turn(extra: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        _tool_use(ToolCall("1", "f", {}, extra))
