"""Each route with each role, on own, another's, missing and deleted resources."""

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.auth.access import RIGHTS, ROUTES, Access, UndeclaredRouteError
from api.auth.identity import ROLES, GrantedRole
from api.http.call import json_response
from api.http.route import JSONRoute
from tests.support.http.callers import Caller, Guarded
from tests.support.http.known_routes import ALL, OF_CONVERSATIONS, Place, access, body_of, new_place, request
from tests.support.http.resources import check_problem


@pytest.fixture(scope="module")
def deleted(owner: Caller) -> Place:
    place = new_place(owner)
    assert owner.send("DELETE", f"/v1/conversations/{place.conversation_id}").status_code == 204
    return place


@pytest.fixture(scope="module")
def callers(guarded: Guarded, owner: Caller) -> dict[GrantedRole, Caller]:
    """Callers of each role for whom the owner's conversations are another's."""
    found: dict[GrantedRole, Caller] = {role: guarded.caller(role) for role in ROLES}
    found["service"].headers["Turnlog-Owner"] = f"customer-{uuid4().hex[:8]}"
    return found


def test_every_route_is_in_the_table_and_the_table_has_no_other() -> None:
    assert {f"{method} {path}" for method, path in ALL if method != "HEAD"} == ROUTES.keys()


def test_a_new_route_without_a_rule_fails_when_it_is_imported() -> None:
    async def thing() -> Any:
        return json_response({})

    with pytest.raises(UndeclaredRouteError, match="GET /v1/things"):
        JSONRoute("/v1/things", thing, methods=["GET"])


@pytest.mark.parametrize(("method", "path"), ALL)
def test_without_credentials_only_public_routes_answer(guarded: Guarded, place: Place, method: str, path: str) -> None:
    response = guarded.api.http.request(method, place.path(path), **body_of(method, path))
    if access(method, path) is Access.PUBLIC:
        assert response.status_code == 200
        return
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    if method != "HEAD":
        check_problem(response, 401, "UNAUTHENTICATED")


@pytest.mark.parametrize(("method", "path"), ALL)
def test_a_role_is_refused_exactly_where_the_table_says(
    callers: dict[GrantedRole, Caller], place: Place, method: str, path: str
) -> None:
    needed = access(method, path)
    for role in ROLES:
        status, _, content = request(callers[role], method, path, place)
        assert (status == 403) == (needed not in RIGHTS[role] and needed is not Access.PUBLIC), (role, content)
        assert status != 401 and status < 500, (role, content)
        if status == 403 and method != "HEAD":
            assert json.loads(content)["code"] == "FORBIDDEN", role


@pytest.mark.parametrize(("method", "path"), OF_CONVERSATIONS)
def test_another_owners_resource_cannot_be_told_from_a_missing_one(
    callers: dict[GrantedRole, Caller], place: Place, method: str, path: str
) -> None:
    missing = Place(str(uuid4()), place.message_id, place.turn_id)
    for caller in (callers["user"], callers["service"]):
        another = request(caller, method, path, place)
        nowhere = request(caller, method, path, missing)
        assert another[0] == nowhere[0] == 404
        assert _comparable(another, place) == _comparable(nowhere, missing)
        if method != "HEAD":
            assert json.loads(another[2])["code"] == "CONVERSATION_NOT_FOUND"


@pytest.mark.parametrize("role", ["user", "service"])
@pytest.mark.parametrize(("method", "path"), OF_CONVERSATIONS)
def test_another_owners_deleted_resource_is_missing_too(
    callers: dict[GrantedRole, Caller], deleted: Place, method: str, path: str, role: GrantedRole
) -> None:
    missing = Place(str(uuid4()), deleted.message_id, deleted.turn_id)
    another = request(callers[role], method, path, deleted)
    assert _comparable(another, deleted) == _comparable(request(callers[role], method, path, missing), missing)
    assert another[0] == 404


@pytest.mark.parametrize(("method", "path"), ALL)
def test_a_service_that_names_no_owner_reaches_nothing(
    guarded: Guarded, service: Caller, place: Place, method: str, path: str
) -> None:
    status, _, content = request(service, method, path, place)
    needed = access(method, path)
    if needed is Access.PUBLIC:
        assert status == 200
    else:
        assert status == (400 if needed in RIGHTS["service"] else 403), content


def test_the_feed_of_another_owners_conversation_cannot_be_told_from_that_of_a_missing_one(
    callers: dict[GrantedRole, Caller], place: Place, deleted: Place
) -> None:
    missing = place._replace(conversation_id=str(uuid4()))
    for role in ("user", "service"):
        answers: list[Any] = []
        for each in (place, deleted, missing):
            query = {"conversation_id": each.conversation_id}
            response = callers[role].send("GET", "/v1/events", params=query)
            answer = (response.status_code, response.headers, response.content)
            answers.append(_comparable(answer, each))
        assert answers[0] == answers[1] == answers[2]
        assert answers[0][0] == 404


