"""Connections: how long those of clients stay, and what becomes of requests when those to the database are cut."""

import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx

from tests.support.api_client import Api
from tests.support.store import rows
from tests.support.waiting import eventually

CUTTING_S = 4.0
CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'turnlog'"
)
POOLS_KEEP_S = 5.0  # how long httpx keeps an idle connection, and with it the OpenAI and Anthropic libraries


def test_an_idle_connection_is_not_closed_under_a_client_that_is_about_to_use_it(api: Api) -> None:
    url = urlsplit(str(api.http.base_url))
    connection = HTTPConnection(url.hostname or "", url.port)
    connection.auto_open = 0  # it would hide that the server hung up
    connection.connect()
    try:
        for idle_s in (POOLS_KEEP_S + 0.5, 0):
            connection.request("GET", "/healthz")
            assert connection.getresponse().read()
            time.sleep(idle_s)
    finally:
        connection.close()


def test_every_request_is_answered_while_connections_to_the_database_are_cut(fresh_api: Api, database_url: str) -> None:
    """Each with a connection of its own, which may get the number of one that has just broken."""
    url = str(fresh_api.http.base_url.join(f"/v1/conversations/{fresh_api.conversation()['id']}/messages"))
    stops = time.monotonic() + CUTTING_S

    def cut() -> None:
        while time.monotonic() < stops:
            time.sleep(0.2)
            rows(database_url, CUT)

    def ask() -> set[int]:
        seen: set[int] = set()
        while time.monotonic() < stops:
            seen.add(httpx.post(url, json={"role": "user", "content": "Hi"}, timeout=10).status_code)
            seen.add(httpx.get(url, timeout=10).status_code)
        return seen

    with ThreadPoolExecutor(7) as threads:
        cutting = threads.submit(cut)
        seen = set[int]().union(*(asking.result() for asking in [threads.submit(ask) for _ in range(6)]))
        cutting.result()
    assert {200, 201} <= seen <= {200, 201, 503}
    eventually(lambda: fresh_api.http.post(url, json={"role": "user", "content": "Hi"}).status_code == 201)
