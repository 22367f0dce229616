"""A session of requests that reads no more than the beginning of an event stream."""

from io import BytesIO
from typing import Any

from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse


class _CuttingAdapter(HTTPAdapter):
    """Ends an event stream after its first piece, the comment that opens it.

    A feed has no end, and a client that reads a whole answer would wait for ever.
    """

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        response = super().send(request, *args, **options)
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            first = next(response.iter_content(chunk_size=None))
            whole = response.raw
            response.close()
            headers = {name: value for name, value in whole.headers.items() if name.lower() != "transfer-encoding"}
            response.raw = HTTPResponse(
                BytesIO(first), headers, whole.status, whole.version, whole.reason, preload_content=False
            )
        return response


def cutting_session() -> Session:
    """Return a session whose answers always end."""
    session = Session()
    session.mount("http://", _CuttingAdapter())
    return session
