"""Conversations: start, read, list, change and delete."""

from uuid import uuid4

import pytest

from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.http.resources import check_conversation, check_position, check_problem
from tests.support.http.tool_turns import ADD, FIND
from tests.support.models.model_scripts import Hang


@pytest.fixture
def agent() -> str:
    """A label for this test."""
    return f"agent-{uuid4().hex[:12]}"


def listed(api: Api, **parameters: object) -> list[str]:
    return [item["id"] for item in api.get("/v1/conversations", **parameters)["data"]]


def test_an_empty_conversation_has_every_field(api: Api) -> None:
    response = api.http.post("/v1/conversations", json={})
    assert response.status_code == 201
    check_position(response)
    conversation = response.json()
    check_conversation(conversation)
    assert conversation["created_at"] == conversation["updated_at"]
    fields = {"agent_id": None, "title": None, "metadata": {}, "message_count": 0, "status": "idle", "version": 1}
    assert conversation.items() >= {**fields, "forked_from": None, "last_message_at": None}.items()


def test_a_conversation_can_start_without_a_body(api: Api) -> None:
    response = api.http.post("/v1/conversations")
    assert response.status_code == 201
    check_conversation(response.json())


def test_a_conversation_starts_with_the_given_values(api: Api, agent: str) -> None:
    metadata = {"tier": "gold", "nested": {"list": [1, 2.5, None, True, "é 🙂"]}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Hello"},
    ]
    started = api.conversation(title="Törn 🙂", metadata=metadata, agent_id=agent, messages=messages)
    check_conversation(started)
    assert started.items() >= {"title": "Törn 🙂", "metadata": metadata, "agent_id": agent}.items()
    assert (started["message_count"], started["version"]) == (3, 4)
    assert started["last_message_at"] is not None
    system, user, assistant = api.messages(started["id"])
    assert [system["role"], user["role"], assistant["role"]] == ["system", "user", "assistant"]
    assert assistant["in_reply_to"] == user["id"]


def test_a_read_returns_what_the_write_returned(api: Api) -> None:
    started = api.conversation(title="One", metadata={"b": 1, "a": [1.5]}, messages=[{"role": "user", "content": "x"}])
    assert api.get(f"/v1/conversations/{started['id']}") == started
    patched = api.http.patch(f"/v1/conversations/{started['id']}", json={"title": "Two"}).json()
    assert api.get(f"/v1/conversations/{started['id']}") == patched


def test_a_patch_changes_only_the_given_fields(api: Api) -> None:
    started = api.conversation(title="One", metadata={"a": 1})
    path = f"/v1/conversations/{started['id']}"
    response = api.http.patch(path, json={"title": "Two"})
    check_position(response)
    renamed = response.json()
    check_conversation(renamed)
    assert (renamed["title"], renamed["metadata"], renamed["version"]) == ("Two", {"a": 1}, 2)
    assert renamed["updated_at"] > started["updated_at"]
    replaced = api.http.patch(path, json={"metadata": {"b": 2}}).json()
    assert (replaced["title"], replaced["metadata"]) == ("Two", {"b": 2})
    cleared = api.http.patch(path, json={"title": None}).json()
    assert (cleared["title"], cleared["metadata"]) == (None, {"b": 2})


@pytest.mark.parametrize("changes", [{}, {"title": "Same"}, {"title": "Same", "metadata": {"a": 1}}])
def test_a_patch_that_changes_nothing_records_nothing(api: Api, changes: dict[str, object]) -> None:
    started = api.conversation(title="Same", metadata={"a": 1})
    response = api.http.patch(f"/v1/conversations/{started['id']}", json=changes)
    check_position(response)
    assert response.json() == started
    assert len(api.events(started["id"])) == 1


def test_true_and_one_are_different_values_in_a_patch(api: Api) -> None:
    started = api.conversation(metadata={"flag": True})
    changed = api.http.patch(f"/v1/conversations/{started['id']}", json={"metadata": {"flag": 1}}).json()
    assert changed["metadata"]["flag"] is not True


def test_the_etag_is_the_version(api: Api) -> None:
    id_ = api.conversation()["id"]
    assert api.http.get(f"/v1/conversations/{id_}").headers["etag"] == '"1"'
    patched = api.http.patch(f"/v1/conversations/{id_}", json={"title": "T"})
    assert patched.headers["etag"] == '"2"' == api.http.get(f"/v1/conversations/{id_}").headers["etag"]


