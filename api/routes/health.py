"""Routes that say whether the process is alive, and whether it can serve."""

import asyncio
from typing import Any

from fastapi import APIRouter, Response

from api.http.call import CallParam, json_response
from api.http.openapi import HealthResource, ReadinessResource, UnreadyResource
from api.http.route import JSONRoute
from api.services import Services, StoreCondition
from eventlog.errors import StoreUnavailableError
from eventlog.migrations import missing_migrations
from projections.catalog import PROJECTIONS
from projections.status import Status, read_status

_DETAILS: dict[StoreCondition, str] = {
    "unreachable": "The store does not answer.",
    "starting": "PostgreSQL is starting or stopping.",
    "restarting": "PostgreSQL died and is being started again.",
    "stopped": "PostgreSQL was stopped on purpose; any turnlog command on its data directory starts it.",
}

_BLOCKING = frozenset({"store", "migrations", "server"})
"""The parts without which the process cannot serve."""

router = APIRouter(route_class=JSONRoute, tags=["operations"])


@router.get("/healthz", response_model=HealthResource)
async def healthz() -> Response:
    """Report that the process is alive."""
    return json_response({"status": "ok"})


@router.get("/readyz", response_model=ReadinessResource, responses={503: {"model": UnreadyResource}})
async def readyz(call: CallParam) -> Response:
    """Report whether this process can serve, and name what is not ready.

    It can serve with a read model that stands still. It cannot while the store does not answer or lacks migrations, or
    while the server stops.
    """
    services = call.services
    parts = _parts_of_process(services)
    try:
        found = await read_status(services.database, PROJECTIONS)
        missing = await missing_migrations(services.database)
    except StoreUnavailableError:
        condition = await asyncio.to_thread(services.store_condition)
        parts.insert(0, _part("store", condition, _DETAILS[condition]))
        return json_response({**_unavailable(parts), "store": condition}, 503)
    if missing:
        parts.insert(0, _part("migrations", "missing", f"The schema lacks {', '.join(missing)}."))
    parts += filter(None, map(_part_of_projection, found.projections))
    shown = {status.name: _shown(status) for status in found.projections}
    # Strangers learn what is not ready, and not how much the log holds.
    rest = {} if call.identity.role == "anonymous" else {"position": found.head, "projections": shown}
    if _BLOCKING.intersection(part["part"] for part in parts):
        return json_response({**_unavailable(parts), **rest}, 503)
    return json_response({"status": "ready", **rest, "not_ready": parts})


def _unavailable(parts: list[dict[str, str]]) -> dict[str, Any]:
    """Return the members of an answer that names at least one blocking part."""
    detail = next(part["detail"] for part in parts if part["part"] in _BLOCKING)
    return {"status": "unavailable", "detail": detail, "not_ready": parts}


def _part(part: str, state: str, detail: str, **members: str) -> dict[str, str]:
    return {"part": part, **members, "state": state, "detail": detail}


def _parts_of_process(services: Services) -> list[dict[str, str]]:
    """Return what is not ready in this process."""
    parts: list[dict[str, str]] = []
    if services.turns.draining:
        parts.append(_part("server", "draining", "The server is being stopped."))
    if services.gateway.library_failed:
        parts.append(_part("model_library", "failed", "The model library could not be loaded. A turn tries it again."))
    return parts


def _part_of_projection(status: Status) -> dict[str, str] | None:
    if status.stopped:
        return _part("projection", "stopped", "An error has stopped the read model.", name=status.name)
    if status.live is None:
        return _part("projection", "building", "The read model is built for the first time.", name=status.name)
    return None


def _shown(status: Status) -> dict[str, Any]:
    return {
        "position": status.live.position if status.live else 0,
        "lag": status.lag_events,
        "lag_seconds": round(status.lag_s, 3),
        "stopped": status.is_stopped,
        "error": status.error,
    }
