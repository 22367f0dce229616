"""The past is shown to the callers of the present, and reads of it are recorded."""

from typing import Any

import pytest

from tests.integration.api.auth.conftest import Caller
from tests.integration.api.auth.test_audit_reads import send
from tests.support.http.resources import check_position, check_problem

LIST = "/v1/conversations"
OF_A_CONVERSATION = [f"{LIST}/{{id}}{rest}" for rest in ("", "/messages", "/context")]


def started(caller: Caller, **body: Any) -> tuple[str, int]:
    """Start a conversation and return its id and its position."""
    response = caller.send("POST", LIST, json=body)
    return response.json()["id"], check_position(response)


def listed(caller: Caller, position: int, **parameters: Any) -> list[str]:
    response = caller.send("GET", LIST, params={"as_of": position, "sort": "created", "limit": 100, **parameters})
    assert response.status_code == 200, response.text
    return [each["id"] for each in response.json()["data"]]


@pytest.mark.parametrize("path", OF_A_CONVERSATION)
def test_another_owners_past_is_not_found(alice: Caller, bob: Caller, path: str) -> None:
    id_, position = started(alice, title="Mine")
    assert alice.send("GET", path.format(id=id_), params={"as_of": position}).status_code == 200
    response = bob.send("GET", path.format(id=id_), params={"as_of": position})
    check_problem(response, 404, "CONVERSATION_NOT_FOUND")
    assert "turnlog-position" not in response.headers


def test_a_listing_of_the_past_has_the_conversations_that_the_caller_may_read(
    alice: Caller, bob: Caller, auditor: Caller, admin: Caller
) -> None:
    mine, _ = started(alice)
    theirs, position = started(bob)
    alice.send("DELETE", f"{LIST}/{mine}")
    assert (listed(alice, position), listed(bob, position)) == ([mine], [theirs])
    for reader in (auditor, admin):
        assert listed(reader, position)[:2] == [theirs, mine]
        assert listed(reader, position, owner_id=alice.owner_id) == [mine]
    response = alice.send("GET", LIST, params={"as_of": position, "owner_id": bob.owner_id})
    check_problem(response, 403, "FORBIDDEN")


def test_a_service_reads_the_past_of_the_owner_that_it_names(service: Caller, alice: Caller) -> None:
    id_, position = started(alice)
    for owner, status in ((alice.owner_id, 200), ("somebody-else", 404)):
        headers = {"Turnlog-Owner": owner}
        assert service.send("GET", f"{LIST}/{id_}", headers=headers, params={"as_of": position}).status_code == status


def test_agents_of_the_past_are_those_that_the_caller_may_use(alice: Caller, bob: Caller, auditor: Caller) -> None:
    position = check_position(alice.send("PUT", "/v1/agents/mine", json={"model": "m"}))
    alice.send("DELETE", "/v1/agents/mine")

    def labels(caller: Caller, **headers: str) -> list[str]:
        response = caller.send("GET", "/v1/agents", headers=headers, params={"as_of": position, "limit": 100})
        assert response.status_code == 200, response.text
        return [agent["id"] for agent in response.json()["data"] if not agent["shared"]]

    assert labels(alice) == labels(auditor, **{"Turnlog-Owner": alice.owner_id}) == ["mine"]
    assert labels(bob) == []
    assert "mine" in labels(auditor)


def test_an_auditors_read_of_the_past_is_recorded(auditor: Caller, alice: Caller) -> None:
    id_, position = started(alice, title="Before")
    alice.send("PATCH", f"{LIST}/{id_}", json={"title": "After"})
    response, (read,) = send(auditor, f"{LIST}/{id_}", params={"as_of": position})
    assert response.json()["title"] == "Before"
    assert (read["ids"], read["parameters"]) == ({"conversation_id": id_}, ["as_of"])


def test_a_read_of_the_future_is_recorded_and_refused(auditor: Caller) -> None:
    response, (read,) = send(auditor, LIST, params={"as_of": "999999999999"})
    check_problem(response, 400, "INVALID_AS_OF")
    assert read["parameters"] == ["as_of"]
