"""Routes for whoever runs the server: is it alive, is it able to serve."""

from typing import Any

from fastapi import APIRouter, Response

from api.call import CallParam, json_response
from api.route import JSONRoute
from eventlog.errors import StoreUnavailableError
from projections.catalog import PROJECTIONS
from projections.status import Status, read_status

router = APIRouter(route_class=JSONRoute, tags=["operations"])


@router.get("/healthz")
async def healthz() -> Response:
    """Say that the process is alive."""
    return json_response({"status": "ok"})


@router.get("/readyz")
async def readyz(call: CallParam) -> Response:
    """Say whether the store answers, and how far each projection has come."""
    try:
        found = await read_status(call.services.database, PROJECTIONS)
    except StoreUnavailableError:
        return json_response({"status": "unavailable", "detail": "The store does not answer."}, 503)
    shown = {status.name: _shown(status) for status in found.projections}
    return json_response({"status": "ready", "position": found.head, "projections": shown})


def _shown(status: Status) -> dict[str, Any]:
    live, stopped = status.live, status.stopped
    return {
        "position": live.position if live else 0,
        "lag": status.lag_events,
        "lag_seconds": round(status.lag_s, 3),
        "stopped": live is None or stopped is not None,
        "error": {"position": stopped.error_position, "detail": stopped.error} if stopped else None,
    }
