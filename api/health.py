"""Routes for whoever runs the server: is it alive, is it able to serve."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api.call import json_response
from api.route import JSONRoute
from api.services import Services
from eventlog.errors import StoreUnavailableError

router = APIRouter(route_class=JSONRoute, tags=["operations"])


@router.get("/healthz")
async def healthz() -> Response:
    """Say that the process is alive."""
    return json_response({"status": "ok"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Say whether the store answers, and how far each projection has come."""
    services: Services = request.app.state.services
    try:
        head = await services.log.head()
    except StoreUnavailableError:
        return json_response({"status": "unavailable", "detail": "The store does not answer."}, 503)
    progress = services.progress
    projections: dict[str, Any] = {
        name: {"position": position, "lag": max(0, head - position), "stopped": name in progress.stopped}
        for name, position in progress.positions.items()
    }
    return json_response({"status": "ready", "position": head, "projections": projections})
