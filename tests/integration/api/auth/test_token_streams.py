"""Short tokens open event streams only, and streams end with their key."""

import pytest

from api.auth.access import Access
from tests.integration.api.conftest import Serve
from tests.support.http.api_client import Api
from tests.support.http.callers import Caller, Guarded
from tests.support.http.known_routes import ALL, Place, access, body_of, new_place
from tests.support.http.resources import check_problem
from tests.support.waiting import eventually

EVENTS = "/v1/events"


def opened(api: Api, token: str, path: str = EVENTS, **headers: str) -> int:
    with api.http.stream("GET", path, params={"access_token": token}, headers=headers) as response:
        return response.status_code


def test_a_token_is_for_the_caller_itself(guarded: Guarded, alice: Caller) -> None:
    response = alice.send("POST", "/v1/tokens")
    token = response.json()
    assert token.keys() == {"access_token", "token_type", "expires_at"}
    assert (response.status_code, response.headers["cache-control"], token["token_type"]) == (201, "no-store", "Bearer")
    assert alice.key not in response.text
    assert opened(guarded.api, token["access_token"]) == 200


@pytest.mark.parametrize(("method", "path"), ALL)
def test_a_token_opens_event_streams_and_nothing_else(
    guarded: Guarded, owner: Caller, place: Place, method: str, path: str
) -> None:
    token = owner.short_token()
    with guarded.api.http.stream(
        method, place.path(path), params={"access_token": token}, **body_of(method, path)
    ) as response:
        needed = access(method, path)
        expected = {Access.STREAMS: 200, Access.PUBLIC: 422}.get(needed, 401)
        if path in {"/healthz", "/readyz", "/", "/metrics"} and needed is Access.PUBLIC:
            assert response.status_code in {200, 422}
        else:
            assert response.status_code == expected
    if needed is not Access.PUBLIC:  # and as a header it opens nothing at all
        headers = {"Authorization": f"Bearer {token}"}
        response = guarded.api.http.request(method, place.path(path), headers=headers, **body_of(method, path))
        assert response.status_code == 401


def test_a_token_opens_no_stream_of_another_owner(guarded: Guarded, alice: Caller, bob: Caller) -> None:
    place = new_place(bob)
    token = alice.short_token()
    for path in ("events", f"turns/{place.turn_id}/stream"):
        assert opened(guarded.api, token, f"/v1/conversations/{place.conversation_id}/{path}") == 404


@pytest.mark.parametrize("token", ["", "x", "x.y", "a.b.c", "' OR 1=1 --", "é", "%00", "x" * 9000])
def test_another_text_is_no_token(guarded: Guarded, token: str) -> None:
    check_problem(guarded.api.http.get(EVENTS, params={"access_token": token}), 401, "UNAUTHENTICATED")


def test_a_key_is_no_token_for_an_address(guarded: Guarded, alice: Caller) -> None:
    assert opened(guarded.api, alice.key) == 401


def test_two_tokens_are_refused(guarded: Guarded, alice: Caller) -> None:
    token = alice.short_token()
    assert guarded.api.http.get(f"{EVENTS}?access_token={token}&access_token={token}").status_code == 401


def test_other_parameters_stay_beside_a_token(guarded: Guarded, alice: Caller) -> None:
    token = alice.short_token()
    path = f"{EVENTS}?type=TurnStarted&access_token={token}&agent_id=a"
    with guarded.api.http.stream("GET", path) as response:
        assert response.status_code == 200
    problem = check_problem(guarded.api.http.get(f"{path}&nothing=1"), 422, "VALIDATION_FAILED")
    assert [error["loc"] for error in problem["errors"]] == [["query", "nothing"]]


def test_a_token_of_a_service_is_for_the_owner_that_it_names(
    guarded: Guarded, service: Caller, alice: Caller, bob: Caller
) -> None:
    token = service.send("POST", "/v1/tokens", headers={"Turnlog-Owner": alice.owner_id}).json()["access_token"]
    of_alice, of_bob = alice.conversation()["id"], bob.conversation()["id"]
    assert opened(guarded.api, token, f"/v1/conversations/{of_alice}/events") == 200
    assert opened(guarded.api, token, f"/v1/conversations/{of_bob}/events") == 404
    # The token fixes the owner.
    assert opened(guarded.api, token, **{"Turnlog-Owner": bob.owner_id}) == 403


def test_a_token_works_in_every_process_and_in_no_other_log(
    guarded: Guarded, serve: Serve, alice: Caller, prepared_url: str
) -> None:
    token = alice.short_token()
    with serve(guarded.conninfo, auth="keys") as other:
        assert opened(other, token) == 200
    with serve(prepared_url, auth="keys") as elsewhere:
        assert opened(elsewhere, token) == 401


def test_a_token_ends_with_its_key_in_every_process(guarded: Guarded, serve: Serve, alice: Caller) -> None:
    token, place = alice.short_token(), new_place(alice)
    paths = [place.path(path) for method, path in ALL if method == "GET" and access(method, path) is Access.STREAMS]
    assert len(paths) == 3
    with serve(guarded.conninfo, auth="keys") as other:
        for api in (guarded.api, other):
            assert [opened(api, token, path) for path in paths] == [200] * 3
        alice.revoke()
        for api in (guarded.api, other):
            eventually(lambda: opened(api, token) == 401)  # noqa: B023
            assert [opened(api, token, path) for path in paths] == [401] * 3


def test_a_stolen_token_gives_no_further_token(guarded: Guarded, alice: Caller) -> None:
    token = alice.short_token()
    assert opened(guarded.api, token) == 200
    for response in (
        guarded.api.http.post("/v1/tokens", params={"access_token": token}),
        guarded.api.http.post("/v1/tokens", headers={"Authorization": f"Bearer {token}"}),
    ):
        check_problem(response, 401, "UNAUTHENTICATED")
        assert token not in response.text


def test_the_name_of_the_parameter_has_one_spelling(guarded: Guarded, alice: Caller) -> None:
    token = alice.short_token()
    for name in ("access%5Ftoken", "ACCESS_TOKEN", "access_token%20", "%61ccess_token", "access_token[]", "token"):
        assert guarded.api.http.get(f"{EVENTS}?{name}={token}").status_code == 401


@pytest.mark.parametrize("by_token", [False, True])
def test_an_open_stream_ends_when_its_key_is_revoked(guarded: Guarded, alice: Caller, by_token: bool) -> None:
    given = {"params": {"access_token": alice.short_token()}} if by_token else {"headers": alice.headers}
    with guarded.api.http.stream("GET", EVENTS, **given) as response:  # type: ignore[arg-type]
        pieces = response.iter_raw()
        assert next(pieces).startswith(b": open")
        alice.revoke()
        # The stream ends, without a further comment and without breaking off.
        assert next(pieces, b"") == b""


def test_without_authentication_streams_take_any_token(api: Api) -> None:
    issued = api.http.post("/v1/tokens").json()["access_token"]
    assert [opened(api, token) for token in (issued, "x")] == [200, 200]
