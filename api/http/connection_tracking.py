"""Tracking of the answers on a connection, for a server that asks for it."""

from collections.abc import Awaitable
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Connection(Protocol):
    """A client's connection, which the server passes in the ASGI scope.

    It is `scope["state"]["connection"]`.
    """

    def answer_begins(self, scope: Scope) -> None:
        """Note that the application has a request."""
        ...

    def response_begins(self) -> None:
        """Note that the application sends a response."""
        ...

    def answer_ends(self) -> None:
        """Note that the application is done with a request."""
        ...

    def hang_up(self) -> None:
        """Close the connection at once."""
        ...


def connection_of(scope: Scope) -> Connection | None:
    """Return the client's connection, None where the server offers none."""
    return scope.get("state", {}).get("connection")


class ConnectionTracking:
    """ASGI middleware that reports the begin and end of answers to a connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, and report the answer if there is a connection."""
        connection = connection_of(scope) if scope["type"] == "http" else None
        if connection is None:
            await self._app(scope, receive, send)
            return

        def report_and_send(message: Message) -> Awaitable[None]:
            connection.response_begins()
            return send(message)

        connection.answer_begins(scope)
        try:
            await self._app(scope, receive, report_and_send)
        finally:
            connection.answer_ends()
