"""APIs with authentication by keys, shared by the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.integration.api.conftest import Serve
from tests.support.http.callers import Caller, Guarded
from tests.support.http.known_routes import Place, new_place


@pytest.fixture(scope="session")
def guarded(shared_database_url: str, serve: Serve) -> Iterator[Guarded]:
    """An API with authentication by keys."""
    with serve(shared_database_url, auth="keys") as api:
        yield Guarded(api, shared_database_url)


@pytest.fixture
def alice(guarded: Guarded) -> Caller:
    return guarded.caller("user")


@pytest.fixture
def bob(guarded: Guarded) -> Caller:
    return guarded.caller("user")


@pytest.fixture(scope="session")
def auditor(guarded: Guarded) -> Caller:
    return guarded.caller("auditor", "watch")


@pytest.fixture(scope="session")
def admin(guarded: Guarded) -> Caller:
    return guarded.caller("admin", "ops")


@pytest.fixture(scope="session")
def service(guarded: Guarded) -> Caller:
    return guarded.caller("service", "billing")


@pytest.fixture(scope="module")
def owner(guarded: Guarded) -> Caller:
    return guarded.caller("user")


@pytest.fixture(scope="module")
def place(owner: Caller) -> Place:
    return new_place(owner)
