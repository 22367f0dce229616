"""The logs of a server: JSON lines with context, and never with content."""

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.auth.api_keys import new_key
from tests.support.http import plain_http
from tests.support.http.credentials import SECRET, bearer, create_key, token
from tests.support.models.model_scripts import Raw, Refusal, Script
from tests.support.models.model_server import ModelServer
from tests.support.rebuilding import url
from tests.support.servers.own_postgres import cluster_directory
from tests.support.servers.raw_http import RawConnection
from tests.support.servers.server_process import UNHURRIED, ServerProcess
from tests.support.waiting import eventually

SECRETS = [f"s3cret-{place}" for place in ("content", "title", "metadata", "query", "key", "header", "model", "path")]
CONTENT, TITLE, METADATA, QUERY, KEY, HEADER, MODEL, PATH = SECRETS
PROVIDER_KEY = "sk-s3cret-provider"


@pytest.fixture(scope="module")
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def server(models: ModelServer) -> Iterator[ServerProcess]:
    settings = {
        "TURNLOG_MODEL": "scripted",
        "TURNLOG_MODEL_API_BASE": models.url,
        "TURNLOG_MODEL_API_KEY": PROVIDER_KEY,
        "TURNLOG_LOG_LEVEL": "debug",
    }
    with (
        cluster_directory() as data_dir,
        ServerProcess("--data-dir", data_dir, workers=2, settings=settings, program=UNHURRIED) as server,
    ):
        yield server


def lines(server: ServerProcess) -> list[dict[str, Any]]:
    """Return the log lines so far. All else that a server prints is its banner."""
    return [json.loads(line) for line in server.output if line.startswith("{")]


def line_of(server: ServerProcess, request_id: str) -> dict[str, Any]:
    """Return the access line of a request."""

    def found() -> list[dict[str, Any]]:
        return [
            line for line in lines(server) if line.get("request_id") == request_id and line["logger"] == "api.access"
        ]

    return eventually(found)[0]


def test_a_request_has_one_line_with_its_context(server: ServerProcess) -> None:
    started = plain_http.post(f"{server.url}/v1/conversations", json={}, headers={"X-Request-Id": "given-id-1"})
    id_ = started.json()["id"]
    line = line_of(server, "given-id-1")
    assert list(line)[:2] == ["timestamp", "level"]
    assert line["timestamp"].endswith("Z") and "T" in line["timestamp"]
    assert line["duration_ms"] > 0
    expected = {"level": "info", "event": "request", "logger": "api.access", "method": "POST", "status": 201}
    expected |= {"route": "/v1/conversations", "owner": "local", "position": int(started.headers["turnlog-position"])}
    assert expected.items() <= line.items()
    plain_http.get(f"{server.url}/v1/conversations/{id_}/messages?limit=7", headers={"X-Request-Id": "given-id-2"})
    line = line_of(server, "given-id-2")
    assert (line["route"], line["conversation_id"]) == ("/v1/conversations/{conversation_id}/messages", id_)


def test_a_request_without_an_id_gets_one_that_its_events_have_too(server: ServerProcess) -> None:
    started = plain_http.post(f"{server.url}/v1/conversations", json={}, headers={"X-Request-Id": "not valid"})
    id_, position = started.json()["id"], int(started.headers["turnlog-position"])
    (event,) = plain_http.get(f"{server.url}/v1/conversations/{id_}/log").json()["data"]
    line = line_of(server, event["request_id"])
    assert (line["position"], len(line["request_id"])) == (position, 32)


def test_the_lines_of_a_turn_have_the_context_of_the_request_that_began_it(
    server: ServerProcess, models: ModelServer
) -> None:
    models.script("refusing", Refusal(401, "invalid_api_key", f"{PROVIDER_KEY} is wrong"))
    id_ = plain_http.post(f"{server.url}/v1/conversations", json={}).json()["id"]
    body = {"content": CONTENT, "model": "refusing"}
    headers = {"X-Request-Id": "failing-turn"}
    refused = plain_http.post(f"{server.url}/v1/conversations/{id_}/turns", json=body, headers=headers)
    assert refused.status_code == 502
    line_of(server, "failing-turn")
    (line,) = [each for each in lines(server) if each["logger"] == "turns.model.gateway"]
    assert (line["level"], line["request_id"], line["owner"]) == ("warning", "failing-turn", "local")
    assert line["conversation_id"] == id_
    assert line["task"].startswith("model of ")


