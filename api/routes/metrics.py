"""`GET /metrics`: process, log and read models in Prometheus' text format.

The values of the log and the read models are those of the store, so every process reports the same. The others are
those of this process or, with several workers, the sums of all.
"""

import asyncio
import shutil
from collections.abc import Callable

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from api.http.call import CallParam
from api.http.route import JSONRoute
from api.services import Services
from eventlog.errors import StoreUnavailableError
from projections.catalog import PROJECTIONS
from projections.status import LogStatus, Status, read_status

router = APIRouter(route_class=JSONRoute, tags=["operations"])


def _error_position(status: Status) -> int:
    return (status.stopped.error_position or 0) if status.stopped else 0


_GAUGES: dict[str, tuple[str, Callable[[Status], float]]] = {
    "version": ("Version that this release reads.", lambda s: s.version),
    "build": ("Build that is read, 0 before there is one.", lambda s: s.live.build if s.live else 0),
    "position": ("Position up to which the log is in the read model.", lambda s: s.live.position if s.live else 0),
    "lag_events": ("Events of the log that are not in the read model yet.", lambda s: s.lag_events),
    "lag_seconds": ("Age of the oldest event that is not in the read model yet.", lambda s: s.lag_s),
    "stopped": ("Whether an error has stopped it, or it waits for its first build.", lambda s: s.is_stopped),
    "error_position": ("Position of the event that stopped it, 0 if none did.", _error_position),
    "rebuild_running": ("Whether it is being rebuilt.", lambda s: int(bool(s.rebuild and s.rebuild.running))),
    "rebuild_position": ("Events in the build that is under way.", lambda s: s.rebuild.position if s.rebuild else 0),
    "rebuild_target": ("Events to be in it before it follows the log.", lambda s: s.rebuild.target if s.rebuild else 0),
}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(call: CallParam) -> Response:
    """Report requests, commits, turns, models, the log and each read model.

    While the store does not answer, `turnlog_store_up` is 0 and the log and the read models are left out.
    """
    services = call.services
    services.sampling.take()
    registry = CollectorRegistry()
    store_up = Gauge("turnlog_store_up", "Whether PostgreSQL answers.", registry=registry)
    try:
        status = await read_status(services.database, PROJECTIONS)
    except StoreUnavailableError:
        store_up.set(0)
    else:
        store_up.set(1)
        _fill(registry, status)
    return Response(await asyncio.to_thread(_text, services, registry), media_type=CONTENT_TYPE_LATEST)


def _text(services: Services, registry: CollectorRegistry) -> bytes:
    settings = services.settings
    if settings.database_url is None and settings.data_dir.exists():
        disk = shutil.disk_usage(settings.data_dir)
        free = Gauge("turnlog_disk_free_bytes", "Free space where the embedded PostgreSQL is.", registry=registry)
        free.set(disk.free)
        size = Gauge("turnlog_disk_size_bytes", "Size of the disk where the embedded PostgreSQL is.", registry=registry)
        size.set(disk.total)
    return generate_latest(registry) + services.meters.text()


def _fill(registry: CollectorRegistry, status: LogStatus) -> None:
    Gauge("turnlog_log_position", "Position of the log's last event.", registry=registry).set(status.head)
    for name, (help_text, value) in _GAUGES.items():
        gauge = Gauge(f"turnlog_projection_{name}", help_text, ["projection"], registry=registry)
        for projection in status.projections:
            gauge.labels(projection.name).set(value(projection))
