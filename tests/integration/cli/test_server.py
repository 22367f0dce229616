"""The shutdown of a serving process, with a real uvicorn and a small application."""

import asyncio
import signal
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from api.http.connection_tracking import ConnectionTracking
from cli import server as server_module
from cli.server import DrainingServer, configure
from tests.support.waiting import NEVER_S, PATIENCE_S


@pytest.fixture(autouse=True)
def _no_end_by_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the timeout of a shutdown."""
    monkeypatch.setattr(server_module, "CLOSING_TIMEOUT_S", int(NEVER_S))


class Application:
    """An application whose streams end when `finish` is set."""

    def __init__(self) -> None:
        self.finish = asyncio.Event()
        self.closed = False
        self.app = FastAPI(lifespan=self._lifespan)
        self.app.add_api_route("/stream", self._stream)

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncGenerator[None]:
        yield
        self.closed = True

    async def _stream(self) -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            yield "first "
            await self.finish.wait()
            yield "last"

        return StreamingResponse(chunks())


class Running:
    def __init__(self, server: DrainingServer, url: str, done: asyncio.Task[None]) -> None:
        self.server = server
        self.client = httpx.AsyncClient(base_url=url)
        self.done = done

    async def ends(self) -> bool:
        await asyncio.wait([self.done], timeout=PATIENCE_S)
        return self.done.done()


@asynccontextmanager
async def serving(app: FastAPI, drain: Callable[[], Awaitable[None]]) -> AsyncGenerator[Running]:
    ready = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = DrainingServer(configure(ConnectionTracking(app)), drain, ready.set)
        done = asyncio.create_task(server.serve([listener]))
        await ready.wait()
        running = Running(server, f"http://127.0.0.1:{listener.getsockname()[1]}", done)
        try:
            yield running
        finally:
            await running.client.aclose()
            running.server.handle_exit(signal.SIGTERM, None)
            running.server.handle_exit(signal.SIGTERM, None)
            await done


async def nothing_runs() -> None:
    """A drain with nothing to wait for."""


async def test_a_stream_continues_to_its_end_while_the_server_drains() -> None:
    application = Application()
    drained = asyncio.Event()

    async def drain() -> None:
        drained.set()
        await application.finish.wait()

    async with serving(application.app, drain) as running:
        async with running.client.stream("GET", "/stream") as answer:
            chunks = answer.aiter_text()
            assert await anext(chunks) == "first "
            running.server.handle_exit(signal.SIGTERM, None)
            await asyncio.wait_for(drained.wait(), PATIENCE_S)
            with pytest.raises(httpx.ConnectError):
                await httpx.AsyncClient(base_url=str(running.client.base_url)).get("/stream")
            assert not running.done.done()
            application.finish.set()
            assert await anext(chunks) == "last"
        assert await running.ends()
        assert application.closed


async def test_an_idle_connection_does_not_delay_the_shutdown() -> None:
    application = Application()
    async with serving(application.app, nothing_runs) as running:
        assert (await running.client.get("/nothing")).status_code == 404  # its connection is kept alive
        running.server.handle_exit(signal.SIGTERM, None)
        assert await running.ends()
        assert application.closed


async def test_a_second_request_to_end_does_not_wait_for_anything() -> None:
    application = Application()
    draining = asyncio.Event()

    async def never_ends() -> None:
        draining.set()
        await asyncio.Event().wait()

    async with serving(application.app, never_ends) as running:
        running.server.handle_exit(signal.SIGINT, None)
        await asyncio.wait_for(draining.wait(), PATIENCE_S)
        assert not running.done.done()
        running.server.handle_exit(signal.SIGINT, None)
        assert await running.ends()


async def test_an_error_of_the_drain_is_logged_and_the_server_still_closes(caplog: pytest.LogCaptureFixture) -> None:
    application = Application()

    async def drain() -> None:
        raise ConnectionError("the database is gone")

    async with serving(application.app, drain) as running:
        running.server.handle_exit(signal.SIGTERM, None)
        assert await running.ends()
        assert application.closed
    assert "Recovery will end them" in caplog.text
