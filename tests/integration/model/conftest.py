"""A model server for each test file and a gateway to it for each test."""

import importlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from tests.support.models.model_calls import gateway_to
from tests.support.models.model_server import ModelServer
from turns.model.gateway import ModelGateway


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


@pytest.fixture
async def litellm(gateway: ModelGateway) -> Any:
    """The litellm module as the gateway loads it.

    An import without the gateway would request prices from the network.
    """
    await gateway.warm_up()
    return importlib.import_module("litellm")
