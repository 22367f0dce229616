"""One serving process: uvicorn, with a shutdown that lets running turns finish."""

import asyncio
import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from api.telemetry.logs import log_loop_errors

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from api.settings import Settings
    from cli.connections import Limits

_log = logging.getLogger("uvicorn.error")
_progress_log = logging.getLogger(__name__)

CLOSING_TIMEOUT_S = 3  # for answers that are still being sent once all turns have ended


class DrainingServer(uvicorn.Server):
    """A server that drains at the first signal and exits at the second.

    While it drains it accepts no new connection, and open streams go on.
    """

    def __init__(
        self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]], announce: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._announce = announce
        self._stop_requested = False
        self._draining: asyncio.Future[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        _log.disabled = False  # an earlier server of this process may have ended at once
        log_loop_errors(asyncio.get_running_loop())
        await super().startup(sockets)
        _progress_log.info("the server is ready, as process %s", os.getpid())
        self._announce()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to drain at the first signal, and exit at the second."""
        # Overridden because uvicorn cuts streams off, and raises the signal again once it has closed.
        if self._stop_requested:
            self.should_exit = self.force_exit = True
            _log.disabled = True  # it would print a traceback for every stream that is cut off
        self._stop_requested = True

    async def on_tick(self, counter: int) -> bool:
        if self._stop_requested and self._draining is None:
            for server in self.servers:
                server.close()
            _progress_log.info("the server drains")
            self._draining = asyncio.ensure_future(self._drain())
        if self._draining is not None and self._draining.done() and not self.should_exit:
            self.should_exit = True
            if error := self._draining.exception():
                _log.error("Running turns could not be ended in the log. Recovery will end them.", exc_info=error)
        return await super().on_tick(counter)


def run_server(settings: "Settings", conninfo: str, listener: socket.socket, announce: Callable[[], None]) -> int:
    """Serve until a signal ends it, and return the exit code of the process."""
    from api.app import create_app
    from cli.store_condition import store_condition

    app = create_app(settings, conninfo, lambda: store_condition(settings, conninfo))
    server = DrainingServer(configure(app), lambda: app.services.drain(settings.shutdown_grace_s), announce)
    try:
        server.run(sockets=[listener])
    except SystemExit:
        return 1  # uvicorn has logged why the application did not start
    return 1 if server.force_exit else 0


def configure(app: "ASGIApp", limits: "Limits | None" = None) -> uvicorn.Config:
    """Return the uvicorn configuration for an application with `ConnectionTracking`.

    Connections rely on that middleware. The configuration names no address: the server gets a listening socket.
    """
    from cli.connections import Limits, limited

    limits = limits or Limits()
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=limited(limits),
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,  # its lines go where all others go
        log_level="warning",
        server_header=False,
        timeout_keep_alive=math.ceil(limits.idle_s),
        timeout_graceful_shutdown=CLOSING_TIMEOUT_S,
    )
