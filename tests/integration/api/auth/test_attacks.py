"""One owner cannot reach another by any name, key, cursor or place."""

import json
from itertools import pairwise
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.http.callers import Caller, Guarded
from tests.support.http.resources import check_problem
from tests.support.servers.raw_http import RawConnection
from tests.support.store import value

LIST = "/v1/conversations"
EVENTS = "/v1/events"
SQL = "x';DROP/**/TABLE/**/keys;--"


def first_events(
    caller: Caller, count: int, path: str = EVENTS, after: int = 0, **headers: str
) -> list[dict[str, Any]]:
    """Return the first events of a feed after a position."""
    events: list[dict[str, Any]] = []
    given = {**caller.headers, "Last-Event-ID": str(after), **headers}
    with caller.guarded.api.http.stream("GET", path, headers=given) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line.removeprefix("data: ")))
                if len(events) == count:
                    break
    return events


@pytest.mark.parametrize("role", ["user", "auditor", "admin"])
def test_only_a_service_may_name_an_owner(guarded: Guarded, alice: Caller, role: Any) -> None:
    caller = guarded.caller(role)
    for named in (alice.owner_id, caller.owner_id, "", "local", "a b", "\u0430lice", "a\u202eb"):
        for method, path in (("GET", LIST), ("GET", EVENTS), ("POST", "/v1/tokens"), ("DELETE", LIST)):
            response = guarded.api.http.request(method, path, headers=with_owner(caller, named.encode()))
            check_problem(response, 403, "FORBIDDEN")
    headers = [*caller.headers.items(), ("Turnlog-Owner", caller.owner_id), ("Turnlog-Owner", alice.owner_id)]
    check_problem(guarded.api.http.get(LIST, headers=headers), 403, "FORBIDDEN")


def with_owner(caller: Caller, owner_id: bytes) -> dict[bytes, bytes]:
    """Return the headers of a caller that names an owner, in bytes."""
    own = {name.encode(): value.encode() for name, value in caller.headers.items()}
    return own | {b"Turnlog-Owner": owner_id}


def test_a_service_must_name_an_owner(service: Caller) -> None:
    for method, path in (("GET", LIST), ("POST", LIST), ("GET", EVENTS), ("POST", "/v1/tokens")):
        problem = check_problem(service.send(method, path), 400, "BAD_REQUEST", "errors")
        assert [error["loc"] for error in problem["errors"]] == [["header", "Turnlog-Owner"]]


@pytest.mark.parametrize("named", [b"", b"a b", b"x" * 257, b"a\xff", "a\u202eb".encode(), b"alice, bob"])
def test_a_service_must_name_an_owner_that_can_exist(service: Caller, named: bytes) -> None:
    headers = with_owner(service, named)
    problem = check_problem(service.guarded.api.http.get(LIST, headers=headers), 422, "VALIDATION_FAILED")
    assert [error["loc"] for error in problem["errors"]] == [["header", "Turnlog-Owner"]]


def test_a_service_may_not_name_two_owners(service: Caller, alice: Caller, bob: Caller) -> None:
    headers = [*service.headers.items(), ("Turnlog-Owner", alice.owner_id), ("Turnlog-Owner", bob.owner_id)]
    assert service.guarded.api.http.get(LIST, headers=headers).status_code == 422


def test_a_service_serves_one_owner_at_a_time(service: Caller, alice: Caller, bob: Caller) -> None:
    of_alice = {"Turnlog-Owner": alice.owner_id}
    started = service.send("POST", LIST, headers=of_alice, json={"title": "By the service"}).json()
    path = f"{LIST}/{started['id']}"
    assert started["owner_id"] == alice.owner_id
    assert alice.send("GET", path).json()["title"] == "By the service"
    assert service.send("GET", path, headers={"Turnlog-Owner": bob.owner_id}).status_code == 404
    assert bob.send("DELETE", path).status_code == 404


def test_names_in_other_scripts_are_owners_of_their_own(service: Caller) -> None:
    def owner_of(name: str) -> str:
        headers = with_owner(service, name.encode())
        return service.guarded.api.http.post(LIST, headers=headers, json={}).json()["owner_id"]

    # The second "a" is Cyrillic, and the accent of the fourth is a character of its own.
    for name in ("alice", "\u0430lice", "Zo\u00eb", "Zoe\u0308", SQL):
        assert owner_of(name) == name


@pytest.mark.parametrize("header", ["Authorization", "Turnlog-Owner", "X-Request-Id", "Idempotency-Key"])
def test_a_line_break_in_a_header_begins_no_other_header(guarded: Guarded, service: Caller, header: str) -> None:
    evil = "a\r\nTurnlog-Owner: victim\r\n\r\nGET /v1/conversations HTTP/1.1\r\nHost: localhost"
    with pytest.raises(httpx.LocalProtocolError):
        service.send("GET", LIST, headers={header: evil})
    # A client can send it percent-encoded, and nothing decodes it.
    response = service.send("GET", LIST, headers={header: "a%0d%0aTurnlog-Owner:%20victim"})
    assert response.status_code in {200, 400, 401, 422}
    assert "victim" not in str(response.headers)


