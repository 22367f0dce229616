"""A command opens a database that at first answers too late."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Timer
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from cli.database_options import ExistingLog, FailedError, create_log, existing_log
from eventlog import retry
from eventlog.db import sessions
from postgres.embedded import EmbeddedPostgres
from tests.support.servers.own_postgres import frozen_postgres

FROZEN_FOR_S = 3.0


@pytest.fixture
def url(data_dir: Path) -> Iterator[str]:
    with EmbeddedPostgres(data_dir) as embedded:
        given = conninfo_to_dict(embedded.conninfo)
        yield f"postgresql://{given['user']}@/{given['dbname']}?host={quote(str(given['host']), safe='')}"


@pytest.fixture
def freeze(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Return a function that freezes PostgreSQL for longer than an attempt takes."""
    monkeypatch.setattr(sessions, "COMMAND_CONNECT_TIMEOUT_S", 2)
    with ExitStack() as stack:

        def freeze() -> None:
            frozen = stack.enter_context(ExitStack())
            frozen.enter_context(frozen_postgres(data_dir))
            thaw = Timer(FROZEN_FOR_S, frozen.close)
            stack.callback(thaw.join)
            thaw.start()

        yield freeze


def test_a_server_creates_its_log_once_postgresql_answers(url: str, freeze: Callable[[], None]) -> None:
    freeze()
    create_log(url, "turnlog")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT position FROM turnlog.head").fetchone() == (0,)


def test_a_command_opens_its_log_once_postgresql_answers(url: str, freeze: Callable[[], None]) -> None:
    create_log(url, "turnlog")
    freeze()
    assert open_log_of(url) == (url, "turnlog", False)


def test_a_command_ends_when_postgresql_does_not_answer_in_time(
    url: str, freeze: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "START_TIMEOUT_S", 0.0)
    create_log(url, "turnlog")
    freeze()
    with pytest.raises(FailedError, match="The database cannot be reached: connection timeout expired"):
        open_log_of(url)


def test_a_refused_connection_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "START_TIMEOUT_S", math.inf)
    with pytest.raises(FailedError, match=r"The database cannot be reached: .*refused"):
        open_log_of("postgresql://127.0.0.1:1/log")


def open_log_of(url: str) -> ExistingLog:
    with existing_log(None, url) as opened:
        return opened
