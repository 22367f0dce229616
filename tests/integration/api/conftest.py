"""One application, model server and database for all tests of the API.

Each test uses conversations of its own.
"""

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from uuid import uuid4

import pytest

from commands.tokens import Tokenizer
from domain.events import ConversationEvent, ConversationStarted
from projections.models.listing import ListingProjection
from projections.projection import Change
from tests.support.http import plain_http
from tests.support.http.api_client import Api
from tests.support.http.tool_turns import ANSWER, CALLS
from tests.support.models.model_scripts import Refusal, Script, Step
from tests.support.models.model_server import ModelServer
from tests.support.servers.serving import ServedApp
from turns.model.litellm_library import load_litellm

Serve = Callable[..., AbstractContextManager[Api]]
GivenModel = Callable[..., str]


@pytest.fixture(scope="session")
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def given_model(models: ModelServer) -> GivenModel:
    """Return a function that scripts a model for this test and returns its name."""

    def given(*answers: Script | Refusal | list[Step]) -> str:
        name = f"model-{uuid4().hex[:12]}"
        models.script(name, *[Script(answer) if isinstance(answer, list) else answer for answer in answers])
        return name

    return given


@pytest.fixture
def calling_model(given_model: GivenModel) -> str:
    """A model for this test that calls two tools and then answers with their results."""
    return given_model(CALLS, ANSWER)


@pytest.fixture(scope="session")
def loaded_model_library() -> None:
    """Load litellm once.

    It warns while it loads, and a warning during a test would break it for the whole run.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_litellm(Tokenizer())


@pytest.fixture(scope="session")
def serve(models: ModelServer, loaded_model_library: None) -> Serve:
    """Return a context manager that serves a database with the given settings."""

    @contextmanager
    def serving(conninfo: str, **settings: Any) -> Generator[Api]:
        models.script("default", Script(["Hello", " there"]))
        given: dict[str, Any] = {"model": "default", "model_api_base": models.url, **settings}
        with (
            # Close this last. A request in another thread would not notice until its time limit.
            plain_http.Client(timeout=30) as http,
            ServedApp(conninfo, **given) as served,
        ):
            http.base_url = served.url
            yield Api(http)

    return serving


@pytest.fixture(scope="session")
def api(shared_database_url: str, serve: Serve) -> Iterator[Api]:
    """The API that tests share."""
    with serve(shared_database_url) as api:
        yield api


@pytest.fixture
def id_(api: Api) -> str:
    """The id of a conversation for this test."""
    return api.conversation()["id"]


@pytest.fixture
def fresh_api(database_url: str, serve: Serve) -> Iterator[Api]:
    """An API with an empty log."""
    with serve(database_url) as api:
        yield api


@pytest.fixture
def broken_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the listing fail at every conversation with the title Poison."""
    changes = ListingProjection.changes

    def failing(self: Any, events: Sequence[ConversationEvent]) -> list[Change]:
        if any(isinstance(event, ConversationStarted) and event.title == "Poison" for event in events):
            raise RuntimeError("SELECT secret FROM insides")
        return changes(self, events)

    monkeypatch.setattr(ListingProjection, "changes", failing)
