"""The access log: one line for each request, at the level `info`."""

import logging
from time import perf_counter
from typing import Protocol

import structlog
from starlette.types import Scope

NAME = "api.access"


class AnsweredRequest(Protocol):
    """A request whose answer has been sent."""

    began: float
    status: int
    position: bytes | None


class AccessLog:
    """Writes the lines past the standard library's logging, which is slower."""

    def __init__(self) -> None:
        self._log = structlog.get_logger(NAME).bind(logger=NAME)

    def write(self, scope: Scope, method: str, route: str, request_id: str, request: AnsweredRequest) -> None:
        """Write the line of a request, with the template of its path and no query."""
        fields: dict[str, object] = {
            "method": method,
            "route": route,
            "status": request.status,
            "duration_ms": round((perf_counter() - request.began) * 1000, 3),
            "request_id": request_id,
        }
        if owner := scope.get("turnlog.owner"):
            fields["owner"] = owner
            if conversation_id := scope.get("turnlog.conversation_id"):
                fields["conversation_id"] = conversation_id
        if request.position is not None:
            fields["position"] = int(request.position)
        self._log.info("request", **fields)


def open_access_log() -> AccessLog | None:
    """Return the access log, None if the level is higher than `info`."""
    return AccessLog() if logging.getLogger(NAME).isEnabledFor(logging.INFO) else None
