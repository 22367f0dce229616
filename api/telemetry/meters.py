"""The metrics of a process, as Prometheus instruments.

Each application has its own. Where `PROMETHEUS_MULTIPROC_DIR` is set, as `turnlog serve --workers` does, the library
keeps the values in files there, and any process reports the sums of all.
"""

import os
from collections.abc import Callable, Collection
from time import perf_counter
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead  # pyright: ignore[reportUnknownVariableType]

from domain.events import ConversationEvent, TurnCancelled, TurnCompleted, TurnEnded, TurnFailed
from eventlog.writer import CommittedAppend
from turns.model.errors import ModelError
from turns.model.gateway_types import ModelEnd

MULTIPROCESS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
MAX_MODELS = 50
OTHER = "other"

_FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SLOW_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_BATCH_APPENDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_FINISH_REASONS = frozenset({"stop", "length", "tool_use", "content_filter"})


class Meters:
    """The instruments of one application, and the methods that feed them."""

    def __init__(self, default_model: str) -> None:
        """`default_model` has its own label from the beginning."""
        # In the mode of many processes the values are read from files, and an instrument that is registered as well
        # would be reported twice.
        directory = os.environ.get(MULTIPROCESS_DIRECTORY)
        self._registry = CollectorRegistry()
        registry = None if directory else self._registry
        if directory:
            MultiProcessCollector(self._registry, directory)

        def histogram(name: str, text: str, labels: Collection[str] = (), buckets: Any = _FAST_S) -> Histogram:
            return Histogram(f"turnlog_{name}", text, labels, buckets=buckets, registry=registry)

        def gauge(name: str, text: str, mode: Literal["livesum", "max"] = "livesum") -> Gauge:
            return Gauge(f"turnlog_{name}", text, multiprocess_mode=mode, registry=registry)

        def counter(name: str, text: str, labels: Collection[str] = ()) -> Counter:
            return Counter(f"turnlog_{name}", text, labels, registry=registry)

        self._requests = histogram(
            "http_request_duration_seconds", "Time until a response began.", ["route", "method", "status"]
        )
        self._rejected = counter("http_rejected_total", "Requests answered 429, by route.", ["route"])
        self._key_set_failures = counter("key_set_failures_total", "Fetches of the JSON Web Key Set that failed.")
        self.open_streams = gauge("open_streams", "Event streams that are being sent.")
        self._append = histogram("append_duration_seconds", "Time of an append, with its wait for a commit.")
        self._commit = histogram("commit_duration_seconds", "Time of a commit.")
        self._batch = histogram("commit_batch_appends", "Appends that shared a commit.", buckets=_BATCH_APPENDS)
        self._turns = counter("turns_ended_total", "Turns that ended, by status and reason.", ["status", "reason"])
        self._recovered = counter(
            "turns_recovered_total", "Turns that were ended because their process or client died."
        )
        self._running_turns = gauge("running_turns", "Turns whose model runs.")
        self._queued_turns = gauge("queued_turns", "Turns that wait for another one to end.")
        self._first_token = histogram(
            "model_time_to_first_token_seconds", "Time until a model's answer began.", ["model"], _SLOW_S
        )
        self._model = histogram(
            "model_call_duration_seconds", "Time of a model's answer, by outcome.", ["model", "outcome"], _SLOW_S
        )
        self._pool_size = gauge("pool_connections", "Connections of the pool for reading.")
        self._pool_idle = gauge("pool_idle_connections", "Connections of the pool that are not in use.")
        self._pool_waiting = gauge("pool_waiting_requests", "Callers that wait for a connection of the pool.")
        self._pool_limit = gauge("pool_max_connections", "The most connections of the pool.")
        self._loop_lag = histogram("event_loop_lag_seconds", "Time by which the event loop was late.")
        gauge("last_start_timestamp_seconds", "Time at which the newest process started.", "max").set_to_current_time()
        self._observers: dict[tuple[str, str, int], Callable[[float], None]] = {}
        self._models = _BoundedNames(MAX_MODELS, default_model)

    def request(self, route: str, method: str, status: int, duration_s: float) -> None:
        """Count a request, by the template of its route."""
        key = route, method, status
        observe = self._observers.get(key)
        if observe is None:
            observe = self._observers[key] = self._requests.labels(route, method, str(status)).observe
        observe(duration_s)
        if status == 429:
            self._rejected.labels(route).inc()

    def key_set_failed(self) -> None:
        """Count a fetch of the JSON Web Key Set that failed."""
        self._key_set_failures.inc()

    def batch(self, commit_s: float, appends: list[CommittedAppend]) -> None:
        """Count a commit of the log, and the turns that end with it."""
        self._commit.observe(commit_s)
        self._batch.observe(len(appends))
        for append in appends:
            self._append.observe(append.duration_s)
            for event in append.events:
                if isinstance(event, TurnEnded):
                    self._turns.labels(*_outcome(event)).inc()

    def recovered(self) -> None:
        """Count a turn that was ended because its process or client died."""
        self._recovered.inc()

    def begin(self, model: str, temperature: float | None, max_output_tokens: int | None) -> "_MeteredCall":
        """Observe a call of a model."""
        return _MeteredCall(self, model)

    def model_began(self, model: str, duration_s: float) -> None:
        """Count an answer that begins. From now on its model may have its own label."""
        self._models.add(model)
        self._first_token.labels(self._models.label(model)).observe(duration_s)

    def model_ended(self, model: str, outcome: str, duration_s: float) -> None:
        """Count a model's call."""
        self._model.labels(self._models.label(model), outcome).observe(duration_s)

    def loop_lag(self, lag_s: float) -> None:
        """Note that the event loop was late."""
        self._loop_lag.observe(lag_s)

    def state(self, running: int, queued: int, pool_size: int, pool_idle: int, pool_waiting: int, limit: int) -> None:
        """Set what is measured at intervals."""
        self._running_turns.set(running)
        self._queued_turns.set(queued)
        self._pool_size.set(pool_size)
        self._pool_idle.set(pool_idle)
        self._pool_waiting.set(pool_waiting)
        self._pool_limit.set(limit)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format. It takes milliseconds."""
        return generate_latest(self._registry)


def forget_process(pid: int, directory: str) -> None:
    """Forget the gauges of a process that has died. Its counters stay."""
    mark_process_dead(pid, directory)  # pyright: ignore[reportUnknownMemberType]


class _MeteredCall:
    """One call of a model."""

    def __init__(self, meters: Meters, model: str) -> None:
        self._meters = meters
        self._model = model
        self._began = perf_counter()

    def first_chunk(self) -> None:
        self._meters.model_began(self._model, perf_counter() - self._began)

    def ended(self, end: ModelEnd) -> None:
        self._end("completed")

    def failed(self, error: BaseException) -> None:
        self._end(error.code if isinstance(error, ModelError) else "stopped")

    def _end(self, outcome: str) -> None:
        self._meters.model_ended(self._model, outcome, perf_counter() - self._began)


class _BoundedNames:
    """The first names, up to a limit. All others share one label.

    Clients choose the names of models, so that their number has no other limit.
    """

    def __init__(self, limit: int, first: str) -> None:
        self._limit = limit
        self._names = {first}

    def add(self, name: str) -> None:
        if len(self._names) < self._limit:
            self._names.add(name)

    def label(self, name: str) -> str:
        return name if name in self._names else OTHER


def _outcome(event: ConversationEvent) -> tuple[str, str]:
    """Return status and reason of a turn's end."""
    if isinstance(event, TurnCompleted):
        return "completed", event.finish_reason if event.finish_reason in _FINISH_REASONS else OTHER
    if isinstance(event, TurnFailed):
        return "failed", event.reason
    assert isinstance(event, TurnCancelled)
    return "cancelled", ""
