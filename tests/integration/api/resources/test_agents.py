"""The routes of agents."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.http.api_client import Api
from tests.support.http.refusals import JSON, check_invalid
from tests.support.http.resources import check_position, check_problem
from tests.support.waiting import eventually

KEYS = {
    *("id", "object", "owner_id", "shared", "system_prompt", "model", "max_context_tokens", "temperature", "tools"),
    *("max_conversations", "retain_days", "tool_results_timeout_s", "created_at", "updated_at", "version"),
}
TOOL = {"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}
EVERYTHING: dict[str, Any] = {
    "system_prompt": "Be brief.",
    "model": "gpt-4o",
    "max_context_tokens": 4000,
    "temperature": 0.5,
    "tools": [TOOL],
    "max_conversations": 3,
    "retain_days": 30,
    "tool_results_timeout_s": 1.5,
}
NOTHING: dict[str, Any] = {**dict.fromkeys(EVERYTHING), "tools": []}


@pytest.fixture
def label() -> str:
    """The label of an agent for this test."""
    return f"agent-{uuid4().hex}"


def path(label: str) -> str:
    return f"/v1/agents/{label}"


def test_an_agent_is_defined_read_replaced_and_deleted(api: Api, label: str) -> None:
    response = api.http.put(path(label), json=EVERYTHING)
    assert response.status_code == 201
    check_position(response)
    defined = response.json()
    assert defined.keys() == KEYS
    assert defined.items() >= {"id": label, "object": "agent", "owner_id": "local", "shared": False}.items()
    assert {name: defined[name] for name in EVERYTHING} == EVERYTHING
    assert (defined["version"], defined["created_at"]) == (1, defined["updated_at"])
    assert api.get(path(label)) == defined
    assert defined in [agent for page in api.pages("/v1/agents", limit=100) for agent in page]

    response = api.http.put(path(label), json={"model": "gpt-4o-mini"})
    assert response.status_code == 200
    replaced = response.json()
    assert {name: replaced[name] for name in EVERYTHING} == {**NOTHING, "model": "gpt-4o-mini"}
    assert (replaced["version"], replaced["created_at"]) == (2, defined["created_at"])
    assert replaced["updated_at"] > defined["updated_at"]

    response = api.http.delete(path(label))
    assert response.status_code == 204
    check_position(response)
    check_problem(api.http.get(path(label)), 404, "AGENT_NOT_FOUND")
    check_problem(api.http.delete(path(label)), 404, "AGENT_NOT_FOUND")
    assert label not in [agent["id"] for page in api.pages("/v1/agents", limit=100) for agent in page]
    assert api.http.put(path(label)).status_code == 201


def test_the_same_settings_again_change_nothing(api: Api, label: str) -> None:
    defined = api.http.put(path(label), json=EVERYTHING).json()
    response = api.http.put(path(label), json=EVERYTHING)
    assert (response.status_code, response.json()) == (200, defined)
    check_position(response)


def test_an_absent_setting_and_null_are_the_same(api: Api, label: str) -> None:
    absent = api.http.put(path(label), json={}).json()
    null = api.http.put(path(label), json={name: None for name in EVERYTHING if name != "tools"})
    assert (null.status_code, null.json()) == (200, absent)


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"system_prompt": ""}, "system_prompt"),
        ({"system_prompt": "x\0"}, "system_prompt"),
        ({"system_prompt": "ü" * (512 * 1024 + 1)}, "system_prompt"),
        ({"model": ""}, "model"),
        ({"model": "x" * 257}, "model"),
        ({"max_context_tokens": 0}, "max_context_tokens"),
        ({"max_context_tokens": "5"}, "max_context_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{**TOOL, "name": f"n{number}"} for number in range(129)]}, "tools"),
        ({"max_conversations": 0}, "max_conversations"),
        ({"retain_days": 36_501}, "retain_days"),
        ({"tool_results_timeout_s": 0}, "tool_results_timeout_s"),
        ({"max_output_tokens": 5}, "max_output_tokens"),
    ],
)
def test_a_definition_is_validated(api: Api, label: str, body: dict[str, Any], loc: str) -> None:
    check_invalid(api.http.put(path(label), json=body), "body", loc)
    check_problem(api.http.get(path(label)), 404, "AGENT_NOT_FOUND")


@pytest.mark.parametrize(
    "body",
    [
        b'{"temperature": NaN}',
        b'{"temperature": 1e400}',
        b'{"temperature": true}',
        b'{"max_context_tokens": 5.5}',
        b'{"max_conversations": 1' + b"0" * 400 + b"}",
        b'{"max_conversations": true}',
        b'{"tool_results_timeout_s": Infinity}',
        b'{"system_prompt": "\\ud800"}',
        b'{"system_prompt": ["x"]}',
        b'{"tools": null}',
        b'{"tools": {}}',
        b'{"tools": [{"name": "add"}]}',
        b'{"tools": [{"name": "a b", "input_schema": {}}]}',
        b'{"tools": [{"name": "add", "input_schema": {"n": NaN}}]}',
        b'{"tools": [{"name": "add", "input_schema": {"\\u0000": 1}}]}',
        b'{"tools": [{"name": "add", "input_schema": {}, "strict": true}]}',
        b'{"tools": [{"name": "add", "input_schema": ' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"}]}",
        b'{"owner_id": "bob"}',
        b"[]",
        b"null",
    ],
)
def test_a_definition_of_another_form_is_refused(api: Api, label: str, body: bytes) -> None:
    response = api.http.put(path(label), content=body, headers=JSON)
    check_invalid(response, "body")
    check_problem(api.http.get(path(label)), 404, "AGENT_NOT_FOUND")


@pytest.mark.parametrize("label", ["x" * 129, "x" * 5000, "a b", "ü", "٣", "x%09", "x%00", "%ff", "%ed%a0%80"])
def test_what_is_no_label_names_no_agent_and_cannot_be_defined(api: Api, label: str) -> None:
    check_problem(api.http.get(path(label)), 404, "AGENT_NOT_FOUND")
    check_problem(api.http.delete(path(label)), 404, "AGENT_NOT_FOUND")
    check_invalid(api.http.put(path(label), json={}), "path", "agent_id")


def test_a_change_of_an_agent_can_name_its_version(api: Api, label: str) -> None:
    first = api.http.put(path(label), json={})
    second = api.http.put(path(label), json={"model": "two"}, headers={"If-Match": first.headers["etag"]})
    assert (first.headers["etag"], second.headers["etag"], second.status_code) == ('"1"', '"2"', 200)
    assert api.http.get(path(label)).headers["etag"] == '"2"'
    again = api.http.put(path(label), json={"model": "two"}, headers={"If-Match": "*"})
    assert (again.status_code, again.headers["etag"]) == (200, '"2"')
    for tag in ('"1"', 'W/"2"', '"x"', '"99999999999999999999"'):
        for response in (
            api.http.put(path(label), json={}, headers={"If-Match": tag}),
            api.http.delete(path(label), headers={"If-Match": tag}),
        ):
            problem = check_problem(response, 412, "VERSION_MISMATCH")
            assert problem["detail"].startswith("The agent is at version 2")
    check_invalid(api.http.put(path(label), json={}, headers={"If-Match": "2"}), "header", "If-Match")
    check_invalid(api.http.delete(path(label), headers={"If-Match": "2"}), "header", "If-Match")
    assert api.get(path(label)) == second.json()
    assert api.http.delete(path(label), headers={"If-Match": '"1", "2"'}).status_code == 204
    check_problem(api.http.delete(path(label), headers={"If-Match": "*"}), 404, "AGENT_NOT_FOUND")
    for tag in ("*", '"3"', '"2"'):
        problem = check_problem(api.http.put(path(label), json={}, headers={"If-Match": tag}), 412, "VERSION_MISMATCH")
        assert problem["detail"] == "The agent does not exist."
    assert api.http.put(path(label), json={}).headers["etag"] == '"4"'


def test_the_version_of_a_shared_agent_is_none_of_ones_own(api: Api, label: str) -> None:
    shared = api.http.put(path(label), params={"shared": "true"}, json={})
    seen = api.http.get(path(label)).headers["etag"]
    assert seen == shared.headers["etag"]
    check_problem(api.http.put(path(label), json={}, headers={"If-Match": seen}), 412, "VERSION_MISMATCH")
    changed = api.http.put(path(label), params={"shared": "true"}, json={"model": "x"}, headers={"If-Match": seen})
    assert changed.status_code == 200
    assert api.http.delete(path(label), params={"shared": "true"}).status_code == 204


def test_an_agent_as_of_a_moment_has_the_entity_tag_of_then(api: Api, label: str) -> None:
    first = check_position(api.http.put(path(label), json={}))
    api.http.put(path(label), json={"model": "two"})
    assert api.http.get(path(label), params={"as_of": first}).headers["etag"] == '"1"'


def test_settings_with_large_numbers_are_the_same_again(api: Api, label: str) -> None:
    tool = b'{"name": "add", "input_schema": {"maximum": 1e300, "minimum": -0.0, "multipleOf": 12345678901234567890}}'
    statuses = [
        api.http.put(path(label), content=b'{"tools": [%s]}' % tool, headers=JSON).status_code for _ in range(2)
    ]
    assert statuses == [201, 200]
    assert api.get(path(label))["version"] == 1


def test_unknown_parameters_are_refused(api: Api, label: str) -> None:
    check_invalid(api.http.put(path(label), params={"force": "true"}, json={}), "query", "force")
    check_invalid(api.http.get(path(label), params={"shared": "maybe"}), "query", "shared")
    check_invalid(api.http.get("/v1/agents", params={"limit": 101}), "query", "limit")


def test_agents_are_listed_by_label_in_pages(fresh_api: Api) -> None:
    labels = [f"agent-{number}" for number in range(7)]
    for label in reversed(labels):
        fresh_api.http.put(path(label), json={"system_prompt": label})
    fresh_api.http.put(path("agent-3"), params={"shared": "true"}, json={})
    fresh_api.http.put(path("shared"), params={"shared": "true"}, json={})
    pages = fresh_api.pages("/v1/agents", limit=3)
    assert [len(page) for page in pages] == [3, 3, 2]
    agents = [agent for page in pages for agent in page]
    assert [(agent["id"], agent["shared"]) for agent in agents] == [
        *((label, False) for label in labels),
        ("shared", True),
    ]
    check_problem(fresh_api.http.get("/v1/agents", params={"cursor": "nonsense"}), 400, "INVALID_CURSOR")


def test_a_shared_agent_is_read_until_an_own_one_hides_it(api: Api, label: str) -> None:
    shared = api.http.put(path(label), params={"shared": "true"}, json={"model": "shared"}).json()
    assert (shared["owner_id"], shared["shared"]) == (None, True)
    assert api.get(path(label)) == shared
    own = api.http.put(path(label), json={"model": "own"})
    assert own.status_code == 201
    assert api.get(path(label)) == own.json()
    assert api.get(path(label), shared=True) == shared
    assert api.http.delete(path(label)).status_code == 204
    assert api.get(path(label)) == shared
    check_problem(api.http.delete(path(label)), 404, "AGENT_NOT_FOUND")
    assert api.http.delete(path(label), params={"shared": "true"}).status_code == 204
    check_problem(api.http.get(path(label)), 404, "AGENT_NOT_FOUND")


def test_an_agent_is_read_as_of_a_position(api: Api, label: str) -> None:
    first = api.http.put(path(label), json={"model": "one"})
    second = api.http.put(path(label), json={"model": "two"})
    gone = api.http.delete(path(label))
    positions = [check_position(response) for response in (first, second, gone)]
    assert api.get(path(label), as_of=positions[0]) == first.json()
    assert api.get(path(label), as_of=positions[1]) == second.json()
    for before in (0, positions[0] - 1, positions[2]):
        check_problem(api.http.get(path(label), params={"as_of": before}), 404, "AGENT_NOT_FOUND")


def test_an_agent_is_read_as_of_a_time(api: Api, label: str) -> None:
    first = api.http.put(path(label), json={"model": "one"}).json()
    second = api.http.put(path(label), json={"model": "two"}).json()
    assert api.get(path(label), as_of=first["updated_at"]) == first
    assert api.get(path(label), as_of=second["updated_at"]) == second
    before = datetime.fromisoformat(first["updated_at"]) - timedelta(microseconds=1)
    check_problem(api.http.get(path(label), params={"as_of": before.isoformat()}), 404, "AGENT_NOT_FOUND")
    check_problem(api.http.get(path(label), params={"as_of": "1970-01-01T00:00:00Z"}), 404, "AGENT_NOT_FOUND")


@pytest.mark.parametrize("as_of", ["999999999999", "9999-01-01T00:00:00Z"])
def test_the_future_cannot_be_read(api: Api, label: str, as_of: str) -> None:
    api.http.put(path(label), json={})
    check_problem(api.http.get(path(label), params={"as_of": as_of}), 400, "INVALID_AS_OF")


@pytest.mark.parametrize("as_of", ["", "-1", "yesterday", "2026-01-01", "1" * 19, "٣"])
def test_what_is_no_moment_is_refused(api: Api, label: str, as_of: str) -> None:
    check_invalid(api.http.get(path(label), params={"as_of": as_of}), "query", "as_of")


def test_a_shared_agent_is_seen_in_the_past_that_an_own_one_hides_now(api: Api, label: str) -> None:
    shared = api.http.put(path(label), params={"shared": "true"}, json={"model": "shared"})
    api.http.put(path(label), json={"model": "own"})
    assert api.get(path(label), as_of=check_position(shared)) == shared.json()


def test_a_deleted_agent_leaves_its_conversations_and_its_label(api: Api, label: str) -> None:
    api.http.put(path(label), json={"system_prompt": "Be brief."})
    id_ = api.conversation(agent_id=label)["id"]
    api.message(id_, "Hello")
    api.http.delete(path(label))
    assert api.get(f"/v1/conversations/{id_}")["agent_id"] == label
    assert len(api.messages(id_)) == 1
    assert api.turn(id_, "default").status_code == 201
    assert api.conversation(agent_id=label)["agent_id"] == label
    assert len(api.get("/v1/conversations", agent_id=label)["data"]) == 2


def test_feeds_and_logs_of_conversations_do_not_show_agents(api: Api, label: str) -> None:
    id_ = api.conversation(agent_id=label)["id"]
    api.http.put(path(label), json={})
    assert [event["type"] for event in api.events(id_)] == ["ConversationStarted"]


def test_an_agent_allows_so_many_live_conversations(api: Api, label: str) -> None:
    api.http.put(path(label), json={"max_conversations": 2})
    first = api.conversation(agent_id=label)
    started = api.http.post("/v1/turns", json={"content": "Hi", "agent_id": label})
    assert started.status_code == 201, started.text
    refused = check_problem(
        api.http.post("/v1/conversations", json={"agent_id": label}), 409, "CONVERSATION_LIMIT_REACHED"
    )
    assert label in refused["detail"]
    check_problem(
        api.http.post("/v1/turns", json={"content": "Hi", "agent_id": label}), 409, "CONVERSATION_LIMIT_REACHED"
    )
    assert api.http.delete(f"/v1/conversations/{first['id']}").status_code == 204
    api.conversation(agent_id=label)
    check_problem(api.http.post("/v1/conversations", json={"agent_id": label}), 409, "CONVERSATION_LIMIT_REACHED")
    api.http.put(path(label), json={"max_conversations": 3})
    api.conversation(agent_id=label)
    api.http.put(path(label), json={})
    api.conversation(agent_id=label)


def test_a_repeated_start_gets_its_first_answer_at_the_limit(api: Api, label: str) -> None:
    api.http.put(path(label), json={"max_conversations": 1})
    asked: Any = {"json": {"agent_id": label}, "headers": {"Idempotency-Key": uuid4().hex}}
    first = api.http.post("/v1/conversations", **asked)
    assert first.status_code == 201
    again = api.http.post("/v1/conversations", **asked)
    assert (again.status_code, again.json()) == (201, first.json())
    check_problem(api.http.post("/v1/conversations", json={"agent_id": label}), 409, "CONVERSATION_LIMIT_REACHED")


@pytest.mark.usefixtures("broken_listing")
def test_a_start_that_cannot_be_counted_is_refused(fresh_api: Api) -> None:
    fresh_api.http.put(path("limited"), json={"max_conversations": 5})
    fresh_api.http.put(path("unlimited"), json={})
    fresh_api.conversation(title="Poison")
    eventually(lambda: fresh_api.get("/readyz")["projections"]["listing"]["stopped"])
    for route, body in (("/v1/conversations", {}), ("/v1/turns", {"content": "Hi"})):
        refused = fresh_api.http.post(route, json={"agent_id": "limited", **body})
        check_problem(refused, 503, "STORE_UNAVAILABLE")
        assert refused.headers["retry-after"] == "1"
    assert fresh_api.http.post("/v1/conversations", json={"agent_id": "unlimited"}).status_code == 201
