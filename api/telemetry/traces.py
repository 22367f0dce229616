"""OpenTelemetry traces: requests, and below each its appends and model calls.

They need the extra `turnlog[otel]` and an exporter in OpenTelemetry's own variables
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). Without either, nothing of this
runs. Model spans follow the GenAI conventions (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/) and
hold no content.
"""

import logging
import os
from asyncio import Future
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from domain.aggregates import AggregateEvent
from eventlog.mapper import NewRow
from eventlog.writer import Appender, Idempotency
from turns.model.errors import ModelError
from turns.model.gateway_types import ModelCall, ModelEnd, ModelObserver

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

_PROPAGATED = frozenset({b"traceparent", b"tracestate"})
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_log = logging.getLogger(__name__)


class RequestSpan:
    """The span of one request."""

    def __init__(self, span: "Span") -> None:
        self._span = span

    def set_route(self, method: str, route: str, status: int, request_id: str) -> None:
        """Name the span by its route, once that and the status are known."""
        from opentelemetry.trace import StatusCode

        self._span.update_name(f"{method} {route}")
        self._span.set_attribute("http.request.method", method)
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        self._span.set_attribute("turnlog.request_id", request_id)
        if status >= 500:
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(StatusCode.ERROR)


class Traces:
    """The traces of one application, sent to a provider of the OpenTelemetry SDK."""

    def __init__(self, provider: "TracerProvider", shut_down: Callable[[], None] = lambda: None) -> None:
        self._tracer = provider.get_tracer("turnlog")
        self.shut_down = shut_down
        """Send what is left. It may take seconds."""

    @contextmanager
    def request(self, scope: Scope) -> Generator[RequestSpan]:
        """Open the span of a request, below the one that `traceparent` names."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"] if name in _PROPAGATED
        }
        parent = TraceContextTextMapPropagator().extract(carrier)
        with self._tracer.start_as_current_span(
            "request", parent, SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            yield RequestSpan(span)

    def writer(self, writer: Appender) -> "TracedWriter":
        """Return the writer with a span for each append."""
        return TracedWriter(writer, self.span)

    def span(self, name: str, attributes: Mapping[str, Any]) -> "Span":
        """Begin a span below the current one. The caller ends it."""
        return self._tracer.start_span(name, attributes=attributes)

    def model_observer(self, then: ModelObserver) -> ModelObserver:
        """Return an observer that opens a span for each call of a model, and tells `then`."""
        return _TracedModels(self, then)

    def model_span(self, model: str, temperature: float | None, max_output_tokens: int | None) -> "Span":
        """Begin the span of a model's call. The caller ends it."""
        from opentelemetry.trace import SpanKind

        given = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": model.partition("/")[0] if "/" in model else None,
            "gen_ai.request.model": model,
            "gen_ai.request.temperature": temperature,
            "gen_ai.request.max_tokens": max_output_tokens,
        }
        attributes = {name: value for name, value in given.items() if value is not None}
        return self._tracer.start_span(f"chat {model}", kind=SpanKind.CLIENT, attributes=attributes)


class TracedWriter:
    """The writer of a process, with a span for each append."""

    def __init__(self, writer: Appender, begin: Callable[[str, Mapping[str, Any]], "Span"]) -> None:
        self._writer = writer
        self._begin = begin

    @property
    def generation(self) -> int:
        """The number of reconnects, as the writer counts them."""
        return self._writer.generation

    def on_new_generation(self, forget: Callable[[], None]) -> None:
        """Call `forget` when the log may have lost its newest events."""
        self._writer.on_new_generation(forget)

    def append(
        self,
        rows: Sequence[NewRow],
        idempotency: Idempotency | None = None,
        events: Sequence[AggregateEvent] = (),
        generation: int | None = None,
    ) -> Future[int]:
        """Record events as the writer does."""
        attributes = {
            "db.system.name": "postgresql",
            "db.operation.name": "append",
            "turnlog.aggregate_id": str(rows[0].aggregate_id),
            "turnlog.events": len(rows),
        }
        span = self._begin("append", attributes)
        done = self._writer.append(rows, idempotency, events, generation)
        done.add_done_callback(lambda ended: _end_append(span, ended))
        return done


def open_traces(environment: Mapping[str, str] = os.environ) -> Traces | None:
    """Return the traces that the environment asks for, None if it asks for none."""
    exporters = environment.get("OTEL_TRACES_EXPORTER", "otlp" if any(map(environment.get, _ENDPOINTS)) else "none")
    if exporters == "none" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if exporters not in {"otlp", "console"}:
        _log.warning("OTEL_TRACES_EXPORTER must be otlp, console or none, so no traces are sent")
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    except ImportError:
        _log.warning("traces are configured, but turnlog[otel] is not installed, so none are sent")
        return None
    name = environment.get("OTEL_SERVICE_NAME") or "turnlog"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter() if exporters == "otlp" else ConsoleSpanExporter())
    )
    return Traces(provider, provider.shutdown)


class _TracedModels:
    """Opens a span for each call of a model."""

    def __init__(self, traces: Traces, then: ModelObserver) -> None:
        self._traces = traces
        self._then = then

    def begin(self, model: str, temperature: float | None, max_output_tokens: int | None) -> ModelCall:
        span = self._traces.model_span(model, temperature, max_output_tokens)
        return _TracedCall(span, self._then.begin(model, temperature, max_output_tokens))


class _TracedCall:
    """One call of a model."""

    def __init__(self, span: "Span", then: ModelCall) -> None:
        self._span = span
        self._then = then

    def first_chunk(self) -> None:
        self._span.add_event("first chunk")
        self._then.first_chunk()

    def ended(self, end: ModelEnd) -> None:
        self._span.set_attribute("gen_ai.response.finish_reasons", [end.finish_reason])
        self._span.set_attribute("gen_ai.usage.input_tokens", end.usage.input_tokens)
        self._span.set_attribute("gen_ai.usage.output_tokens", end.usage.output_tokens)
        self._span.end()
        self._then.ended(end)

    def failed(self, error: BaseException) -> None:
        _end_failed(self._span, error.code if isinstance(error, ModelError) else type(error).__name__)
        self._then.failed(error)


def _end_append(span: "Span", done: Future[int]) -> None:
    if done.cancelled():
        _end_failed(span, "cancelled")
    elif error := done.exception():
        _end_failed(span, type(error).__name__)
    else:
        span.set_attribute("turnlog.position", done.result())
        span.end()


def _end_failed(span: "Span", error_type: str) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attribute("error.type", error_type)
    span.set_status(StatusCode.ERROR)
    span.end()
