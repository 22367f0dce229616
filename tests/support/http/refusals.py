"""Requests that the API must refuse, and the shape of a refusal."""

import httpx

from tests.support.http.api_client import Api
from tests.support.http.resources import check_problem

JSON = {"Content-Type": "application/json"}
CONVERSATION = "/v1/conversations/{id}"
TAKES_A_BODY = [
    ("POST", "/v1/conversations", {}),
    ("PATCH", CONVERSATION, {}),
    ("POST", f"{CONVERSATION}/messages", {"role": "user", "content": "x"}),
    ("POST", f"{CONVERSATION}/turns", {"content": "x"}),
    ("POST", "/v1/turns", {"content": "x"}),
    ("PUT", "/v1/agents/{id}", {}),
]
TAKES_A_QUERY = [
    ("GET", "/v1/conversations"),
    ("DELETE", "/v1/conversations"),
    ("GET", f"{CONVERSATION}/messages"),
    ("GET", f"{CONVERSATION}/turns"),
    ("GET", f"{CONVERSATION}/context"),
    ("GET", f"{CONVERSATION}/log"),
    ("GET", "/v1/log"),
    ("GET", "/v1/agents"),
]
ROUTES = [
    *[(method, path) for method, path, _ in TAKES_A_BODY],
    *TAKES_A_QUERY,
    ("GET", CONVERSATION),
    ("DELETE", CONVERSATION),
    ("GET", f"{CONVERSATION}/messages/{{other}}"),
    ("DELETE", f"{CONVERSATION}/messages/{{other}}"),
    ("GET", f"{CONVERSATION}/turns/{{other}}"),
    ("POST", f"{CONVERSATION}/turns/{{other}}/cancel"),
]


def ask(api: Api, method: str, path: str, id_: str, content: bytes | str, **headers: str) -> httpx.Response:
    return api.http.request(method, path.format(id=id_), content=content, headers={**JSON, **headers})


def check_invalid(response: httpx.Response, *loc: str | int) -> None:
    """Check that a refusal is a validation problem with an error at `loc`."""
    problem = check_problem(response, 422, "VALIDATION_FAILED")
    assert problem["errors"]
    if loc:
        assert list(loc) in [error["loc"][: len(loc)] for error in problem["errors"]]
