"""A server starts on a PostgreSQL that at first answers too late."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from api import services
from eventlog.db import database, sessions
from postgres.embedded import EmbeddedPostgres
from projections import catalog
from tests.support.http import plain_http
from tests.support.servers.own_postgres import frozen_postgres
from tests.support.servers.serving import ServedApp
from tests.support.waiting import eventually

FROZEN_FOR_S = 3.0


@pytest.fixture
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each connection attempt less time than PostgreSQL is frozen for."""
    monkeypatch.setattr(database, "CONNECT_TIMEOUT_S", 1)
    monkeypatch.setattr(sessions, "COMMAND_CONNECT_TIMEOUT_S", 2)


@pytest.mark.usefixtures("_short_timeouts")
@pytest.mark.parametrize("last_step", [None, (catalog, "migrate"), (services, "prepare")])
def test_a_server_starts_once_postgresql_answers(
    last_step: tuple[Any, str] | None, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Freeze PostgreSQL before the start, or after a step of it."""
    with EmbeddedPostgres(data_dir) as embedded, ExitStack() as stack:

        def freeze() -> None:
            frozen = stack.enter_context(ExitStack())
            frozen.enter_context(frozen_postgres(data_dir))
            thaw = Timer(FROZEN_FOR_S, frozen.close)
            stack.callback(thaw.join)
            thaw.start()

        if last_step is None:
            freeze()
        else:
            monkeypatch.setattr(*last_step, followed_once(getattr(*last_step), freeze))
        with ServedApp(embedded.conninfo) as app:
            # With these short timeouts, a request may still be refused for a moment after a slow connection.
            eventually(lambda: plain_http.get(f"{app.url}/readyz").status_code == 200)


def followed_once(step: Callable[..., None], then: Callable[[], None]) -> Callable[..., None]:
    """Return a step that calls `then` after its first call."""
    calls: list[Callable[[], None]] = [then]

    def call(*arguments: object) -> None:
        step(*arguments)
        if calls:
            calls.pop()()

    return call
