"""The application under the real server, in a thread of the test process."""

import signal
import socket
import threading
from types import TracebackType
from typing import Any, Self

from api.app import create_app
from api.settings import load_settings
from api.telemetry.traces import Traces
from cli.connections import Limits
from cli.server import DrainingServer, configure
from tests.support.waiting import PATIENCE_S


class ServedApp:
    """The application on a database as a context manager, listening at `url`.

    It may be entered again after it was left, which is a restart on the same database and another port.
    """

    def __init__(
        self, conninfo: str, limits: Limits | None = None, traces: Traces | None = None, **settings: Any
    ) -> None:
        self.url = ""
        self._traces = traces
        self._limits = limits
        self._conninfo = conninfo
        self._settings = load_settings(**{"shutdown_grace_s": 0.0, **settings})

    def __enter__(self) -> Self:
        app = create_app(self._settings, self._conninfo, traces=self._traces)
        ready = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._server = DrainingServer(
            configure(app, self._limits), lambda: app.services.drain(self._settings.shutdown_grace_s), ready.set
        )
        self._thread = threading.Thread(target=self._server.run, args=[[self._listener]], daemon=True)
        self._thread.start()
        assert ready.wait(PATIENCE_S), "the application did not start"
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.handle_exit(signal.SIGTERM, None)
        self._thread.join(PATIENCE_S)
        self._listener.close()
        assert not self._thread.is_alive(), "the application did not end"
