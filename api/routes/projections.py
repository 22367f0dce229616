"""Routes for operators of the read models: their status, and rebuilds."""

from typing import Any

from fastapi import APIRouter, Response

from api.http.call import CallParam, json_response
from api.http.openapi import Page, ProjectionResource
from api.http.route import JSONRoute
from projections.builds import Build
from projections.catalog import PROJECTIONS, find_projection
from projections.models.json_resources import rfc3339
from projections.status import RebuildProgress, Status, read_status

router = APIRouter(route_class=JSONRoute, tags=["projections"])


@router.get("/v1/projections", response_model=Page[ProjectionResource])
async def list_projections(call: CallParam) -> Response:
    """List the read models, each with its position and its rebuild, if any."""
    status = await read_status(call.services.database, PROJECTIONS)
    shown = [_resource(projection, status.head) for projection in status.projections]
    return json_response({"data": shown, "next_cursor": None})


@router.get("/v1/projections/{name}", response_model=ProjectionResource)
async def get_projection(call: CallParam, name: str) -> Response:
    """Read the status of a read model."""
    return json_response(await _read_resource(call, name))


@router.post("/v1/projections/{name}/rebuild", status_code=202, response_model=ProjectionResource)
async def rebuild_projection(call: CallParam, name: str) -> Response:
    """Start a rebuild of a read model. `GET` reports its progress."""
    projection = find_projection(name)
    await call.services.rebuilds.start(projection.name)
    return json_response(await _read_resource(call, projection.name), 202)


async def _read_resource(call: CallParam, name: str) -> dict[str, Any]:
    status = await read_status(call.services.database, [find_projection(name)])
    return _resource(status.projections[0], status.head)


def _resource(status: Status, head: int) -> dict[str, Any]:
    live = status.live
    return {
        "name": status.name,
        "object": "projection",
        "version": status.version,
        "build": live.build if live else None,
        "status": "stopped" if status.stopped else "running" if live else "building",
        "position": live.position if live else 0,
        "head": head,
        "lag_events": status.lag_events,
        "lag_seconds": round(status.lag_s, 3),
        "error": status.error,
        "rebuild": _rebuild_resource(status.rebuild) if status.rebuild else None,
        "other_builds": [_build_resource(build) for build in status.others],
    }


def _rebuild_resource(rebuild: RebuildProgress) -> dict[str, Any]:
    return {
        "build": rebuild.build,
        "phase": rebuild.phase,
        "running": rebuild.running,
        "position": rebuild.position,
        "target": rebuild.target,
        "events_per_second": rebuild.events_per_s,
        "eta_seconds": rebuild.eta_s,
    }


def _build_resource(build: Build) -> dict[str, Any]:
    return {
        "version": build.version,
        "build": build.build,
        "state": build.state,
        "position": build.position,
        "updated_at": rfc3339(build.updated_at),
    }
