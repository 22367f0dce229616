"""Traces: a request, its appends and its model's calls, without content."""

import sys
from collections.abc import Iterator
from subprocess import run

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from api.telemetry.traces import Traces, open_traces
from tests.integration.api.conftest import GivenModel, Serve
from tests.support.http.api_client import Api
from tests.support.models.model_scripts import BAD_KEY
from tests.support.waiting import eventually

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TURN = "POST /v1/conversations/{conversation_id}/turns"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(database_url: str, serve: Serve, exporter: InMemorySpanExporter) -> Iterator[Api]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with serve(database_url, traces=Traces(provider)) as api:
        yield api


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    return eventually(lambda: [span for span in exporter.get_finished_spans() if span.name == name])[0]


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def span_id(span: ReadableSpan) -> int:
    assert span.context
    return span.context.span_id


def test_a_turn_is_one_tree_below_the_client_s_span(
    traced: Api, exporter: InMemorySpanExporter, given_model: GivenModel
) -> None:
    id_, model = traced.conversation()["id"], given_model(["s3cret ", "answer"])
    exporter.clear()
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "req-7"}
    with traced.stream(id_, model, headers, content="s3cret question", temperature=0.5) as turn:
        assert list(turn.frames)[-1].event == "turn.completed"
    request, call = named(exporter, TURN), named(exporter, f"chat {model}")
    appends = eventually(
        lambda: (found := [each for each in exporter.get_finished_spans() if each.name == "append"])[1:] and found
    )
    spans = [request, call, *appends]
    assert {f"{span.context.trace_id:032x}" for span in spans if span.context} == {TRACE}
    assert f"{parent_of(request):016x}" == PARENT
    assert {parent_of(call), *map(parent_of, appends)} == {span_id(request)}
    assert (request.kind, call.kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    expected = {"http.response.status_code": 200, "http.request.method": "POST", "turnlog.request_id": "req-7"}
    assert expected.items() <= attributes(request).items()
    assert attributes(call) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": model,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
    }
    assert all(isinstance(attributes(append)["turnlog.position"], int) for append in appends)
    assert "s3cret" not in "".join(span.to_json() for span in spans)


def test_a_model_that_fails_and_a_refused_request_are_marked(
    traced: Api, exporter: InMemorySpanExporter, given_model: GivenModel
) -> None:
    model = given_model(BAD_KEY)
    assert traced.turn(traced.conversation()["id"], model).status_code == 502
    call, request = named(exporter, f"chat {model}"), named(exporter, TURN)
    assert (call.status.status_code, attributes(call)["error.type"]) == (StatusCode.ERROR, "model_auth")
    assert (request.status.status_code, attributes(request)["error.type"]) == (StatusCode.ERROR, "502")
    traced.http.get("/v1/s3cret?q=s3cret")
    unmatched = named(exporter, "GET unmatched")
    assert unmatched.status.status_code is StatusCode.UNSET
    assert "s3cret" not in unmatched.to_json()


def test_without_a_parent_a_request_begins_a_trace(traced: Api, exporter: InMemorySpanExporter) -> None:
    traced.http.get("/healthz", headers={"traceparent": "nonsense"})
    assert named(exporter, "GET /healthz").parent is None


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_TRACES_EXPORTER": "zipkin"},
    ],
)
def test_there_are_no_traces_unless_the_environment_asks_for_them(environment: dict[str, str]) -> None:
    assert open_traces(environment) is None


def test_an_endpoint_turns_traces_on() -> None:
    traces = open_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    assert traces is not None
    traces.shut_down()


def test_a_configuration_without_the_extra_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert open_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) is None
    assert "turnlog[otel] is not installed" in caplog.text


def test_without_traces_the_sdk_is_not_imported() -> None:
    check = (
        "import sys; from api.app import create_app; from api.settings import load_settings;"
        "create_app(load_settings(), ''); sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    )
    assert run([sys.executable, "-c", check], check=False).returncode == 0