MATCHING = ['"1"', "*", '"2", "1"', '"2","1"', '"a,b" , ,"1"', 'W/"1", "1"', ',"1",', '"é", "1"']


@pytest.mark.parametrize("tag", MATCHING)
def test_if_match_accepts_the_current_version(api: Api, tag: str) -> None:
    path = f"/v1/conversations/{api.conversation()['id']}"
    headers = {b"If-Match": tag.encode("latin-1")}
    assert api.http.patch(path, json={"title": "T"}, headers=headers).status_code == 200


def test_if_match_may_have_several_headers(api: Api) -> None:
    path = f"/v1/conversations/{api.conversation()['id']}"
    headers = [("If-Match", '"7"'), ("X-Other", "x"), ("If-Match", '"1"'), ("If-Match", '"9"')]
    assert api.http.patch(path, json={"title": "T"}, headers=headers).status_code == 200
    check_problem(api.http.patch(path, json={"title": "U"}, headers=headers), 412, "VERSION_MISMATCH")


OTHERS = ['"2"', '"0"', '"x"', "", '"99999999999999999999"', '"-1"', 'W/"1"', 'W/"1", "2"', '"01"', ","]


@pytest.mark.parametrize("tag", OTHERS)
def test_if_match_refuses_every_other_version(api: Api, tag: str) -> None:
    path = f"/v1/conversations/{api.conversation()['id']}"
    headers = {"If-Match": tag}
    check_problem(api.http.patch(path, json={"title": "T"}, headers=headers), 412, "VERSION_MISMATCH")
    check_problem(api.http.delete(path, headers=headers), 412, "VERSION_MISMATCH")
    assert api.get(path)["version"] == 1


@pytest.mark.parametrize("tag", ["1", "x", '"1', '1"', '"1" "2"', '*, "1"', "**", 'w/"1"', '"1";', "' '", '"a"b"'])
def test_a_malformed_if_match_is_refused(api: Api, tag: str) -> None:
    path = f"/v1/conversations/{api.conversation()['id']}"
    for method in ("PATCH", "DELETE"):
        response = api.http.request(method, path, headers={"If-Match": tag})
        problem = check_problem(response, 422, "VALIDATION_FAILED")
        assert problem["errors"][0]["loc"] == ["header", "If-Match"]
    assert api.get(path)["version"] == 1


def test_if_match_star_needs_an_existing_conversation(api: Api) -> None:
    path = f"/v1/conversations/{api.conversation()['id']}"
    assert api.http.delete(path).status_code == 204
    check_problem(api.http.patch(path, json={}, headers={"If-Match": "*"}), 410, "CONVERSATION_DELETED")


def test_if_match_accepts_a_delete_of_the_current_version(api: Api) -> None:
    path = f"/v1/conversations/{api.conversation()['id']}"
    assert api.http.delete(path, headers={"If-Match": '"1"'}).status_code == 204


def test_a_deleted_conversation_leaves_every_view_and_stays_in_the_log(api: Api, agent: str) -> None:
    started = api.conversation(agent_id=agent, messages=[{"role": "user", "content": "x"}])
    message = api.messages(started["id"])[0]
    path = f"/v1/conversations/{started['id']}"
    response = api.http.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    check_position(response)
    message_path = f"{path}/messages/{message['id']}"
    for view in (path, f"{path}/messages", message_path, f"{path}/turns", f"{path}/context"):
        check_problem(api.http.get(view), 410, "CONVERSATION_DELETED")
    assert listed(api, agent_id=agent) == []
    assert [event["type"] for event in api.events(started["id"])][-1] == "ConversationDeleted"


def test_a_deleted_conversation_refuses_every_write(api: Api) -> None:
    path = f"/v1/conversations/{api.conversation()['id']}"
    api.http.delete(path)
    writes = [
        api.http.delete(path),
        api.http.patch(path, json={"title": "T"}),
        api.http.post(f"{path}/messages", json={"role": "user", "content": "x"}),
        api.http.post(f"{path}/turns", json={"content": "x"}),
        api.http.post(f"{path}/turns", json={"content": "x", "stream": True}),
        api.http.post(f"{path}/turns/{uuid4()}/cancel"),
        api.http.delete(f"{path}/messages/{uuid4()}"),
    ]
    for response in writes:
        check_problem(response, 410, "CONVERSATION_DELETED")


