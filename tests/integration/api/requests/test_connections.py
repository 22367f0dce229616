"""Client connections are kept alive, and lost database connections are replaced."""

import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI

from cli.server import configure
from tests.support.http import plain_http
from tests.support.http.api_client import Api
from tests.support.store import rows
from tests.support.waiting import eventually

CUTS = 6
CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'turnlog'"
)
POOLS_KEEP_S = 5.0  # seconds that httpx keeps an idle connection, and so the OpenAI and Anthropic libraries
LONGEST_OF_POOLS_S = 90.0  # seconds that pools keep an idle connection: httpx 5, aiohttp 15, nginx 60, Go 90


def test_an_idle_connection_is_open_when_a_client_uses_it_again(api: Api) -> None:
    url = urlsplit(str(api.http.base_url))
    connection = HTTPConnection(url.hostname or "", url.port)
    connection.auto_open = 0  # a retry would hide that the server closed the connection
    connection.connect()
    try:
        for idle_s in (POOLS_KEEP_S + 0.5, 0):
            connection.request("GET", "/healthz")
            assert connection.getresponse().read()
            time.sleep(idle_s)
    finally:
        connection.close()


def test_connections_are_kept_longer_than_clients_and_proxies_keep_them() -> None:
    config = configure(FastAPI())
    config.load()
    kept_by_us: Any = config.http_protocol_class
    assert LONGEST_OF_POOLS_S < kept_by_us.limits.idle_s <= config.timeout_keep_alive


def test_every_request_is_answered_while_database_connections_are_killed(fresh_api: Api, database_url: str) -> None:
    """Each request has a new connection, which may get the number of a broken one."""
    url = str(fresh_api.http.base_url.join(f"/v1/conversations/{fresh_api.conversation()['id']}/messages"))
    answers: list[int] = []
    ended = Event()

    def kill() -> None:
        try:
            for _ in range(CUTS):
                before = len(answers)
                rows(database_url, CUT)
                eventually(lambda before=before: {200, 201} <= set(answers[before:]))
        finally:
            ended.set()

    def send() -> None:
        while not ended.is_set():
            answers.append(plain_http.post(url, json={"role": "user", "content": "Hi"}).status_code)
            answers.append(plain_http.get(url).status_code)

    with ThreadPoolExecutor(7) as threads:
        work = [threads.submit(kill), *(threads.submit(send) for _ in range(6))]
        for done in work:
            done.result()
    assert set(answers) <= {200, 201, 503}
    eventually(lambda: fresh_api.http.post(url, json={"role": "user", "content": "Hi"}).status_code == 201)
