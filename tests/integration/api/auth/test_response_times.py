"""The time of an answer does not tell another owner's resource from a missing one."""

import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from statistics import median, quantiles
from time import perf_counter
from typing import Any
from uuid import uuid4

import pytest

from tests.support.http.callers import Caller, Guarded

REQUESTS = 200

REQUESTS_OF: dict[str, tuple[str, str, Any]] = {
    "read": ("GET", "", None),
    "read the messages": ("GET", "/messages", None),
    "read the context": ("GET", "/context", None),
    "read a turn": ("GET", f"/turns/{uuid4()}", None),
    "read the log": ("GET", "/log", None),
    "add a message": ("POST", "/messages", {"role": "user", "content": "Hello"}),
    "update": ("PATCH", "", {"title": "another"}),
    "start a turn": ("POST", "/turns", {"content": "Hello", "generate": False}),
    "give tool results": (
        "POST",
        f"/turns/{uuid4()}/tool_results",
        {"results": [{"tool_use_id": "call", "content": "42"}]},
    ),
    "cancel a turn": ("POST", f"/turns/{uuid4()}/cancel", None),
    "delete": ("DELETE", "", None),
}


@pytest.fixture(scope="module")
def large(guarded: Guarded) -> str:
    """A conversation whose state and listing row take long to read."""
    owner = guarded.caller("user")
    conversation = owner.conversation(metadata={"padding": "x" * 60_000})
    path = f"/v1/conversations/{conversation['id']}"
    for _ in range(60):
        message = {"role": "user", "content": "word " * 2_000}
        assert owner.send("POST", f"{path}/messages", json=message).status_code == 201
    return path


@pytest.fixture(scope="module")
def stranger(guarded: Guarded) -> Caller:
    return guarded.caller("user")


@pytest.fixture(scope="module")
def connection(guarded: Guarded) -> Iterator[HTTPConnection]:
    """A connection of a client that takes little time itself."""
    url = guarded.api.http.base_url
    with closing(HTTPConnection(url.host, url.port)) as connection:
        yield connection


@pytest.mark.parametrize("name", REQUESTS_OF)
def test_another_owners_conversation_takes_as_long_as_a_missing_one(
    stranger: Caller, connection: HTTPConnection, large: str, name: str
) -> None:
    method, rest, body = REQUESTS_OF[name]
    content = None if body is None else json.dumps(body)
    headers = stranger.headers if body is None else {**stranger.headers, "Content-Type": "application/json"}

    def duration_s(path: str) -> float:
        began = perf_counter()
        connection.request(method, f"{path}{rest}", content, headers)
        response = connection.getresponse()
        answer = response.read()
        took_s = perf_counter() - began
        assert response.status == 404, answer
        return took_s

    # The two alternate, so that a slow moment of the machine affects both.
    pairs = [(duration_s(large), duration_s(f"/v1/conversations/{uuid4()}")) for _ in range(REQUESTS)]
    differences = [others - missing for others, missing in pairs]
    low, _, high = quantiles(differences, n=4)
    # The noise of the machine is the spread of the differences. The median of so many lies well inside of it.
    assert abs(median(differences)) < (high - low) / 2, f"{name}: {median(differences):.6f} of {low:.6f} to {high:.6f}"
