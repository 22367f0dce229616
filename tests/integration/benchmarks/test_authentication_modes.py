"""The callers of the benchmark of authentication are let in, by their credentials."""

import asyncio
from typing import Any

import httpx

from api.settings import Settings
from benchmarks.workload.bearers import make_modes
from tests.support.servers.serving import ServedApp

PREFIX = "TURNLOG_"


def test_every_mode_lets_its_own_caller_in_and_no_other(empty_database_url: str) -> None:
    modes = asyncio.run(make_modes(empty_database_url))
    assert [mode.settings["TURNLOG_AUTH"] for mode in modes] == ["none", "none", "keys", "jwt", "jwt", "jwt"]
    assert len({mode.settings["TURNLOG_LOG_SCHEMA"] for mode in modes}) == len(modes)
    for mode in modes:
        settings: dict[str, Any] = {name.removeprefix(PREFIX).lower(): value for name, value in mode.settings.items()}
        assert settings.keys() <= Settings.model_fields.keys()
        with ServedApp(empty_database_url, **settings) as served:
            path = f"{served.url}/v1/conversations"
            headers = {"authorization": f"Bearer {mode.bearer}"} if mode.bearer else {}
            assert httpx.get(path, headers=headers).status_code == 200
            assert httpx.get(path).status_code == (401 if mode.bearer else 200)