def test_a_cursor_of_another_owner_is_one_of_another_list(alice: Caller, bob: Caller) -> None:
    for caller in (alice, bob):
        for _ in range(2):
            caller.conversation()
    for caller, other in ((alice, bob), (bob, alice)):
        cursor = other.send("GET", LIST, params={"limit": 1}).json()["next_cursor"]
        check_problem(caller.send("GET", LIST, params={"cursor": cursor}), 400, "INVALID_CURSOR")


@pytest.mark.parametrize("kind", ["messages", "turns", "log"])
def test_a_cursor_of_a_conversation_opens_no_conversation_of_another(alice: Caller, bob: Caller, kind: str) -> None:
    id_ = alice.conversation(messages=[{"role": "user", "content": str(n)} for n in range(3)])["id"]
    for _ in range(2):
        alice.send("POST", f"{LIST}/{id_}/turns", json={"content": "x", "generate": False, "on_busy": "queue"})
    cursor = alice.send("GET", f"{LIST}/{id_}/{kind}", params={"limit": 1}).json()["next_cursor"]
    assert cursor
    check_problem(bob.send("GET", f"{LIST}/{id_}/{kind}", params={"cursor": cursor}), 404, "CONVERSATION_NOT_FOUND")
    own = bob.conversation()["id"]
    check_problem(bob.send("GET", f"{LIST}/{own}/{kind}", params={"cursor": cursor}), 400, "INVALID_CURSOR")


def test_an_idempotency_key_belongs_to_its_owner(alice: Caller, bob: Caller, service: Caller) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    first = alice.send("POST", LIST, headers=key, json={"title": "Same"}).json()
    second = bob.send("POST", LIST, headers=key, json={"title": "Same"}).json()
    assert first["id"] != second["id"]
    assert second["owner_id"] == bob.owner_id
    assert bob.send("POST", LIST, headers=key, json={"title": "Other"}).status_code == 422  # now it is Bob's too
    repeated = service.send("POST", LIST, headers={**key, "Turnlog-Owner": alice.owner_id}, json={"title": "Same"})
    assert repeated.json() == first


def test_an_operator_does_not_meet_the_idempotency_keys_of_an_owner_of_its_name(
    guarded: Guarded, admin: Caller
) -> None:
    namesake = guarded.caller("user", admin.owner_id)
    key = {"Idempotency-Key": uuid4().hex}
    assert namesake.send("POST", LIST, headers=key, json={}).status_code == 201
    for caller in (admin, namesake):
        assert caller.send("POST", "/v1/tokens", headers=key).status_code == 201


def test_a_feed_shows_ones_own_from_any_position(alice: Caller, bob: Caller) -> None:
    of_alice = alice.conversation(messages=[{"role": "user", "content": "secret"}])
    position = int(alice.send("POST", LIST, json={}).headers["turnlog-position"])
    bobs = bob.conversation()["id"]
    for after in (0, position - 1, position):
        (event,) = first_events(bob, 1, after=after)
        assert event["conversation_id"] == bobs
    check_problem(bob.send("GET", EVENTS, params={"conversation_id": of_alice["id"]}), 404, "CONVERSATION_NOT_FOUND")


def test_an_auditor_follows_the_events_of_everybody(alice: Caller, bob: Caller, auditor: Caller) -> None:
    position = int(alice.send("POST", LIST, json={}).headers["turnlog-position"]) - 1
    ids = [alice.conversation()["id"], bob.conversation()["id"]]
    seen = [event["conversation_id"] for event in first_events(auditor, 3, after=position)]
    assert seen[1:] == ids
    assert all(first < second for first, second in pairwise(seen))


def test_a_position_of_another_owner_only_waits(alice: Caller, bob: Caller) -> None:
    position = alice.send("POST", LIST, json={}).headers["turnlog-position"]
    page = bob.send("GET", LIST, headers={"Turnlog-Position": position}).json()
    assert page == {"data": [], "next_cursor": None}


