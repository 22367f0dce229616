"""A test client of the HTTP API, with common requests and turns as frames."""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx


class Frame(NamedTuple):
    """One server-sent event."""

    id: str
    event: str
    data: dict[str, Any]


class TurnAnswer(NamedTuple):
    """A streamed turn that is being read."""

    response: httpx.Response
    frames: Iterator[Frame]


class Api:
    """The API at a URL. `http` makes any other request."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def conversation(self, **body: Any) -> dict[str, Any]:
        """Start a conversation."""
        return created(self.http.post("/v1/conversations", json=body))

    def message(self, conversation_id: str, content: Any = "Hi", role: str = "user", **body: Any) -> dict[str, Any]:
        """Record a message."""
        path = f"/v1/conversations/{conversation_id}/messages"
        return created(self.http.post(path, json={"role": role, "content": content, **body}))

    def turn(self, conversation_id: str, model: str, **body: Any) -> httpx.Response:
        """Start a turn and wait for the whole answer."""
        path = f"/v1/conversations/{conversation_id}/turns"
        return self.http.post(path, json={"content": "Hi", "model": model, **body})

    @contextmanager
    def stream(
        self, conversation_id: str | None, model: str, headers: dict[str, str] | None = None, **body: Any
    ) -> Generator[TurnAnswer]:
        """Start a turn and yield its frames as they arrive.

        Without a conversation the turn starts a new one.
        """
        path = f"/v1/conversations/{conversation_id}/turns" if conversation_id else "/v1/turns"
        asked = {"content": "Hi", "model": model, "stream": True, **body}
        with self.http.stream("POST", path, json=asked, headers=headers) as response:
            yield TurnAnswer(response, frames_of(response))

    def get(self, path: str, **parameters: Any) -> Any:
        """Return an existing resource."""
        response = self.http.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def messages(self, conversation_id: str, **parameters: Any) -> list[dict[str, Any]]:
        """Return a page of the history."""
        return self.get(f"/v1/conversations/{conversation_id}/messages", **parameters)["data"]

    def events(self, conversation_id: str) -> list[dict[str, Any]]:
        """Return the first hundred recorded events."""
        return self.get(f"/v1/conversations/{conversation_id}/log", limit=100)["data"]

    def pages(self, path: str, **parameters: Any) -> list[list[dict[str, Any]]]:
        """Return all items of a paged list."""
        pages: list[list[dict[str, Any]]] = []
        cursor: str | None = None
        while True:
            page = self.get(path, **parameters, **({"cursor": cursor} if cursor else {}))
            assert page.keys() == {"data", "next_cursor"}
            pages.append(page["data"])
            cursor = page["next_cursor"]
            if cursor is None:
                return pages


def created(response: httpx.Response) -> dict[str, Any]:
    """Return the resource that a POST has created."""
    assert response.status_code == 201, response.text
    return response.json()


def frames_of(response: httpx.Response) -> Iterator[Frame]:
    """Yield the frames of an answer.

    Each frame has exactly three lines and a blank one. Silence of 15 s is a failure.
    """
    lines = response.iter_lines()
    assert (next(lines), next(lines)) == (": open", "")
    for line in lines:
        assert not line.startswith(":"), "the stream was silent for 15 s"
        fields = dict(field.split(": ", 1) for field in (line, next(lines), next(lines)))
        assert list(fields) == ["id", "event", "data"]
        assert next(lines) == ""
        yield Frame(fields["id"], fields["event"], json.loads(fields["data"]))
