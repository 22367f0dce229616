"""Connections: how long those of clients stay, and what becomes of requests when those to the database are cut."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx
from fastapi import FastAPI

from cli.server import configure
from tests.support.api_client import Api
from tests.support.store import rows
from tests.support.waiting import eventually

PATIENCE_S = 60
CUTS = 10
CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'turnlog'"
)
LONGEST_OF_POOLS_S = 90.0  # how long pools keep an idle connection: httpx 5 s, aiohttp 15, nginx 60, Go 90


def test_an_idle_connection_is_not_closed_under_a_client_that_is_about_to_use_it() -> None:
    config = configure(FastAPI())
    config.load()
    kept_by_us: Any = config.http_protocol_class
    assert LONGEST_OF_POOLS_S < kept_by_us.limits.idle_s <= config.timeout_keep_alive


def test_every_request_is_answered_while_connections_to_the_database_are_cut(fresh_api: Api, database_url: str) -> None:
    """Each with a connection of its own, which may get the number of one that has just broken."""
    url = str(fresh_api.http.base_url.join(f"/v1/conversations/{fresh_api.conversation()['id']}/messages"))
    cut_off = Event()

    def cut() -> None:
        try:
            for _ in range(CUTS):
                time.sleep(0.2)  # requests get through in between
                rows(database_url, CUT)
        finally:
            cut_off.set()

    def ask() -> set[int]:
        seen: set[int] = set()
        while not cut_off.is_set():
            seen.add(httpx.post(url, json={"role": "user", "content": "Hi"}, timeout=PATIENCE_S).status_code)
            seen.add(httpx.get(url, timeout=PATIENCE_S).status_code)
        return seen

    with ThreadPoolExecutor(7) as threads:
        cutting = threads.submit(cut)
        seen = set[int]().union(*(asking.result() for asking in [threads.submit(ask) for _ in range(6)]))
        cutting.result()
    assert {200, 201} <= seen <= {200, 201, 503}
    eventually(lambda: fresh_api.http.post(url, json={"role": "user", "content": "Hi"}).status_code == 201)
