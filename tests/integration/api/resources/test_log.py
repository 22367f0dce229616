"""The recorded events of a conversation, for audit."""

from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.http.resources import check_event, check_problem


def test_the_log_has_every_event_in_order(api: Api, given_model: GivenModel) -> None:
    id_ = api.conversation(title="T")["id"]
    api.turn(id_, given_model(["Hel", "lo"]))
    events = api.events(id_)
    for event in events:
        check_event(event)
    assert [event["version"] for event in events] == list(range(1, len(events) + 1))
    positions = [event["position"] for event in events]
    assert positions == sorted(set(positions))
    types = [event["type"] for event in events if event["type"] != "StreamDelta"]
    assert types == ["ConversationStarted", "MessageAdded", "TurnStarted", "MessageAdded", "TurnCompleted"]
    assert events[0]["data"]["title"] == "T"
    assert {event["conversation_id"] for event in events} == {id_}


def test_an_event_names_the_request_that_caused_it(api: Api) -> None:
    started = api.http.post("/v1/conversations", json={}, headers={"X-Request-ID": "my-request"}).json()
    (event,) = api.events(started["id"])
    assert (event["request_id"], event["actor"]) == ("my-request", "user:local")


def test_a_request_without_an_id_gets_one(api: Api) -> None:
    for given in (b"", b"x" * 300, b"\xff", b"two words"):
        started = api.http.post("/v1/conversations", json={}, headers={b"X-Request-ID": given}).json()
        (event,) = api.events(started["id"])
        assert event["request_id"].isalnum()


def test_the_log_filters_by_type(api: Api) -> None:
    id_ = api.conversation(messages=[{"role": "user", "content": "x"}] * 3)["id"]
    pages = api.pages(f"/v1/conversations/{id_}/log", type="MessageAdded", limit=2)
    assert [[event["version"] for event in page] for page in pages] == [[2, 3], [4]]


def test_an_unknown_type_is_refused(api: Api) -> None:
    path = f"/v1/conversations/{api.conversation()['id']}/log"
    for type_ in ("Nothing", "", "\0", "ConversationSnapshot"):
        problem = check_problem(api.http.get(path, params={"type": type_}), 422, "VALIDATION_FAILED")
        assert problem["errors"][0]["loc"] == ["query", "type"]


def test_the_log_can_be_read_page_by_page(api: Api) -> None:
    id_ = api.conversation(messages=[{"role": "user", "content": "x"}] * 6)["id"]
    pages = api.pages(f"/v1/conversations/{id_}/log", limit=3)
    assert [[event["version"] for event in page] for page in pages] == [[1, 2, 3], [4, 5, 6], [7]]
