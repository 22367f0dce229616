"""A prepared database, stores of up to two processes, and quick retries."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from projections import engine
from projections.catalog import install
from tests.support.store import Store, opened


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run a test on the event loops that it names, or else on asyncio's own."""
    marker = item.get_closest_marker("asyncio")
    loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return loops if marker and "loop_factories" in marker.kwargs else {"asyncio": asyncio.new_event_loop}


@pytest.fixture
def prepared_url(database_url: str) -> str:
    """A database with a log and the tables of all projections."""
    install(database_url)
    return database_url


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url) as store:
        yield store


@pytest.fixture
async def there(database_url: str) -> AsyncIterator[Store]:
    """The store of another process on the same log."""
    async with opened(database_url) as store:
        yield store


@pytest.fixture
def impatient_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "RETRY_LEAD_S", 0.05)
    monkeypatch.setattr(engine, "RETRY_ERROR_S", 0.02)
    monkeypatch.setattr(engine, "MAX_RETRY_ERROR_S", 0.1)
