"""Each caller searches the log of its own owner, and an auditor everybody's."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.api.auth.conftest import Caller, Guarded
from tests.integration.api.conftest import Serve
from tests.support.http.resources import check_problem

LOG = "/v1/log"


def searched(caller: Caller, path: str = LOG, **query: str) -> list[dict[str, Any]]:
    """Return all events that a search finds."""
    found: list[dict[str, Any]] = []
    query = {"limit": "100", **query}
    while query.get("cursor") != "":
        response = caller.send("GET", path, params=query)
        assert response.status_code == 200, response.text
        found += response.json()["data"]
        query["cursor"] = response.json()["next_cursor"] or ""
    return found


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


@pytest.fixture
def fresh(database_url: str, serve: Serve) -> Iterator[Guarded]:
    """An API with keys on an empty log."""
    with serve(database_url, auth="keys") as api:
        yield Guarded(api, database_url)


def test_users_and_services_find_the_events_of_their_owner(fresh: Guarded) -> None:
    alice, bob = fresh.caller("user"), fresh.caller("user")
    service = fresh.caller("service", **{"Turnlog-Owner": alice.owner_id})
    of_alice, of_bob = alice.conversation()["id"], bob.conversation()["id"]
    assert service.send("PUT", "/v1/agents/support", json={}).status_code == 201
    fresh.caller("admin").send("GET", LOG)
    for caller in (alice, service):
        started, defined = searched(caller)
        assert (started["conversation_id"], defined["type"]) == (of_alice, "AgentDefined")
        assert defined["actor"] == f"service:{service.owner_id}"
        assert searched(caller, actor=service_actor(service)) == [defined]
    assert [event["conversation_id"] for event in searched(bob)] == [of_bob]


def service_actor(service: Caller) -> str:
    return f"service:{service.owner_id}"


def test_an_auditor_finds_the_events_of_everybody_and_of_an_owner(fresh: Guarded) -> None:
    alice, bob = fresh.caller("user"), fresh.caller("user")
    of_alice, of_bob = alice.conversation()["id"], bob.conversation()["id"]
    alice.send("PUT", "/v1/agents/support", json={})
    for caller in (fresh.caller("auditor"), fresh.caller("admin")):
        found = searched(caller)
        assert types(found)[:3] == ["ConversationStarted", "ConversationStarted", "AgentDefined"]
        assert [event.get("conversation_id") for event in found[:3]] == [of_alice, of_bob, None]
        assert types(searched(caller, owner_id=alice.owner_id)) == ["ConversationStarted", "AgentDefined"]
        assert types(searched(caller, owner_id=alice.owner_id, order="desc")) == ["AgentDefined", "ConversationStarted"]
        assert searched(caller, owner_id=bob.owner_id) == [found[1]]
        assert searched(caller, owner_id=f"no-{bob.owner_id}") == []


def test_an_auditor_finds_the_reads_of_auditors(fresh: Guarded) -> None:
    alice = fresh.caller("user")
    id_ = alice.conversation(title="Mine")["id"]
    watch, other = fresh.caller("auditor", "watch"), fresh.caller("auditor", "other")
    watch.send("GET", f"/v1/conversations/{id_}")
    other.send("GET", "/v1/conversations", params={"owner_id": alice.owner_id})
    of_id, of_owner, itself = searched(watch, type="AuditRead")
    assert (of_id["actor"], of_id["data"]["ids"]) == ("auditor:watch", {"conversation_id": id_})
    assert (of_owner["actor"], of_owner["data"]["owner_id"]) == ("auditor:other", alice.owner_id)
    # A read is recorded before it is answered, so it finds itself.
    assert (itself["data"]["route"], itself["data"]["parameters"]) == (LOG, ["limit", "type"])
    assert itself["aggregate"] == "audit" and "conversation_id" not in itself
    assert searched(watch, type="AuditRead", actor="auditor:other") == [of_owner]
    newest = searched(watch, actor="auditor:watch", order="desc")
    assert newest[0]["data"]["parameters"] == ["actor", "limit", "order"]
    assert newest[-1] == of_id
    # The owner who was read does not find the read.
    assert types(searched(alice)) == ["ConversationStarted"]
    assert searched(watch, type="AuditRead", owner_id=alice.owner_id) == []


def test_nobody_else_may_name_an_owner(guarded: Guarded, alice: Caller, bob: Caller) -> None:
    service = guarded.caller("service", **{"Turnlog-Owner": alice.owner_id})
    id_ = alice.conversation()["id"]
    for caller in (alice, service):
        for path in (LOG, f"/v1/conversations/{id_}/log"):
            for owner in (alice.owner_id, bob.owner_id):
                check_problem(caller.send("GET", path, params={"owner_id": owner}), 403, "FORBIDDEN")


def test_the_owner_of_a_conversation_can_be_asked_for(alice: Caller, bob: Caller, auditor: Caller) -> None:
    path = f"/v1/conversations/{alice.conversation()['id']}/log"
    assert types(searched(auditor, path, owner_id=alice.owner_id)) == ["ConversationStarted"]
    assert searched(auditor, path, owner_id=bob.owner_id) == []


@pytest.mark.parametrize("owner", ["", "a b", "x" * 257])
def test_the_id_of_an_owner_is_checked(auditor: Caller, owner: str) -> None:
    problem = check_problem(auditor.send("GET", LOG, params={"owner_id": owner}), 422, "VALIDATION_FAILED")
    assert [error["loc"] for error in problem["errors"]] == [["query", "owner_id"]]


def test_a_cursor_of_another_caller_is_refused(alice: Caller, bob: Caller, auditor: Caller) -> None:
    for caller in (alice, bob):
        for _ in range(2):
            caller.conversation()
    cursor = alice.send("GET", LOG, params={"limit": 1}).json()["next_cursor"]
    assert alice.send("GET", LOG, params={"limit": 1, "cursor": cursor}).status_code == 200
    for other in (bob, auditor):
        check_problem(other.send("GET", LOG, params={"cursor": cursor}), 400, "INVALID_CURSOR")


def test_the_log_of_a_deleted_conversation_stays_readable(alice: Caller, auditor: Caller) -> None:
    id_ = alice.conversation(title=uuid4().hex)["id"]
    assert alice.send("DELETE", f"/v1/conversations/{id_}").status_code == 204
    expected = ["ConversationStarted", "ConversationDeleted"]
    assert types(searched(alice)) == expected
    assert types(searched(auditor, owner_id=alice.owner_id)) == expected
