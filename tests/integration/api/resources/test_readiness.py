"""`GET /readyz` names what is not ready."""

from typing import Any

import httpx
import pytest

from api.app import create_app
from api.settings import load_settings
from tests.integration.api.conftest import Serve
from tests.support.http.api_client import Api
from tests.support.store import rows
from tests.support.waiting import eventually
from turns.model import gateway


def ready(api: Api) -> tuple[int, dict[str, Any]]:
    response = api.http.get("/readyz")
    return response.status_code, response.json()


def parts(api: Api) -> list[tuple[str, str]]:
    return [(part["part"], part["state"]) for part in ready(api)[1]["not_ready"]]


def test_nothing_is_named_while_all_is_ready(fresh_api: Api) -> None:
    eventually(lambda: not parts(fresh_api))
    status, body = ready(fresh_api)
    assert (status, body["status"], body["not_ready"]) == (200, "ready", [])


def test_a_read_model_that_an_error_stopped_is_named(fresh_api: Api, broken_listing: None) -> None:
    fresh_api.conversation(title="Poison")
    eventually(lambda: ("projection", "stopped") in parts(fresh_api))
    status, body = ready(fresh_api)
    (part,) = body["not_ready"]
    assert (status, body["status"], part["name"]) == (200, "ready", "listing")
    assert body["projections"]["listing"]["stopped"]


def test_a_read_model_that_is_built_for_the_first_time_is_named(fresh_api: Api, database_url: str) -> None:
    rows(database_url, "UPDATE projections SET state = 'building' WHERE name = 'usage'")
    status, body = ready(fresh_api)
    found = {(part["part"], part.get("name"), part["state"]) for part in body["not_ready"]}
    assert (status, ("projection", "usage", "building")) == (200, *found)


def test_a_schema_without_all_migrations_is_not_ready(fresh_api: Api, database_url: str) -> None:
    rows(database_url, "DELETE FROM migrations WHERE number = 2")
    status, body = ready(fresh_api)
    assert (status, body["status"]) == (503, "unavailable")
    (part,) = [part for part in body["not_ready"] if part["part"] == "migrations"]
    assert "0002_" in part["detail"]
    assert body["detail"] == part["detail"]


def test_a_model_library_that_cannot_be_loaded_is_named(
    database_url: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: object) -> None:
        raise ImportError("no litellm here")

    monkeypatch.setattr(gateway, "open_library", fail)
    with serve(database_url) as api:
        eventually(lambda: ("model_library", "failed") in parts(api))
        assert ready(api)[0] == 200


async def test_a_server_that_drains_is_not_ready(prepared_url: str) -> None:
    app = create_app(load_settings(), prepared_url)
    async with app.fastapi.router.lifespan_context(app.fastapi):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            assert (await client.get("/readyz")).status_code == 200
            await app.services.drain(0)
            response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["status"] == "unavailable"
    assert [part["state"] for part in response.json()["not_ready"]] == ["draining"]


def test_a_store_that_does_not_answer_is_named(fresh_api: Api, database_url: str) -> None:
    rows(database_url, "ALTER TABLE head RENAME TO lost")
    status, body = ready(fresh_api)
    assert (status, body["status"], body["store"]) == (503, "unavailable", "unreachable")
    assert [(part["part"], part["state"]) for part in body["not_ready"]] == [("store", "unreachable")]
    assert body["detail"] == body["not_ready"][0]["detail"]
