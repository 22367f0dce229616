"""Agents belong to an owner, or are shared, and each role has its rights on them."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.auth.identity import GrantedRole
from tests.support.http.callers import Caller, Guarded
from tests.support.http.resources import check_problem
from tests.support.store import rows

OWNER = "Turnlog-Owner"
SHARED = {"shared": "true"}
METHODS = ["GET", "DELETE", "HEAD"]


@pytest.fixture
def label() -> str:
    """The label of an agent for this test."""
    return f"agent-{uuid4().hex}"


def path(label: str) -> str:
    return f"/v1/agents/{label}"


def define(caller: Caller, label: str, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
    response = caller.send("PUT", path(label), headers=headers, json=body)
    assert response.status_code in (200, 201), response.text
    return response.json()


def comparable(response: httpx.Response, label: str) -> Any:
    """Return an answer without the label that it repeats, and without its time."""
    headers = {name: value for name, value in response.headers.items() if name != "date"}
    return response.status_code, headers, response.text.replace(label, "LABEL")


@pytest.fixture(params=["user", "service"])
def stranger(request: pytest.FixtureRequest, guarded: Guarded) -> Caller:
    """A caller of another owner."""
    role: GrantedRole = request.param
    headers = {OWNER: f"customer-{uuid4().hex[:8]}"} if role == "service" else {}
    return guarded.caller(role, **headers)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("deleted", [False, True])
def test_another_owners_agent_cannot_be_told_from_a_missing_one(
    alice: Caller, stranger: Caller, label: str, method: str, deleted: bool
) -> None:
    define(alice, label, system_prompt="Secret.")
    if deleted:
        assert alice.send("DELETE", path(label)).status_code == 204
    another, missing = stranger.send(method, path(label)), f"agent-{uuid4().hex}"
    assert comparable(another, label) == comparable(stranger.send(method, path(missing)), missing)
    assert another.status_code == 404


def test_a_definition_under_anothers_label_is_ones_own(alice: Caller, stranger: Caller, label: str) -> None:
    of_alice = define(alice, label, system_prompt="Secret.")
    own = define(stranger, label, system_prompt="Mine.")
    assert own["version"] == 1
    assert alice.send("GET", path(label)).json() == of_alice
    assert stranger.send("GET", path(label)).json() == own
    listed = stranger.send("GET", "/v1/agents", params={"limit": 100}).json()["data"]
    assert [agent for agent in listed if agent["id"] == label] == [own]


def test_a_service_writes_the_agents_of_the_owner_that_it_names(alice: Caller, service: Caller, label: str) -> None:
    named = {OWNER: alice.owner_id}
    defined = define(service, label, named, model="gpt-4o")
    assert defined["owner_id"] == alice.owner_id
    assert alice.send("GET", path(label)).json() == defined
    assert alice.send("DELETE", path(label)).status_code == 204
    assert service.send("GET", path(label), headers=named).status_code == 404


def test_an_auditor_reads_everybodys_agents_and_writes_none(alice: Caller, auditor: Caller, label: str) -> None:
    defined, named = define(alice, label), {OWNER: alice.owner_id}
    assert auditor.send("GET", path(label), headers=named).json() == defined
    assert auditor.send("GET", path(label)).status_code == 404
    listed = auditor.send("GET", "/v1/agents", headers=named, params={"limit": 100}).json()["data"]
    assert defined in listed
    for method, body in (("PUT", {"json": {}}), ("DELETE", {})):
        for headers in ({}, named):
            check_problem(auditor.send(method, path(label), headers=headers, **body), 403, "FORBIDDEN")


@pytest.mark.parametrize("role", ["auditor", "admin"])
def test_the_agents_of_the_owner_that_is_named_are_listed_and_no_others(
    guarded: Guarded, alice: Caller, bob: Caller, label: str, role: GrantedRole
) -> None:
    of_alice = define(alice, label)
    define(bob, label)
    named = {OWNER: alice.owner_id}
    listed = guarded.caller(role).send("GET", "/v1/agents", headers=named, params={"limit": 100}).json()["data"]
    assert [agent for agent in listed if not agent["shared"]] == [of_alice]


def test_an_admin_writes_the_agents_of_the_owner_that_it_names(
    guarded: Guarded, alice: Caller, admin: Caller, label: str
) -> None:
    named = {OWNER: alice.owner_id}
    defined = define(admin, label, named, model="gpt-4o")
    assert alice.send("GET", path(label)).json() == defined
    assert define(alice, label, model="gpt-4o-mini")["version"] == 2
    assert admin.send("DELETE", path(label), headers=named).status_code == 204
    check_problem(alice.send("GET", path(label)), 404, "AGENT_NOT_FOUND")
    actors = "SELECT actor FROM events WHERE aggregate = 'agent' AND data ->> 'agent_id' = %s ORDER BY version"
    assert [row[0] for row in rows(guarded.conninfo, actors, [label])] == ["admin:ops", f"user:{alice.owner_id}"]


def test_an_admin_without_an_owner_writes_its_own(admin: Caller, label: str) -> None:
    assert define(admin, label)["owner_id"] == "ops"
    assert admin.send("DELETE", path(label)).status_code == 204


@pytest.mark.parametrize("role", ["auditor", "admin", "user"])
def test_the_owner_is_named_on_routes_of_agents_only(guarded: Guarded, alice: Caller, role: GrantedRole) -> None:
    caller = guarded.caller(role)
    for asked in ("/v1/conversations", "/v1/agents"):
        response = caller.send("GET", asked, headers={OWNER: alice.owner_id})
        if asked == "/v1/agents" and role != "user":
            assert response.status_code == 200
        else:
            check_problem(response, 403, "FORBIDDEN")


@pytest.mark.parametrize("named", ["a b", "", "x" * 257, "alice, bob", "a\u202eb"])
def test_the_name_of_an_owner_is_validated(admin: Caller, label: str, named: str) -> None:
    headers = {**admin.headers, OWNER: named}
    for method in ("GET", "DELETE"):
        encoded = {name.encode(): value.encode() for name, value in headers.items()}
        response = admin.guarded.api.http.request(method, path(label), headers=encoded)
        problem = check_problem(response, 422, "VALIDATION_FAILED")
        assert problem["errors"][0]["loc"] == ["header", OWNER]


def test_two_owners_cannot_be_named(admin: Caller, alice: Caller, bob: Caller, label: str) -> None:
    headers = [*admin.headers.items(), (OWNER, alice.owner_id), (OWNER, bob.owner_id)]
    for method in ("GET", "DELETE"):
        assert admin.guarded.api.http.request(method, path(label), headers=headers).status_code == 422


def test_only_an_admin_writes_shared_agents(
    guarded: Guarded, alice: Caller, auditor: Caller, admin: Caller, label: str
) -> None:
    service = guarded.caller("service", **{OWNER: alice.owner_id})
    for caller in (alice, service, auditor):
        check_problem(caller.send("PUT", path(label), params=SHARED, json={}), 403, "FORBIDDEN")
        check_problem(caller.send("DELETE", path(label), params=SHARED), 403, "FORBIDDEN")
    shared = admin.send("PUT", path(label), params=SHARED, json={"model": "gpt-4o"})
    assert shared.status_code == 201
    for caller in (alice, service, auditor, admin):
        assert caller.send("GET", path(label)).json() == shared.json()
        assert shared.json() in caller.send("GET", "/v1/agents", params={"limit": 100}).json()["data"]
    assert admin.send("DELETE", path(label), params=SHARED).status_code == 204
    check_problem(alice.send("GET", path(label)), 404, "AGENT_NOT_FOUND")


def test_a_user_can_hide_a_shared_agent_and_neither_change_nor_delete_it(
    alice: Caller, bob: Caller, admin: Caller, label: str
) -> None:
    shared = admin.send("PUT", path(label), params=SHARED, json={"model": "shared"}).json()
    check_problem(alice.send("DELETE", path(label)), 404, "AGENT_NOT_FOUND")
    own = alice.send("PUT", path(label), json={"model": "own"})
    assert (own.status_code, own.json()["owner_id"]) == (201, alice.owner_id)
    assert alice.send("GET", path(label)).json() == own.json()
    assert bob.send("GET", path(label)).json() == shared
    assert alice.send("DELETE", path(label)).status_code == 204
    assert alice.send("GET", path(label)).json() == shared
    assert admin.send("DELETE", path(label), params=SHARED).status_code == 204


def test_each_owner_has_its_own_count_with_a_shared_agent(
    alice: Caller, bob: Caller, admin: Caller, label: str
) -> None:
    limited = admin.send("PUT", path(label), params=SHARED, json={"max_conversations": 1})
    assert limited.status_code == 201
    for caller in (alice, bob):
        caller.conversation(agent_id=label)
        refused = caller.send("POST", "/v1/conversations", json={"agent_id": label})
        check_problem(refused, 409, "CONVERSATION_LIMIT_REACHED")
    assert admin.send("DELETE", path(label), params=SHARED).status_code == 204


def test_a_cursor_of_one_list_of_agents_is_refused_by_another(
    guarded: Guarded, alice: Caller, bob: Caller, admin: Caller
) -> None:
    nameless = guarded.caller("user", "None")
    for _ in range(2):
        define(alice, f"agent-{uuid4().hex}")
    of_alice, of_everybody = (
        caller.send("GET", "/v1/agents", params={"limit": 1}).json()["next_cursor"] for caller in (alice, admin)
    )
    for caller, cursor in ((bob, of_alice), (admin, of_alice), (alice, of_everybody), (nameless, of_everybody)):
        check_problem(caller.send("GET", "/v1/agents", params={"cursor": cursor}), 400, "INVALID_CURSOR")
    for caller, cursor in ((alice, of_alice), (admin, of_everybody)):
        assert caller.send("GET", "/v1/agents", params={"cursor": cursor}).status_code == 200
