"""Two logs: one to export, and an empty one to import into."""

from pathlib import Path

import pytest

from eventlog.migrations import migrate
from tests.support.log_exports import record_everything
from tests.support.store import opened


@pytest.fixture
async def log_url(database_url: str) -> str:
    """A log with every type of event, images, a key of a command and an erased event."""
    async with opened(database_url, listening=False) as store:
        await record_everything(store)
    return database_url


@pytest.fixture
def empty_url(empty_database_url: str) -> str:
    """An empty log in another database."""
    migrate(empty_database_url)
    return empty_database_url


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A directory for an export, which does not exist yet."""
    return tmp_path / "export"
