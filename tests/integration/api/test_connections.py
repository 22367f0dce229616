"""Connections: how long they stay."""

import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

from tests.support.api_client import Api

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
