"""The events of streams are what the OpenAPI document describes."""

from collections.abc import Sequence

import httpx
import pytest

from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.http.openapi_document import EVENT_STREAM, Schema, application_document, events_in
from tests.support.http.tool_turns import ADD, ANSWER, CALLS, FIND, RESULTS, results_path, waiting
from tests.support.models.model_scripts import Reasoning, Refusal, Script, Step

DOCUMENT = application_document()
TURN = "/v1/conversations/{conversation_id}/turns/{turn_id}"


def schema_of(path: str, method: str = "get") -> Schema:
    answer = DOCUMENT.content["paths"][path][method]["responses"]["200"]
    return answer["content"][EVENT_STREAM]["schema"]


def check_events(schema: Schema, content: str) -> list[str]:
    """Check all events of a stream and return their names."""
    events = list(events_in(content))
    for event in events:
        DOCUMENT.check_event(schema, event)
    return [event["event"] for event in events]


def started(response: httpx.Response) -> str:
    """Return the turn of a stream."""
    return response.text.partition('"turn_id":"')[2].partition('"')[0]


@pytest.mark.parametrize(
    ("answer", "last"),
    [
        ([Reasoning("Let me think."), "Hello", " there"], "turn.completed"),
        (Refusal(400, "No."), "turn.failed"),
    ],
    ids=["completed", "failed"],
)
def test_the_frames_of_a_turn(
    api: Api, given_model: GivenModel, id_: str, answer: Sequence[Step] | Refusal, last: str
) -> None:
    model = given_model(answer if isinstance(answer, Refusal) else Script(list(answer)))
    body = {"content": "Hi", "model": model, "stream": True}
    live = api.http.post(f"/v1/conversations/{id_}/turns", json=body)
    names = check_events(schema_of("/v1/conversations/{conversation_id}/turns", "post"), live.text)
    assert (names[0], names[-1]) == ("turn.started", last)
    again = api.http.get(f"/v1/conversations/{id_}/turns/{started(live)}/stream")
    assert check_events(schema_of(f"{TURN}/stream"), again.text) == names


def test_the_frames_of_a_turn_with_tools(api: Api, given_model: GivenModel, id_: str) -> None:
    turn = waiting(api, id_, given_model(CALLS, ANSWER))
    before = api.http.get(f"/v1/conversations/{id_}/turns/{turn['id']}/stream")
    names = check_events(schema_of(f"{TURN}/stream"), before.text)
    assert {"tool_use", "turn.requires_action"} <= set(names)
    after = api.http.post(results_path(turn), json={"results": RESULTS, "stream": True})
    assert check_events(schema_of(f"{TURN}/tool_results", "post"), after.text)[-1] == "turn.completed"


def test_the_frames_of_a_cancelled_turn(api: Api, id_: str) -> None:
    turn = api.http.post(f"/v1/conversations/{id_}/turns", json={"content": "Hi", "generate": False}).json()
    assert api.http.post(f"/v1/conversations/{id_}/turns/{turn['id']}/cancel").status_code == 200
    content = api.http.get(f"/v1/conversations/{id_}/turns/{turn['id']}/stream").text
    assert check_events(schema_of(f"{TURN}/stream"), content)[-1] == "turn.cancelled"


@pytest.mark.parametrize("path", ["/v1/events", "/v1/conversations/{conversation_id}/events"])
def test_the_recorded_events_of_a_feed(api: Api, given_model: GivenModel, id_: str, path: str) -> None:
    model = given_model(Script(["Hello"]))
    assert api.turn(id_, model, tools=[ADD, FIND]).status_code == 201
    recorded = len(api.events(id_))
    parameters = {"conversation_id": id_} if path == "/v1/events" else {}
    content = ""
    given = path.format(conversation_id=id_)
    with api.http.stream("GET", given, params=parameters, headers={"Last-Event-ID": "0"}) as response:
        for piece in response.iter_text():
            content += piece
            if content.count("\n\n") > recorded:
                break
    whole = content[: content.rindex("\n\n")]
    names = check_events(schema_of(path), whole)
    assert names[0] == "ConversationStarted"
    assert "TurnCompleted" in names
