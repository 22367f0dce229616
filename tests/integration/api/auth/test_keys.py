"""Keys over HTTP: which work, which do not, and whose conversations they reach."""

import logging
from datetime import timedelta

import pytest

from api.auth.api_keys import new_key
from eventlog.clock import now
from tests.integration.api.conftest import Serve
from tests.support.http.api_client import Api
from tests.support.http.callers import Caller, Guarded
from tests.support.http.credentials import bearer, create_key
from tests.support.http.resources import check_problem
from tests.support.store import rows
from tests.support.waiting import eventually

LIST = "/v1/conversations"


def status(guarded: Guarded, **headers: str) -> int:
    return guarded.api.http.get(LIST, headers=headers).status_code


def test_a_key_reaches_the_conversations_of_its_owner(guarded: Guarded, alice: Caller) -> None:
    started = alice.conversation(title="Mine")
    assert started["owner_id"] == alice.owner_id
    second = guarded.caller("user", alice.owner_id)
    assert second.send("GET", f"{LIST}/{started['id']}").json()["title"] == "Mine"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_the_scheme_may_be_written_in_any_case(guarded: Guarded, alice: Caller, scheme: str) -> None:
    assert status(guarded, Authorization=f"{scheme} {alice.key}") == 200


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer tlk_",
        pytest.param(f"Bearer {new_key()}", id="an unknown key"),
        pytest.param(f"Bearer {'x' * 8000}", id="a long key"),
        "Bearer ' OR 1=1 --",
        "Bearer tlk_'; DROP TABLE keys; --",
        "Bearer null",
        "Basic YWxpY2U6c2VjcmV0",
        "KEY",
        "Basic KEY",
        "Bearer KEY,KEY",
        "Bearer KEY KEY",
        "Bearer\tKEY",
        "Bearer KEYx",
    ],
)
def test_anything_but_one_key_is_refused_alike(guarded: Guarded, alice: Caller, value: str) -> None:
    response = guarded.api.http.get(LIST, headers={"Authorization": value.replace("KEY", alice.key)})
    problem = check_problem(response, 401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"] == "Bearer"
    assert alice.key not in response.text and "DROP" not in response.text
    assert problem["detail"].startswith(("Authentication is required", "The credentials", "The scheme"))


def test_two_authorization_headers_are_refused(guarded: Guarded, alice: Caller, bob: Caller) -> None:
    of_alice, of_bob = f"Bearer {alice.key}", f"Bearer {bob.key}"
    for pair in ((of_alice, of_bob), (of_bob, of_alice), (of_alice, of_alice), (of_alice, ""), ("Basic x", of_alice)):
        headers = [("Authorization", value) for value in pair]
        assert guarded.api.http.get(LIST, headers=headers).status_code == 401


def test_a_key_is_read_from_no_other_place(guarded: Guarded, alice: Caller) -> None:
    assert status(guarded, **alice.headers) == 200
    for name in ("access_token", "key", "api_key", "token", "authorization"):
        for path in (LIST, "/v1/events", f"{LIST}?limit=1&x=1"):
            assert guarded.api.http.get(path, params={name: alice.key}).status_code == 401
    for name in ("X-Api-Key", "X-Authorization", "Proxy-Authorization", "Cookie", "Turnlog-Key"):
        assert status(guarded, **{name: f"Bearer {alice.key}"}) == 401
    body = {"Authorization": f"Bearer {alice.key}"}
    assert guarded.api.http.post(LIST, json=body).status_code == 401


def test_a_key_in_another_case_is_another_key(guarded: Guarded, alice: Caller) -> None:
    random = alice.key.removeprefix("tlk_")
    for other in (alice.key.upper(), alice.key.lower(), f"tlk_{random.swapcase()}", f"tlk_{random[::-1]}"):
        assert other != alice.key
        assert status(guarded, **bearer(other)) == 401


def test_no_answer_tells_why_a_key_is_refused(guarded: Guarded, prepared_url: str, alice: Caller, bob: Caller) -> None:
    bob.revoke()
    eventually(lambda: status(guarded, **bob.headers) == 401)
    _, expired = create_key(guarded.conninfo, alice.owner_id, expires_at=now() - timedelta(seconds=1))
    _, of_another_log = create_key(prepared_url, alice.owner_id)
    for path in (LIST, f"{LIST}/{alice.conversation()['id']}", "/metrics", "/v1/projections"):
        answers: list[tuple[int, dict[str, str], bytes]] = []
        for key in (bob.key, expired, of_another_log, new_key(), "tlk_", "x" * 5000):
            response = guarded.api.http.get(path, headers=bearer(key))
            headers = {name: value for name, value in response.headers.items() if name != "date"}
            answers.append((response.status_code, headers, response.content))
        assert answers == answers[:1] * len(answers)
        assert answers[0][0] == 401


def test_the_write_of_a_revoked_key_is_not_done(guarded: Guarded, alice: Caller, bob: Caller) -> None:
    id_ = alice.conversation()["id"]
    second = guarded.caller("user", alice.owner_id)
    second.revoke()
    eventually(lambda: status(guarded, **second.headers) == 401)
    assert second.send("DELETE", f"{LIST}/{id_}").status_code == 401
    assert second.send("POST", "/v1/tokens").status_code == 401
    assert alice.send("GET", f"{LIST}/{id_}").status_code == 200


def test_a_key_of_another_database_is_refused(guarded: Guarded, prepared_url: str) -> None:
    _, key = create_key(prepared_url, "alice")
    assert status(guarded, **bearer(key)) == 401


def test_a_revoked_key_stops_in_every_process(guarded: Guarded, serve: Serve, alice: Caller) -> None:
    with serve(guarded.conninfo, auth="keys") as other:
        apis = (guarded.api, other)
        assert [api.http.get(LIST, headers=alice.headers).status_code for api in apis] == [200, 200]
        alice.revoke()
        for api in apis:
            eventually(lambda: api.http.get(LIST, headers=alice.headers).status_code == 401)  # noqa: B023


def test_an_expired_key_is_refused(guarded: Guarded) -> None:
    _, key = create_key(guarded.conninfo, "alice", expires_at=now() - timedelta(seconds=1))
    assert status(guarded, **bearer(key)) == 401


def test_an_outage_is_no_401(database_url: str, serve: Serve) -> None:
    _, key = create_key(database_url, "alice")
    with serve(database_url, auth="keys") as api:
        assert api.http.get(LIST, headers=bearer(key)).status_code == 200
        rows(database_url, "ALTER TABLE keys RENAME TO keys_elsewhere")
        check_problem(api.http.get(LIST, headers=bearer(new_key())), 503, "STORE_UNAVAILABLE")
        rows(database_url, "ALTER TABLE keys_elsewhere RENAME TO keys")
        assert api.http.get(LIST, headers=bearer(new_key())).status_code == 401


def test_the_body_of_a_stranger_is_not_read(guarded: Guarded) -> None:
    response = guarded.api.http.post(LIST, content=b"[" * 1_000_000, headers={"Content-Type": "text/html"})
    check_problem(response, 401, "UNAUTHENTICATED")


def test_a_stranger_learns_only_that_the_server_is_ready(guarded: Guarded, admin: Caller) -> None:
    assert guarded.api.get("/readyz") == {"status": "ready", "not_ready": []}
    assert b"turnlog_log_position" in admin.send("GET", "/metrics").content
    for page in ("/docs", "/openapi.json", "/", "/healthz"):
        assert guarded.api.http.get(page).status_code == 200


def test_without_authentication_credentials_are_ignored(api: Api) -> None:
    for headers in (bearer("sk-anything"), {"Authorization": "Basic x"}, {}):
        assert api.http.get(LIST, headers=headers).status_code == 200


def test_no_key_is_in_the_log_of_the_server(guarded: Guarded, alice: Caller, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        wrong = new_key()
        assert status(guarded, **bearer(wrong)) == 401
        assert status(guarded, **alice.headers) == 200
        token = alice.short_token()
        with guarded.api.http.stream("GET", "/v1/events", params={"access_token": token}) as response:
            assert response.status_code == 200
    client = ("httpx", "httpcore")
    server = " ".join(record.getMessage() for record in caplog.records if not record.name.startswith(client))
    for secret in (wrong, alice.key, token):
        assert secret not in server
