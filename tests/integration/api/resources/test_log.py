"""The recorded events of a conversation and of the whole log, for audit."""

import pytest

from eventlog.log_search import LogSearch
from tests.integration.api.conftest import GivenModel, Serve
from tests.support.http.api_client import Api
from tests.support.http.refusals import check_invalid
from tests.support.http.resources import EVENT_KEYS, check_event, check_problem


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


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_both_orders_hold_the_same_events(api: Api, order: str) -> None:
    id_ = api.conversation(messages=[{"role": "user", "content": "x"}] * 6)["id"]
    pages = api.pages(f"/v1/conversations/{id_}/log", limit=3, order=order)
    versions = [event["version"] for page in pages for event in page]
    assert versions == (list(range(1, 8)) if order == "asc" else list(range(7, 0, -1)))


def test_a_conversation_filters_by_actor_and_by_time(api: Api) -> None:
    id_ = api.conversation()["id"]
    for _ in range(3):
        api.message(id_)
    first, second, *_, last = api.events(id_)
    path = f"/v1/conversations/{id_}/log"
    assert api.get(path, actor="user:local")["data"] == api.events(id_)
    assert api.get(path, actor="user:alice") == {"data": [], "next_cursor": None}
    between = api.get(path, after=first["recorded_at"], before=last["recorded_at"])["data"]
    assert [event["version"] for event in between] == [2, 3]
    assert api.get(path, type="MessageAdded", before=second["recorded_at"])["data"] == []


def test_the_whole_log_holds_the_events_of_all_ones_conversations(fresh_api: Api, given_model: GivenModel) -> None:
    api = fresh_api
    ids = [api.conversation()["id"] for _ in range(2)]
    for id_ in (*ids, *ids):
        api.message(id_)
    api.turn(ids[0], given_model(["Hel", "lo"]))
    pages = api.pages("/v1/log", limit=3)
    assert {len(page) for page in pages[:-1]} == {3}
    events = [event for page in pages for event in page]
    assert [event["position"] for event in events] == list(range(1, len(events) + 1))
    assert sorted(events, key=lambda event: event["position"]) == sorted(
        [*api.events(ids[0]), *api.events(ids[1])], key=lambda event: event["position"]
    )
    newest = api.pages("/v1/log", limit=4, order="desc")
    assert [event for page in newest for event in page] == events[::-1]


def test_the_whole_log_filters_by_type_actor_and_time(fresh_api: Api) -> None:
    api = fresh_api
    ids = [api.conversation(title=title)["id"] for title in ("One", "Two")]
    for id_ in ids:
        api.message(id_)
    assert api.http.delete(f"/v1/conversations/{ids[0]}").status_code == 204
    log = api.get("/v1/log")["data"]
    assert [event["type"] for event in log] == [
        *["ConversationStarted", "ConversationStarted", "MessageAdded", "MessageAdded", "ConversationDeleted"]
    ]
    assert api.get("/v1/log", type="ConversationDeleted")["data"] == log[4:]
    assert api.get("/v1/log", type="MessageAdded", order="desc")["data"] == [log[3], log[2]]
    assert api.get("/v1/log", actor="user:local", type="MessageAdded", limit=1)["data"] == [log[2]]
    assert api.get("/v1/log", actor="user:alice")["data"] == []
    assert api.get("/v1/log", after=log[1]["recorded_at"], before=log[4]["recorded_at"])["data"] == log[2:4]
    assert api.get("/v1/log", after="2999-01-01T00:00:00Z") == {"data": [], "next_cursor": None}
    assert api.get("/v1/log", after="0001-01-01T00:00:00Z", before="9999-12-31T23:59:59Z")["data"] == log


def test_agents_are_in_the_whole_log_with_their_aggregate(fresh_api: Api) -> None:
    assert fresh_api.http.put("/v1/agents/support", json={"model": "gpt-4o"}).status_code == 201
    (event,) = fresh_api.get("/v1/log")["data"]
    assert event.keys() == EVENT_KEYS - {"conversation_id"} | {"aggregate", "aggregate_id"}
    assert (event["aggregate"], event["type"], event["data"]["agent_id"]) == ("agent", "AgentDefined", "support")


@pytest.mark.parametrize("path", ["/v1/log", "/v1/conversations/{id}/log"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", "Nothing"),
        ("actor", ""),
        ("actor", "a\0b"),
        ("actor", "x" * 513),
        ("after", "yesterday"),
        ("after", "4711"),
        ("before", "2026-01-01"),
        ("before", "2026-01-01T00:00:00"),
        ("order", "newest"),
        ("limit", "0"),
        ("limit", "101"),
    ],
)
def test_an_invalid_filter_is_refused(api: Api, id_: str, path: str, name: str, value: str) -> None:
    check_invalid(api.http.get(path.format(id=id_), params={name: value}), "query", name)


def test_a_cursor_is_of_one_log_with_its_filter_and_order(api: Api) -> None:
    paths = ["/v1/log", *(f"/v1/conversations/{api.conversation()['id']}/log" for _ in range(2))]
    for path in paths[1:]:
        for _ in range(2):
            api.message(path.split("/")[3])
    cursor = api.get(paths[1], limit=1)["next_cursor"]
    others: list[tuple[str, dict[str, str]]] = [(paths[0], {}), (paths[2], {})]
    filters = {"type": "MessageAdded", "actor": "user:local", "after": "2026-01-01T00:00:00Z", "order": "desc"}
    others += [(paths[1], {name: value}) for name, value in filters.items()]
    for path, query in others:
        check_problem(api.http.get(path, params={**query, "cursor": cursor}), 400, "INVALID_CURSOR")
    assert api.get(paths[1], limit=2, cursor=cursor)["data"] == api.events(paths[1].split("/")[3])[1:3]


def test_a_page_without_events_leads_to_the_next(
    database_url: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LogSearch.__init__, "__defaults__", (3, 3))  # a page reads three events
    with serve(database_url) as api:
        id_ = api.conversation(messages=[{"role": "user", "content": "x"}] * 8)["id"]
        for path in ("/v1/log", f"/v1/conversations/{id_}/log"):
            pages = api.pages(path, type="ConversationStarted", order="desc")
            assert [len(page) for page in pages] == [0, 0, 1]