@pytest.mark.parametrize(("method", "path"), OF_CONVERSATIONS)
def test_the_owner_and_its_service_reach_what_is_theirs(
    guarded: Guarded, owner: Caller, method: str, path: str
) -> None:
    service = guarded.caller("service", **{"Turnlog-Owner": owner.owner_id})
    running = path.endswith(("/deltas", "/complete", "/fail", "/cancel"))
    for caller in (owner, service):
        status, _, content = request(caller, method, path, new_place(owner, ended=not running))
        # A turn that has ended waits for no tool results. So the answer names the turn and no other owner.
        assert status == 409 if path.endswith("tool_results") else status < 300, content


@pytest.mark.parametrize(("method", "path"), OF_CONVERSATIONS)
def test_an_auditor_reads_what_belongs_to_others_and_writes_nothing(
    callers: dict[GrantedRole, Caller], place: Place, deleted: Place, method: str, path: str
) -> None:
    reads = access(method, path) in (Access.READS, Access.STREAMS)
    # Recorded events can be read of deleted conversations, as their owner reads them.
    of_deleted = 200 if path.endswith(("/log", "/events")) else 410
    missing = Place(str(uuid4()), place.message_id, place.turn_id)
    for caller in (callers["auditor"], callers["admin"]):
        found = [request(caller, method, path, each)[0] for each in (place, missing, deleted)]
        assert found == ([200, 404, of_deleted] if reads else [403] * 3)


@pytest.mark.parametrize(("method", "path"), OF_CONVERSATIONS)
def test_the_owners_deleted_conversation_is_gone(owner: Caller, deleted: Place, method: str, path: str) -> None:
    status, _, content = request(owner, method, path, deleted)
    assert status == (200 if path.endswith(("/log", "/events")) else 410), content


def test_the_listing_shows_ones_own_and_an_auditor_everybodys(
    alice: Caller, bob: Caller, auditor: Caller, admin: Caller
) -> None:
    of_alice, of_bob = alice.conversation()["id"], bob.conversation()["id"]

    def listed(caller: Caller) -> set[str]:
        page = caller.send("GET", "/v1/conversations", params={"limit": 100}).json()
        return {conversation["id"] for conversation in page["data"]}

    assert (listed(alice), listed(bob)) == ({of_alice}, {of_bob})
    assert {of_alice, of_bob} <= listed(auditor) & listed(admin)


@pytest.mark.parametrize("sort", ["active", "created", "title"])
def test_an_auditor_lists_the_conversations_of_an_owner(
    alice: Caller, bob: Caller, auditor: Caller, admin: Caller, sort: str
) -> None:
    of_alice = {alice.conversation(agent_id="one")["id"] for _ in range(3)}
    bob.conversation(agent_id="one")
    for caller in (auditor, admin):
        found: list[str] = []
        query: dict[str, str] = {"owner_id": alice.owner_id, "sort": sort, "limit": "2", "agent_id": "one"}
        while query.get("cursor") != "":
            page = caller.send("GET", "/v1/conversations", params=query).json()
            found += [conversation["id"] for conversation in page["data"]]
            query["cursor"] = page["next_cursor"] or ""
        assert (len(found), set(found)) == (3, of_alice)
        nobody = caller.send("GET", "/v1/conversations", params={"owner_id": f"no-{alice.owner_id}"})
        assert (nobody.status_code, nobody.json()["data"]) == (200, [])


def test_nobody_else_may_name_an_owner(guarded: Guarded, alice: Caller, bob: Caller) -> None:
    service = guarded.caller("service", **{"Turnlog-Owner": alice.owner_id})
    for caller in (alice, service):
        for owner in (alice.owner_id, bob.owner_id, "no-owner"):
            response = caller.send("GET", "/v1/conversations", params={"owner_id": owner})
            check_problem(response, 403, "FORBIDDEN")


@pytest.mark.parametrize("owner", ["", " ", "a b", "x" * 257, "a\u200bb", "a\0b"])
def test_the_id_of_an_owner_is_checked(auditor: Caller, owner: str) -> None:
    response = auditor.send("GET", "/v1/conversations", params={"owner_id": owner})
    problem = check_problem(response, 422, "VALIDATION_FAILED")
    assert [error["loc"] for error in problem["errors"]] == [["query", "owner_id"]]


def test_a_cursor_of_one_owner_is_refused_with_another(alice: Caller, bob: Caller, auditor: Caller) -> None:
    for _ in range(2):
        alice.conversation()
    query = {"owner_id": alice.owner_id, "limit": "1"}
    cursor = auditor.send("GET", "/v1/conversations", params=query).json()["next_cursor"]
    for other in ({"owner_id": bob.owner_id}, {}):
        response = auditor.send("GET", "/v1/conversations", params={**other, "cursor": cursor})
        check_problem(response, 400, "INVALID_CURSOR")


def test_clearing_the_history_deletes_ones_own(alice: Caller, bob: Caller) -> None:
    kept = bob.conversation()["id"]
    alice.conversation()
    assert alice.send("DELETE", "/v1/conversations").json() == {"deleted": 1}
    assert bob.send("GET", f"/v1/conversations/{kept}").status_code == 200


def _comparable(answer: tuple[int, httpx.Headers, bytes], place: Place) -> Any:
    """Return an answer without the id that it repeats, and without its time."""
    status, headers, content = answer
    shown = {name: value for name, value in headers.items() if name != "date"}
    return status, shown, content.replace(place.conversation_id.encode(), b"ID")