def test_no_line_holds_what_a_client_or_a_model_sends(server: ServerProcess, models: ModelServer) -> None:
    garbage = [Raw(f'{{"choices": {MODEL} {PROVIDER_KEY}')]
    models.script("garbage", Script(["so far", *garbage], finish_reason=None))
    models.script("refusing", Refusal(400, "invalid_value", f"{MODEL} {CONTENT}", headers={"X-Secret": MODEL}))
    models.script("answering", Script([MODEL]))
    headers = {"Authorization": f"Bearer {KEY}", "X-Other": HEADER, "Cookie": HEADER}
    statuses: list[int] = []
    with plain_http.Client(base_url=server.url, headers=headers) as client:

        def send(method: str, path: str, **options: Any) -> httpx.Response:
            response = client.request(method, path, **options)
            statuses.append(response.status_code)
            return response

        body = {"title": TITLE, "metadata": {METADATA: METADATA}}
        id_ = send("POST", "/v1/conversations", json=body, headers={"Idempotency-Key": KEY}).json()["id"]
        send("POST", "/v1/conversations", json={"title": f"{TITLE}2"}, headers={"Idempotency-Key": KEY})
        path = f"/v1/conversations/{id_}"
        for content in (CONTENT, [{"type": "text", "text": CONTENT, KEY: CONTENT}], {CONTENT: 1}, "\x00" + CONTENT):
            send("POST", f"{path}/messages", json={"role": "user", "content": content})
        send("POST", f"{path}/messages", content=f'{{"role": "user", "content": "{CONTENT}'.encode())
        image = {"type": "image", "media_type": "image/png", "data": CONTENT}
        send("POST", f"{path}/messages", json={"role": "user", "content": [image]})
        for model in ("answering", "garbage", "refusing", f"unknown/{MODEL}"):
            send("POST", f"{path}/turns", json={"content": CONTENT, "model": model, "metadata": {"a": METADATA}})
        send("GET", "/v1/conversations", params={"q": QUERY, "access_token": KEY})
        send("GET", "/v1/conversations", params={"q": QUERY})
        send("GET", "/v1/conversations", params={"cursor": QUERY})
        send("GET", f"/v1/{PATH}", params={"q": QUERY})
        send("GET", f"/v1/conversations/{PATH}")
        send("GET", f"/v1/projections/{PATH}")
        send("GET", f"{path}/messages", headers={"Turnlog-Position": HEADER, "X-Request-Id": "the-last"})
    assert {200, 201, 400, 404, 422, 502} <= set(statuses)
    line_of(server, "the-last")
    output = "".join(server.output)
    # The model is named by the line of its failure. Its name is not secret, and here it is one of the secrets.
    output = output.replace(f"unknown/{MODEL}", "")
    assert [secret for secret in (*SECRETS, PROVIDER_KEY) if secret in output] == []


@pytest.mark.parametrize("auth", ["keys", "jwt"])
def test_no_line_holds_credentials(database_url: str, auth: str) -> None:
    settings = {"TURNLOG_AUTH": auth, "TURNLOG_LOG_LEVEL": "debug"}
    if auth == "jwt":
        settings["TURNLOG_JWT_SECRET"] = SECRET
    arguments = ("--database-url", url(database_url))
    with ServerProcess(*arguments, settings=settings, model_library=False) as server:
        valid = create_key(database_url, "alice")[1] if auth == "keys" else token()
        wrong = [new_key(), token(key="another secret of more than 32 bytes"), f"{valid}x", "nonsense-" * 9]
        secrets, statuses = [*wrong, valid, *valid.split(".")], list[int]()

        def send(method: str, path: str, **options: Any) -> httpx.Response:
            response = plain_http.request(method, f"{server.url}{path}", **options)
            statuses.append(response.status_code)
            return response

        short = send("POST", "/v1/tokens", headers=bearer(valid)).json()["access_token"]
        secrets += [short, *short.split(".")]
        with plain_http.stream("GET", f"{server.url}/v1/events", params={"access_token": short}) as stream:
            assert stream.status_code == 200
        for text in (*wrong, valid, short):
            for path in ("/v1/conversations", "/v1/events", "/v1/nothing", "/metrics"):
                if text != short or path != "/v1/events":
                    send("GET", path, params={"access_token": text})
                    send("GET", path, params={"cursor": text, "key": text})
            if text not in (valid, short):
                send("POST", "/v1/conversations", headers=bearer(text), json={})
            # The client disconnects before the answer, with credentials in the head that has arrived so far.
            with RawConnection(server.url) as raw:
                raw.send(f"GET /v1/conversations?access_token={text} HTTP/1.1\r\nAuthorization: Bearer {text}".encode())
            send("GET", "/v1/conversations", headers={"Authorization": f"Basic {text}", "Turnlog-Owner": text})
        send("GET", "/v1/conversations", headers={**bearer(valid), "X-Request-Id": "the-last", "Cookie": valid})
        assert {200, 201, 401, 404} <= set(statuses)
        assert max(statuses) < 500
        line_of(server, "the-last")
        output = "".join(server.output)
        assert [secret for secret in secrets if secret in output] == []
    assert "Traceback" not in "".join(server.output)


def test_every_line_of_all_processes_is_json_but_the_banner(server: ServerProcess) -> None:
    banner = ("Turnlog is ready", "  ", "\n")
    assert [line for line in server.output if not line.startswith(("{", *banner))] == []
    for line in lines(server):
        assert {"timestamp", "level", "event", "logger"} <= line.keys()


def test_metrics_are_the_sums_of_all_workers_also_of_those_that_died(server: ServerProcess) -> None:
    def count() -> float:
        families = text_string_to_metric_families(plain_http.get(f"{server.url}/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "turnlog_http_request_duration_seconds_count" and sample.labels["route"] == "/healthz"
        )

    def pool() -> float:
        text = plain_http.get(f"{server.url}/metrics").text
        return float(text.split("\nturnlog_pool_max_connections ")[1].split()[0])

    for _ in range(20):  # each on a connection of its own, which any worker accepts
        plain_http.get(f"{server.url}/healthz")
    assert {count() for _ in range(8)} == {20.0}
    assert eventually(lambda: pool() == 16)
    os.kill(worker_of(server), signal.SIGKILL)
    ended = eventually(lambda: [line for line in lines(server) if "Starting another" in line["event"]])
    assert (ended[0]["logger"], ended[0]["level"]) == ("cli.processes", "warning")
    assert count() == 20
    assert eventually(lambda: pool() == 16)


def worker_of(server: ServerProcess) -> int:
    with open(f"/proc/{server.process.pid}/task/{server.process.pid}/children") as children:
        pids = list(map(int, children.read().split()))
    for pid in pids:
        with open(f"/proc/{pid}/cmdline") as command:
            if "spawn_main" in command.read():
                return pid
    raise AssertionError("there is no worker")
