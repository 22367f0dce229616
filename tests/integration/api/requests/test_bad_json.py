"""Bodies that are not JSON or have the wrong type are refused, and not recorded."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.support.http.api_client import Api
from tests.support.http.refusals import CONVERSATION, TAKES_A_BODY, ask, check_invalid
from tests.support.http.resources import check_problem


@pytest.fixture(scope="module")
def id_(api: Api) -> Iterator[str]:
    """A conversation that accepts none of the requests of these tests."""
    id_ = api.conversation()["id"]
    yield id_
    assert [event["type"] for event in api.events(id_)] == ["ConversationStarted"]


@pytest.mark.parametrize(("method", "path", "body"), TAKES_A_BODY)
@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"nonsense",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"{} {}",
        b"{'single': 1}",
        b"{,}",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b"\0",
        b'{"title": "\xff"}',
        b'{"content": "\xc3"}',
        "{}".encode("utf-16"),
        b"[" * 100_000,
        b'{"metadata": ' + b'{"a":' * 100_000,
        b'{"metadata": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        b'{"metadata": {"n": ' + b"9" * 5000 + b"}}",
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(
    api: Api, id_: str, method: str, path: str, body: Any, content: bytes
) -> None:
    check_invalid(ask(api, method, path, id_, content), "body")


@pytest.mark.parametrize(("method", "path", "body"), TAKES_A_BODY)
def test_an_unknown_field_is_refused(api: Api, id_: str, method: str, path: str, body: Any) -> None:
    check_invalid(ask(api, method, path, id_, json.dumps({**body, "unknown": 1})), "body", "unknown")


@pytest.mark.parametrize(("method", "path", "body"), TAKES_A_BODY)
@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/xml", "é"])
def test_a_body_with_another_media_type_is_refused(
    api: Api, id_: str, method: str, path: str, body: Any, media_type: str
) -> None:
    headers = {b"Content-Type": media_type.encode()}
    response = api.http.request(method, path.format(id=id_), content=json.dumps(body) or b"{}", headers=headers)
    check_invalid(response, "header", "Content-Type")


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;x=y"])
def test_every_json_media_type_is_accepted(api: Api, media_type: str) -> None:
    response = api.http.post("/v1/conversations", content=b"{}", headers={"Content-Type": media_type})
    assert response.status_code == 201


@pytest.mark.parametrize(
    "text",
    [r'"\u0000"', r'"a\u0000b"', r'"\ud800"', r'"\udc00x"', r'"\ud83d"', r'"\ud83d\u0041"'],
    ids=["nul", "inner nul", "high surrogate", "low surrogate", "half an emoji", "broken pair"],
)
def test_characters_that_the_database_cannot_store_are_refused(api: Api, id_: str, text: str) -> None:
    bodies = [
        ("POST", "/v1/conversations", f'{{"title": {text}}}'),
        ("POST", "/v1/conversations", f'{{"metadata": {{"key": {text}}}}}'),
        ("POST", "/v1/conversations", f'{{"metadata": {{{text}: 1}}}}'),
        ("POST", "/v1/conversations", f'{{"agent_id": {text}}}'),
        ("PATCH", CONVERSATION, f'{{"title": {text}}}'),
        ("PATCH", CONVERSATION, f'{{"metadata": {{"key": [{text}]}}}}'),
        ("POST", f"{CONVERSATION}/turns", f'{{"content": "x", "model": {text}}}'),
        ("POST", f"{CONVERSATION}/turns", f'{{"content": "x", "metadata": {{{text}: 1}}}}'),
    ]
    contents = [
        text,
        f'[{{"type": "text", "text": {text}}}]',
        f'[{{"type": "context", "data": {{"a": {text}}}}}]',
        f'[{{"type": "context", "data": {{{text}: 1}}}}]',
        f'[{{"type": "image", "url": {text}}}]',
        f'[{{"type": "image", "media_type": "image/png", "data": {text}}}]',
        f'[{{"type": "image", "media_type": {text}, "data": "x"}}]',
        f'[{{"type": {text}}}]',
    ]
    messages = [
        ("POST", f"{CONVERSATION}/messages", f'{{"role": "user", "content": {content}}}') for content in contents
    ]
    turns = [("POST", f"{CONVERSATION}/turns", f'{{"content": {content}}}') for content in contents]
    tool = f'[{{"type": "tool_use", "id": {text}, "name": {text}, "input": {{"a": {text}}}}}]'
    result = f'[{{"type": "tool_result", "tool_use_id": {text}, "content": {text}}}]'
    others = [
        ("POST", f"{CONVERSATION}/messages", f'{{"role": "assistant", "content": {tool}}}'),
        ("POST", f"{CONVERSATION}/messages", f'{{"role": "tool", "content": {result}}}'),
        ("POST", f"{CONVERSATION}/messages", f'{{"role": {text}, "content": "x"}}'),
    ]
    for method, path, body in [*bodies, *messages, *turns, *others]:
        response = ask(api, method, path, id_, body)
        assert response.status_code in {415, 422}, (body, response.text)
        check_problem(response, response.status_code, response.json()["code"])


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999", "1e99999999999", "01", "+1", ".5"]
)
def test_numbers_that_are_invalid_or_infinite_are_refused(api: Api, id_: str, number: str) -> None:
    check_invalid(ask(api, "POST", "/v1/conversations", id_, f'{{"metadata": {{"n": {number}}}}}'), "body")
    context = f'{{"role": "user", "content": [{{"type": "context", "data": {{"n": {number}}}}}]}}'
    check_invalid(ask(api, "POST", f"{CONVERSATION}/messages", id_, context), "body")
    for name in ("temperature", "max_output_tokens", "max_context_tokens"):
        check_invalid(ask(api, "POST", f"{CONVERSATION}/turns", id_, f'{{"content": "x", "{name}": {number}}}'), "body")


@pytest.mark.parametrize(
    "number", ["0", "-0.0", "1e308", "5e-324", "0.1", "9007199254740993", "18446744073709551616", "-1" + "0" * 400]
)
def test_a_valid_number_is_returned_unchanged(api: Api, number: str) -> None:
    content = f'[{{"type": "context", "data": {{"n": {number}}}}}]'
    body = f'{{"metadata": {{"n": {number}}}, "messages": [{{"role": "user", "content": {content}}}]}}'
    started = _decimal(ask(api, "POST", "/v1/conversations", "", body))
    assert started["metadata"] == {"n": Decimal(number)}
    path = f"/v1/conversations/{started['id']}"
    assert _decimal(api.http.get(path)) == started
    (message,) = _decimal(api.http.get(f"{path}/messages"))["data"]
    assert message["content"][0]["data"] == {"n": Decimal(number)}
    assert _decimal(api.http.get(f"{path}/log"))["data"][0]["data"]["metadata"] == {"n": Decimal(number)}
    assert _decimal(api.http.get(f"{path}/context"))["dropped"] == 0
    again = _decimal(api.http.patch(path, json={"title": "T"}))
    assert again["metadata"] == started["metadata"]
    assert _decimal(api.http.get("/v1/conversations", params={"limit": 1}))["data"] == [again]


def _decimal(response: httpx.Response) -> Any:
    """Return a response's JSON with exact numbers."""
    assert response.is_success, response.text
    return json.loads(response.content, parse_float=Decimal, parse_int=Decimal)


def test_a_number_too_small_for_a_float_becomes_zero(api: Api) -> None:
    assert ask(api, "POST", "/v1/conversations", "", '{"metadata": {"n": 1e-400}}').json()["metadata"] == {"n": 0}


def test_the_last_of_two_equal_keys_counts(api: Api, id_: str) -> None:
    body = '{"title": "One", "metadata": {"a": 1, "a": 2}, "title": "Two"}'
    started = ask(api, "POST", "/v1/conversations", id_, body).json()
    assert (started["title"], started["metadata"]) == ("Two", {"a": 2})
    assert api.get(f"/v1/conversations/{started['id']}") == started


def test_metadata_has_a_limit_of_nesting(api: Api) -> None:
    def nested(levels: int) -> str:
        return '{"metadata": ' + '{"a":' * levels + "1" + "}" * (levels + 1)

    assert ask(api, "POST", "/v1/conversations", "", nested(60)).status_code == 201
    check_invalid(ask(api, "POST", "/v1/conversations", "", nested(100)), "body", "metadata")
