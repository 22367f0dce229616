"""No request gets a 500."""

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.http.api_client import Api
from tests.support.http.refusals import JSON, ROUTES
from tests.support.http.resources import check_problem

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["user", "text", "image", "image/png", "asc", "\0", "\ud800", "turnlog/demo", "", "1e999"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    [
        "title",
        "metadata",
        "agent_id",
        "messages",
        "role",
        "content",
        "in_reply_to",
        "type",
        "text",
        "media_type",
        "data",
        "url",
        "id",
        "name",
        "input",
        "temperature",
        "max_output_tokens",
        "max_context_tokens",
        "tool_use_id",
        "is_error",
        "on_busy",
        "generate",
    ]
)
bodies = st.dictionaries(names, values | st.lists(st.dictionaries(names, values, max_size=4), max_size=2), max_size=5)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize(("method", "path"), ROUTES)
@given(body=bodies, parameters=st.dictionaries(st.sampled_from(["limit", "cursor", "q", "order", "last"]), st.text()))
def test_no_request_breaks_the_server(
    api: Api, method: str, path: str, body: dict[str, Any], parameters: dict[str, str]
) -> None:
    query = {name: value.encode("utf-8", "replace").decode() for name, value in parameters.items()}
    if (method, path) == ("DELETE", "/v1/conversations"):
        query["agent_id"] = "nobody"
    response = api.http.request(
        method,
        path.format(id=uuid4(), other=uuid4()),
        params=query if method != "POST" else None,
        content=json.dumps({**body, "model": "no-such-model"} if path.endswith("turns") else body),
        headers=JSON,
    )
    assert response.status_code < 500 or response.json()["code"] == "MODEL_ERROR", response.text
    if response.status_code >= 400:
        check_problem(response, response.status_code, response.json()["code"], *_members(response))


def _members(response: httpx.Response) -> list[str]:
    return ["conversation_id", "turn_id", "error"] if response.status_code == 502 else []