def test_the_most_recently_active_conversation_is_listed_first(api: Api, agent: str) -> None:
    first, second, third = (api.conversation(agent_id=agent)["id"] for _ in range(3))
    assert listed(api, agent_id=agent) == [third, second, first]
    api.message(first)
    assert listed(api, agent_id=agent) == [first, third, second]


def test_a_listed_conversation_equals_the_conversation(api: Api, agent: str) -> None:
    id_ = api.conversation(agent_id=agent, metadata={"a": {"b": 1}})["id"]
    api.message(id_)
    (item,) = api.get("/v1/conversations", agent_id=agent)["data"]
    check_conversation(item)
    assert item == api.get(f"/v1/conversations/{id_}")


def test_the_list_filters_by_metadata(api: Api, agent: str) -> None:
    gold = api.conversation(agent_id=agent, metadata={"tier": "gold", "n": 5, "on": True, "dotted.key": "x"})["id"]
    silver = api.conversation(agent_id=agent, metadata={"tier": "silver"})["id"]
    bare = api.conversation(agent_id=agent)["id"]
    assert listed(api, agent_id=agent) == [bare, silver, gold]
    assert listed(api, agent_id=agent, **{"metadata.tier": "gold"}) == [gold]
    assert listed(api, agent_id=agent, **{"metadata.tier": "gold", "metadata.n": "5"}) == [gold]
    assert listed(api, agent_id=agent, **{"metadata.on": "true"}) == [gold]
    assert listed(api, agent_id=agent, **{"metadata.dotted.key": "x"}) == [gold]
    assert listed(api, agent_id=agent, **{"metadata.tier": "gold", "metadata.missing": "x"}) == []
    assert listed(api, agent_id=agent, **{"metadata.missing": "x"}) == []
    assert listed(api, agent_id=agent, **{"metadata.tier": "gol"}) == []


def test_a_repeated_metadata_filter_is_refused(api: Api, agent: str) -> None:
    api.conversation(agent_id=agent, metadata={"tier": "gold"})
    response = api.http.get("/v1/conversations", params={"agent_id": agent, "metadata.tier": ["silver", "gold"]})
    check_problem(response, 422, "VALIDATION_FAILED")


@pytest.mark.parametrize(
    ("search", "found"),
    [("orange", True), ("ORANGE", True), ("50%", True), ("a_b", True), ("\\", True), ("axb", False), ("5%f", False)],
)
def test_the_search_in_titles_is_literal(api: Api, agent: str, search: str, found: bool) -> None:
    id_ = api.conversation(agent_id=agent, title=r"An Orange: 50% off a_b \o/")["id"]
    api.conversation(agent_id=agent)
    assert listed(api, agent_id=agent, q=search) == ([id_] if found else [])


def test_the_list_filters_by_status(api: Api, agent: str, given_model: GivenModel, calling_model: str) -> None:
    idle = api.conversation(agent_id=agent)["id"]
    waiting = api.conversation(agent_id=agent)["id"]
    assert api.turn(waiting, calling_model, tools=[ADD, FIND]).status_code == 201
    running = api.conversation(agent_id=agent)["id"]
    with api.stream(running, given_model(["one", Hang()])) as turn:
        next(turn.frames)
        for status, id_ in {"idle": idle, "requires_action": waiting, "running": running}.items():
            found = api.get("/v1/conversations", agent_id=agent, status=status)["data"]
            assert [(each["id"], each["status"]) for each in found] == [(id_, status)]


def test_the_list_filters_by_the_time_of_the_last_message(api: Api, agent: str) -> None:
    first, second = (api.conversation(agent_id=agent) for _ in range(2))
    last = api.message(first["id"])["created_at"]
    assert listed(api, agent_id=agent, active_after=second["created_at"]) == [first["id"]]
    assert listed(api, agent_id=agent, active_after=last) == []
    assert listed(api, agent_id=agent, active_before=last) == [second["id"]]
    assert listed(api, agent_id=agent, active_after=last, active_before=second["created_at"]) == []