def test_messages_of_another_owner_cannot_be_named(alice: Caller, bob: Caller) -> None:
    id_ = alice.conversation(messages=[{"role": "user", "content": "secret"}])["id"]
    theirs = alice.send("GET", f"{LIST}/{id_}/messages").json()["data"][0]["id"]
    own = f"{LIST}/{bob.conversation()['id']}"
    reply = {"role": "assistant", "content": "x", "in_reply_to": theirs}
    for response in (
        bob.send("POST", f"{own}/messages", json=reply),
        bob.send("GET", f"{own}/messages/{theirs}"),
        bob.send("DELETE", f"{own}/messages/{theirs}"),
        bob.send("POST", f"{own}/messages/{theirs}/regenerate", json={}),
        bob.send("POST", f"{own}/turns", json={"content": "x", "replace_from": theirs}),
    ):
        assert check_problem(response, 404, "MESSAGE_NOT_FOUND")
        assert "secret" not in response.text


def detours(own: str, theirs: str) -> list[str]:
    """Return paths to another owner's messages that a tolerant server would take."""
    full_width = theirs.translate({ord(char): ord(char) + 0xFEE0 for char in "0123456789"})
    encoded = "".join(f"%{byte:02x}" for byte in full_width.encode())
    return [
        f"/v1/conversations/{own}/../{theirs}/messages",
        f"/v1/conversations/{own}/%2e%2e/{theirs}/messages",
        f"/v1/conversations/{own}%2f..%2f{theirs}/messages",
        f"/v1/conversations/{own}/messages/../../{theirs}/messages",
        f"/v1/conversations/{own}/messages/..%2f..%2f{theirs}%2fmessages",
        f"/v1/conversations/{own};/{theirs}/messages",
        f"/v1/conversations/{own}%00{theirs}/messages",
        f"/v1/conversations/{own},{theirs}/messages",
        f"/v1/conversations//{theirs}/messages",
        f"//v1/conversations/{theirs}/messages",
        f"/v1//conversations/{theirs}/messages",
        f"/v1/conversations/{theirs}//messages",
        f"/v1/conversations/{theirs}/messages/",
        f"/v1/conversations/{theirs}%00/messages",
        f"/v1/conversations/{theirs}%20/messages",
        f"/v1/conversations/{theirs}%0a/messages",
        f"/v1/conversations/{encoded}/messages",
        f"/v1/conversations/{theirs}/messages%3Fx=1",
        f"/docs/../v1/conversations/{theirs}/messages",
        f"/static-offline-docs/../v1/conversations/{theirs}/messages",
        f"/static-offline-docs/%2e%2e/v1/conversations/{theirs}/messages",
        f"/healthz/../v1/conversations/{theirs}/messages",
        f"/healthz%2f..%2fv1/conversations/{theirs}/messages",
        f"/V1/conversations/{theirs}/messages",
        f"/v1/conversations/{theirs.upper()}/messages",
        f"http://localhost/v1/conversations/{theirs}/messages",
    ]


def test_no_spelling_of_a_path_goes_around_the_owner(alice: Caller, bob: Caller) -> None:
    theirs = alice.conversation(messages=[{"role": "user", "content": "secret"}])["id"]
    own = bob.conversation()["id"]
    with RawConnection(str(bob.guarded.api.http.base_url)) as raw:
        for path in detours(own, theirs):
            for key, statuses in ((f"Authorization: Bearer {bob.key}\r\n", {404}), ("", {401, 404})):
                raw.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{key}\r\n".encode())
                answer = raw.answer()
                assert answer.status in statuses, (path, answer.body)
                assert answer.problem()["code"] in {"CONVERSATION_NOT_FOUND", "NOT_FOUND", "UNAUTHENTICATED"}
                assert b"secret" not in answer.body


def test_sql_in_any_string_is_text(guarded: Guarded, alice: Caller, service: Caller) -> None:
    evil = "x'; DROP TABLE keys; --"
    assert guarded.caller("user", SQL).conversation()["owner_id"] == SQL
    id_ = alice.conversation(title=evil, metadata={evil: evil}, messages=[{"role": "user", "content": evil}])["id"]
    for params in ({"q": evil}, {f"metadata.{evil}": evil}, {"cursor": evil}, {"agent_id": evil}):
        assert alice.send("GET", LIST, params=params).status_code in {200, 400, 422}
    assert alice.send("GET", LIST, params={"q": evil}).json()["data"][0]["id"] == id_
    for header in ("Idempotency-Key", "X-Request-Id", "If-Match", "Last-Event-ID", "Turnlog-Position"):
        assert alice.send("POST", LIST, headers={header: SQL}, json={}).status_code in {201, 422}
    for path in (f"{LIST}/{evil}", f"{LIST}/{id_}/messages/{evil}", f"{LIST}/{id_}/turns/{evil}", f"/v1/{evil}"):
        assert alice.send("GET", path).status_code == 404
    assert service.send("GET", LIST, headers={"Turnlog-Owner": SQL}).status_code == 200
    assert guarded.api.http.get(EVENTS, params={"access_token": evil}).status_code == 401
    assert value(guarded.conninfo, "SELECT count(*) > 0 FROM keys")
