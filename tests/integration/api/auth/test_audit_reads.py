"""Reads of auditors and admins are recorded in the log before they are answered."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, LiteralString
from uuid import uuid4

import httpx
import pytest

from api.auth.access import AUDITED, RIGHTS
from api.auth.audit_reads import AuditedRead, AuditReads
from api.auth.identity import GrantedRole
from api.http.route import MAX_ID_CHARS
from tests.integration.api.conftest import Serve
from tests.support.http.api_client import Api, frames_of
from tests.support.http.callers import Caller, Guarded
from tests.support.http.known_routes import ALL, Place, access, request
from tests.support.http.resources import check_problem
from tests.support.store import blocked_head, opened, rows, value
from tests.support.waiting import eventually

LIST = "/v1/conversations"
READ = AuditedRead("GET", LIST, {}, None, ())
FAIL: LiteralString = (
    "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = TG_ARGV[0]; END $$"
)
FAILS: dict[str, LiteralString] = {
    "read-only": "CREATE TRIGGER fails BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION fail('25006')",
    "disk full": "CREATE TRIGGER fails BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION fail('53100')",
}


def recorded(conninfo: str, request_id: str) -> list[dict[str, Any]]:
    """Return what is recorded of a request."""
    statement = "SELECT data FROM events WHERE type = 'AuditRead' AND request_id = %s ORDER BY position"
    return [row[0] for row in rows(conninfo, statement, [request_id])]


def send(caller: Caller, path: str = LIST, method: str = "GET", **options: Any) -> tuple[httpx.Response, list[Any]]:
    """Send a request and return its answer and what is recorded of it."""
    request_id = uuid4().hex
    response = caller.send(method, path, headers={"X-Request-Id": request_id}, **options)
    return response, recorded(caller.guarded.conninfo, request_id)


@pytest.fixture
def fresh(database_url: str, serve: Serve) -> Iterator[Guarded]:
    """An API with keys on an empty log."""
    with serve(database_url, auth="keys") as api:
        yield Guarded(api, database_url)


@pytest.mark.parametrize(("method", "path"), ALL)
def test_each_read_is_recorded_exactly_once(
    guarded: Guarded, auditor: Caller, admin: Caller, place: Place, method: str, path: str
) -> None:
    named = {**place._asdict(), "agent_id": "support", "name": "listing"}
    ids = {name: named[name] for name in re.findall(r"{(\w+)}", path)}
    read = {"method": method, "route": path, "ids": ids, "owner_id": None, "parameters": []}
    by_role: dict[GrantedRole, Caller] = {"auditor": auditor, "admin": admin}
    for role, caller in by_role.items():
        request_id = uuid4().hex
        status, _, content = request(caller, method, path, place, **{"X-Request-Id": request_id})
        assert status < 500, (role, content)
        is_recorded = access(method, path) in AUDITED & RIGHTS[role]
        assert recorded(guarded.conninfo, request_id) == ([read] if is_recorded else []), role


@pytest.fixture(scope="module")
def user(guarded: Guarded) -> Caller:
    return guarded.caller("user")


@pytest.mark.parametrize(("method", "path"), ALL)
def test_requests_of_users_and_services_are_not_recorded(
    guarded: Guarded, user: Caller, service: Caller, place: Place, method: str, path: str
) -> None:
    request_id = uuid4().hex
    request(user, method, path, place, **{"X-Request-Id": request_id})
    request(service, method, path, place, **{"Turnlog-Owner": "customer", "X-Request-Id": request_id})
    assert recorded(guarded.conninfo, request_id) == []


def test_without_authentication_nothing_is_recorded(api: Api, shared_database_url: str) -> None:
    request_id = uuid4().hex
    assert api.http.get(LIST, headers={"X-Request-Id": request_id}).status_code == 200
    assert recorded(shared_database_url, request_id) == []


def test_the_reader_is_the_actor_and_the_aggregate_is_no_conversation(guarded: Guarded, auditor: Caller) -> None:
    request_id = uuid4().hex
    auditor.send("GET", LIST, headers={"X-Request-Id": request_id})
    statement = "SELECT actor, aggregate::text FROM events WHERE request_id = %s"
    assert rows(guarded.conninfo, statement, [request_id]) == [("auditor:watch", "audit")]


def test_a_query_is_recorded_by_the_names_of_its_parameters(auditor: Caller) -> None:
    query = {"q": "secret", "status": "idle", "limit": 1, "metadata.secret": "secret"}
    response, found = send(auditor, params=query)
    assert response.status_code == 200
    (read,) = found
    assert read["parameters"] == ["limit", "q", "status", "metadata"]
    assert "secret" not in str(read)


def test_the_owner_that_a_query_names_is_recorded(auditor: Caller, alice: Caller) -> None:
    response, (read,) = send(auditor, params={"owner_id": alice.owner_id})
    assert response.status_code == 200
    assert (read["owner_id"], read["parameters"]) == (alice.owner_id, ["owner_id"])


@pytest.mark.parametrize("role", ["auditor", "admin"])
@pytest.mark.parametrize("path", ["/v1/agents", "/v1/agents/support"])
def test_the_owner_that_a_header_names_is_recorded(
    guarded: Guarded, alice: Caller, path: str, role: GrantedRole
) -> None:
    caller, request_id = guarded.caller(role), uuid4().hex
    caller.send("GET", path, headers={"X-Request-Id": request_id, "Turnlog-Owner": alice.owner_id})
    (read,) = recorded(guarded.conninfo, request_id)
    assert (read["owner_id"], read["parameters"]) == (alice.owner_id, [])
    statement = "SELECT actor FROM events WHERE request_id = %s"
    assert rows(guarded.conninfo, statement, [request_id]) == [(f"{role}:{caller.owner_id}",)]


def test_an_agent_in_the_query_is_recorded(auditor: Caller) -> None:
    response, (read,) = send(auditor, params={"agent_id": "support", "sort": "title"})
    assert response.status_code == 200
    assert (read["ids"], read["parameters"]) == ({"agent_id": "support"}, ["agent_id", "sort"])


@pytest.mark.parametrize("label", ["x" * 10_000, "%00" * 1000, "%ff%fe", "%f0%9f%92%a9" * 500])
def test_of_an_id_that_cannot_exist_only_the_beginning_is_recorded(auditor: Caller, label: str) -> None:
    response, (read,) = send(auditor, f"/v1/agents/{label}")
    check_problem(response, 404, "AGENT_NOT_FOUND")
    assert 0 < len(read["ids"]["agent_id"]) <= MAX_ID_CHARS


def test_the_headers_of_a_read_are_not_recorded(guarded: Guarded, auditor: Caller, alice: Caller) -> None:
    secrets = {name: f"secret-{name}" for name in ("Cookie", "User-Agent", "X-Other", "Idempotency-Key", "If-Match")}
    id_, request_id = alice.conversation()["id"], uuid4().hex
    headers = {**secrets, "X-Request-Id": request_id, "Turnlog-Position": "1"}
    assert auditor.send("GET", f"{LIST}/{id_}", headers=headers).status_code == 200
    (row,) = rows(guarded.conninfo, "SELECT events::text FROM events WHERE request_id = %s", [request_id])
    assert "secret" not in row[0] and auditor.key not in row[0]


def test_an_unknown_parameter_is_not_recorded(auditor: Caller) -> None:
    response, found = send(auditor, params={"secret": "secret"})
    assert response.status_code == 422
    assert "secret" not in str(found)


def test_a_conversation_in_the_query_is_recorded(guarded: Guarded, auditor: Caller, alice: Caller) -> None:
    id_, request_id = alice.conversation()["id"], uuid4().hex
    headers = {**auditor.headers, "X-Request-Id": request_id}
    with guarded.api.http.stream("GET", "/v1/events", params={"conversation_id": id_}, headers=headers) as response:
        assert response.status_code == 200
        (read,) = recorded(guarded.conninfo, request_id)
    assert (read["ids"], read["parameters"]) == ({"conversation_id": id_}, ["conversation_id"])


def test_a_stream_that_a_short_token_opens_is_recorded_without_the_token(guarded: Guarded, auditor: Caller) -> None:
    token, request_id = auditor.short_token(), uuid4().hex
    query, headers = {"access_token": token}, {"X-Request-Id": request_id}
    with guarded.api.http.stream("GET", "/v1/events", params=query, headers=headers) as response:
        assert response.status_code == 200
    (read,) = recorded(guarded.conninfo, request_id)
    assert (read["route"], read["parameters"]) == ("/v1/events", [])


def test_a_read_of_what_does_not_exist_is_recorded(auditor: Caller) -> None:
    missing = str(uuid4())
    response, (read,) = send(auditor, f"{LIST}/{missing}")
    check_problem(response, 404, "CONVERSATION_NOT_FOUND")
    assert read["ids"] == {"conversation_id": missing}


def test_a_request_that_is_refused_before_it_reads_is_not_recorded(auditor: Caller) -> None:
    for path, parameters in ((f"{LIST}/no-id", {}), (LIST, {"limit": 0})):
        response, found = send(auditor, path, params=parameters)
        assert response.status_code in (404, 422)
        assert found == []


def test_a_read_waits_until_it_is_recorded(fresh: Guarded) -> None:
    auditor, alice = fresh.caller("auditor"), fresh.caller("user")
    send(auditor)  # the key is known now
    with ThreadPoolExecutor(1) as threads, blocked_head(fresh.conninfo) as release:
        request_id = uuid4().hex
        answer = threads.submit(auditor.send, "GET", LIST, headers={"X-Request-Id": request_id})
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        eventually(lambda: rows(fresh.conninfo, waiting))
        assert alice.send("GET", LIST).status_code == 200
        assert not answer.done()
        release()
        assert answer.result().status_code == 200
    assert len(recorded(fresh.conninfo, request_id)) == 1


def test_a_read_that_cannot_be_recorded_is_not_answered(fresh: Guarded) -> None:
    auditor, alice = fresh.caller("auditor"), fresh.caller("user")
    id_ = alice.conversation(title="Mine")["id"]
    rows(fresh.conninfo, "ALTER TABLE head RENAME TO head_elsewhere")
    response, found = send(auditor, f"{LIST}/{id_}")
    check_problem(response, 503, "STORE_UNAVAILABLE")
    assert (response.headers["retry-after"], "Mine" in response.text, found) == ("1", False, [])
    assert alice.send("GET", f"{LIST}/{id_}").status_code == 200
    rows(fresh.conninfo, "ALTER TABLE head_elsewhere RENAME TO head")
    response, found = send(auditor, f"{LIST}/{id_}")
    assert (response.status_code, len(found)) == (200, 1)


@pytest.mark.parametrize("condition", FAILS)
def test_a_read_is_not_answered_while_the_log_cannot_be_written(fresh: Guarded, condition: str) -> None:
    auditor, alice = fresh.caller("auditor"), fresh.caller("user")
    id_ = alice.conversation(title="Mine")["id"]
    rows(fresh.conninfo, FAIL)
    rows(fresh.conninfo, FAILS[condition])
    for path in (f"{LIST}/{id_}", f"{LIST}/{id_}/events", LIST):
        response, found = send(auditor, path)
        check_problem(response, 503, "STORE_UNAVAILABLE")
        assert (response.headers["retry-after"], "Mine" in response.text, found) == ("1", False, [])
    assert alice.send("GET", f"{LIST}/{id_}").json()["title"] == "Mine"
    rows(fresh.conninfo, "DROP TRIGGER fails ON events")
    response, found = send(auditor, f"{LIST}/{id_}")
    assert (response.status_code, len(found)) == (200, 1)


def test_a_read_beyond_the_limit_is_refused_and_not_recorded(database_url: str, serve: Serve) -> None:
    with serve(database_url, auth="keys", limit_requests_per_minute=3) as api:
        limited = Guarded(api, database_url)
        auditor, alice = limited.caller("auditor"), limited.caller("user")
        statuses = [auditor.send("GET", LIST).status_code for _ in range(20)]
        assert statuses == [200] * 3 + [429] * 17
        assert value(database_url, "SELECT count(*) FROM events WHERE type = 'AuditRead'") == 3
        assert alice.send("GET", LIST).status_code == 200


def test_an_auditor_that_names_an_owner_uses_up_its_own_limit(database_url: str, serve: Serve) -> None:
    with serve(database_url, auth="keys", limit_requests_per_minute=3) as api:
        limited = Guarded(api, database_url)
        alice = limited.caller("user")
        for caller in (limited.caller("auditor"), limited.caller("admin")):
            named = {"Turnlog-Owner": alice.owner_id}
            statuses = [caller.send("GET", "/v1/agents", headers=named).status_code for _ in range(5)]
            assert statuses == [200] * 3 + [429] * 2
        service = limited.caller("service", **{"Turnlog-Owner": alice.owner_id})
        assert [each.send("GET", LIST).status_code for each in (alice, service, alice, service)] == [200] * 3 + [429]


def test_what_is_recorded_of_a_process_is_no_conversation_to_anybody(fresh: Guarded) -> None:
    auditor, admin, alice = fresh.caller("auditor"), fresh.caller("admin"), fresh.caller("user")
    send(auditor)
    aggregate = str(value(fresh.conninfo, "SELECT aggregate_id FROM events WHERE type = 'AuditRead'"))
    place = Place(aggregate, str(uuid4()), str(uuid4()))
    for method, path in ALL:
        if "{conversation_id}" in path and method != "HEAD":
            for caller in (auditor, admin, alice):
                status, _, content = request(caller, method, path, place)
                assert status in (403, 404), content
                assert b"CONVERSATION_NOT_FOUND" in content or status == 403
    assert value(fresh.conninfo, "SELECT count(*) FROM events WHERE type <> 'AuditRead'") == 0


def test_feeds_and_read_models_pass_them_by(fresh: Guarded) -> None:
    auditor, alice = fresh.caller("auditor"), fresh.caller("user")
    send(auditor)
    id_ = alice.conversation()["id"]
    for caller in (alice, auditor):
        headers = {**caller.headers, "Last-Event-ID": "0"}
        with fresh.api.http.stream("GET", "/v1/events", headers=headers) as response:
            assert next(frames_of(response)).event == "ConversationStarted"
    head = value(fresh.conninfo, "SELECT max(position) FROM events WHERE type = 'AuditRead'")
    listed = alice.send("GET", LIST, headers={"Turnlog-Position": str(head)})
    assert [each["id"] for each in listed.json()["data"]] == [id_]


def test_each_process_has_an_aggregate_of_its_own(fresh: Guarded, serve: Serve) -> None:
    auditor = fresh.caller("auditor")
    with serve(fresh.conninfo, auth="keys") as other:
        for api in (fresh.api, other, fresh.api, other):
            assert api.http.get(LIST, headers=auditor.headers).status_code == 200
    statement = "SELECT array_agg(version ORDER BY version) FROM events WHERE type = 'AuditRead' GROUP BY aggregate_id"
    assert rows(fresh.conninfo, statement) == [([1, 2],), ([1, 2],)]


def test_concurrent_reads_are_each_recorded_once(fresh: Guarded) -> None:
    auditor = fresh.caller("auditor")
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: auditor.send("GET", LIST).status_code, range(64)))
    versions = "SELECT array_agg(version ORDER BY version) FROM events WHERE type = 'AuditRead' GROUP BY aggregate_id"
    assert answers == [200] * 64
    assert rows(fresh.conninfo, versions) == [(list(range(1, 65)),)]


async def test_reads_go_on_after_the_log_has_lost_its_newest_events(database_url: str) -> None:
    async with opened(database_url, listening=False) as store:
        reads = AuditReads(store.writer)
        await reads.record("auditor:watch", "first", READ)
        await reads.record("auditor:watch", "lost", READ)
        rows(database_url, "ALTER TABLE events DISABLE TRIGGER events_append_only")
        rows(database_url, "DELETE FROM events WHERE request_id = 'lost'")
        await reads.record("auditor:watch", "after", READ)
    found = rows(database_url, "SELECT request_id, version FROM events ORDER BY position")
    assert found == [("first", 1), ("after", 1)]