def test_the_list_is_sorted_by_activity_creation_or_title(api: Api, agent: str) -> None:
    titles = ["Zebra", None, "apple", "Äpfel", "Banana"]
    ids = {title: api.conversation(agent_id=agent, title=title)["id"] for title in titles}
    api.message(ids["Zebra"])
    by_title = ["Äpfel", "apple", "Banana", "Zebra", None]
    assert listed(api, agent_id=agent, sort="title") == [ids[title] for title in by_title]
    assert listed(api, agent_id=agent, sort="created") == [ids[title] for title in reversed(titles)]
    by_activity = ["Zebra", "Banana", "Äpfel", "apple", None]
    for parameters in ({}, {"sort": "active"}):
        assert listed(api, agent_id=agent, **parameters) == [ids[title] for title in by_activity]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("status", value) for value in ("", "busy", "Idle", "idle,running", "null")],
        *[("sort", value) for value in ("", "updated", "-active", "active,title", "ACTIVE")],
        *[
            (name, value)
            for name in ("active_after", "active_before")
            for value in (
                "",
                "now",
                "1700000000",
                "2026-01-31",
                "2026-01-31T12:00:00",
                "2026-02-30T12:00:00Z",
                "2026-01-31T24:00:00Z",
                "2026-01-31T12:00:60Z",
                "2026-01-31T12:00:00+24:00",
                "0001-01-01T00:00:00+23:59",
                "9999-12-31T23:59:59-23:59",
                "\uff12026-01-31T12:00:00Z",
                "2026-01-31T12:00:00Z\n",
            )
        ],
    ],
)
def test_an_invalid_filter_or_order_is_refused(api: Api, name: str, value: str) -> None:
    problem = check_problem(api.http.get("/v1/conversations", params={name: value}), 422, "VALIDATION_FAILED")
    assert problem["errors"][0]["loc"] == ["query", name]


@pytest.mark.parametrize(
    "time", ["2026-01-31T12:00:00Z", "2026-01-31t12:00:00.5z", "2026-01-31T12:00:00.123456789-00:30"]
)
def test_a_time_in_rfc_3339_is_accepted(api: Api, agent: str, time: str) -> None:
    assert listed(api, agent_id=agent, active_before=time) == []


def test_a_plus_in_a_time_need_not_be_escaped(api: Api, agent: str) -> None:
    assert api.http.get(f"/v1/conversations?agent_id={agent}&active_after=2026-01-31T12:00:00+02:00").status_code == 200


@pytest.mark.parametrize("name", ["status", "sort", "active_after"])
def test_a_filter_is_given_once(api: Api, name: str) -> None:
    value = {"status": "idle", "sort": "title", "active_after": "2026-01-31T12:00:00Z"}[name]
    response = api.http.get(f"/v1/conversations?{name}={value}&{name}={value}")
    assert check_problem(response, 422, "VALIDATION_FAILED")["errors"][0]["loc"] == ["query", name]


def test_clearing_the_history_of_an_agent_keeps_the_others(api: Api, agent: str) -> None:
    mine = [api.conversation(agent_id=agent)["id"] for _ in range(3)]
    other = api.conversation(agent_id=f"{agent}-other")["id"]
    response = api.http.delete("/v1/conversations", params={"agent_id": agent})
    assert (response.status_code, response.json()) == (200, {"deleted": 3})
    check_position(response)
    for id_ in mine:
        check_problem(api.http.get(f"/v1/conversations/{id_}"), 410, "CONVERSATION_DELETED")
    assert api.get(f"/v1/conversations/{other}")["id"] == other
    again = api.http.delete("/v1/conversations", params={"agent_id": agent})
    assert again.json() == {"deleted": 0}
    check_position(again)


def test_clearing_the_history_deletes_everything(fresh_api: Api) -> None:
    ids = [fresh_api.conversation()["id"] for _ in range(40)]
    assert fresh_api.http.delete("/v1/conversations").json() == {"deleted": len(ids)}
    assert listed(fresh_api) == []


@pytest.mark.parametrize("label", ["a", "A-Z_0.9", "x" * 128])
def test_a_valid_agent_label_is_accepted(api: Api, label: str) -> None:
    assert api.conversation(agent_id=label)["agent_id"] == label


@pytest.mark.parametrize("label", ["", "x" * 129, "a b", "é", "a\n", "a/b", "\0"])
def test_an_invalid_agent_label_is_refused(api: Api, label: str) -> None:
    problem = check_problem(api.http.post("/v1/conversations", json={"agent_id": label}), 422, "VALIDATION_FAILED")
    assert problem["errors"][0]["loc"] == ["body", "agent_id"]
    check_problem(api.http.get("/v1/conversations", params={"agent_id": label}), 422, "VALIDATION_FAILED")
