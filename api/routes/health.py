"""Routes that say whether the process is alive, and whether it can serve."""

import asyncio
from typing import Any

from fastapi import APIRouter, Response

from api.http.call import CallParam, json_response
from api.http.route import JSONRoute
from api.services import Services
from eventlog.errors import StoreUnavailableError
from postgres.embedded import Condition, EmbeddedPostgres
from projections.catalog import PROJECTIONS
from projections.status import Status, read_status

_CONDITIONS = {
    Condition.RUNNING: "unreachable",
    Condition.STARTING: "starting",
    Condition.DIED: "restarting",
    Condition.STOPPED: "stopped",
}
_DETAILS = {
    "unreachable": "The store does not answer.",
    "starting": "PostgreSQL is starting or stopping.",
    "restarting": "PostgreSQL died and is being started again.",
    "stopped": "PostgreSQL was stopped on purpose; any turnlog command on its data directory starts it.",
}

router = APIRouter(route_class=JSONRoute, tags=["operations"])


@router.get("/healthz")
async def healthz() -> Response:
    """Report that the process is alive."""
    return json_response({"status": "ok"})


@router.get("/readyz")
async def readyz(call: CallParam) -> Response:
    """Report whether the store answers, and the position of each projection.

    If the store does not answer, report its condition.
    """
    try:
        found = await read_status(call.services.database, PROJECTIONS)
    except StoreUnavailableError:
        condition = await asyncio.to_thread(_condition, call.services)
        return json_response({"status": "unavailable", "store": condition, "detail": _DETAILS[condition]}, 503)
    if call.identity.role == "anonymous":
        return json_response({"status": "ready"})
    shown = {status.name: _shown(status) for status in found.projections}
    return json_response({"status": "ready", "position": found.head, "projections": shown})


def _condition(services: Services) -> str:
    """Return the condition of a store that does not answer.

    Of a PostgreSQL that is not the embedded one, only that it does not answer is known.
    """
    embedded = EmbeddedPostgres(services.settings.data_dir)
    if services.settings.database_url is not None:
        return "unreachable"
    try:
        return _CONDITIONS[embedded.condition()] if embedded.serves(services.database.conninfo) else "unreachable"
    except OSError:  # the data directory is being replaced
        return "unreachable"


def _shown(status: Status) -> dict[str, Any]:
    live, stopped = status.live, status.stopped
    return {
        "position": live.position if live else 0,
        "lag": status.lag_events,
        "lag_seconds": round(status.lag_s, 3),
        "stopped": live is None or stopped is not None,
        "error": {"position": stopped.error_position, "detail": stopped.error} if stopped else None,
    }
