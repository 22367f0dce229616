"""A model server for each test file and a gateway to it for each test."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest

from tests.support.model_calls import gateway_to
from tests.support.model_server import ModelServer
from turns.gateway import ModelGateway


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(autouse=True)
def no_requests_yet(server: ModelServer) -> None:
    server.requests.clear()


@pytest.fixture
async def gateway(server: ModelServer) -> AsyncIterator[ModelGateway]:
    async with aclosing(gateway_to(server)) as gateway:
        yield gateway
