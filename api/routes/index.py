"""`GET /`: the name and version of the server, and links to its resources."""

from html import escape
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Response

from api.http.call import CallParam, json_response
from api.http.openapi import IndexResource
from api.http.route import JSONRoute

VERSION = version("turnlog")

router = APIRouter(route_class=JSONRoute, tags=["operations"])

_LINKS = {
    "docs": "/docs",
    "openapi": "/openapi.json",
    "conversations": "/v1/conversations",
    "health": "/healthz",
    "ready": "/readyz",
}
_INDEX = {"name": "Turnlog", "version": VERSION, "links": _LINKS}
_ITEMS = "".join(f'<li><a href="{escape(path)}">{escape(name)}</a></li>' for name, path in _LINKS.items())
_PAGE = f"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Turnlog</title>
<h1>Turnlog {escape(VERSION)}</h1>
<ul>{_ITEMS}</ul>
</html>
"""
_HEADERS = {"Vary": "Accept"}
_AS_PAGE: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}


@router.get("/", response_model=IndexResource, responses=_AS_PAGE)
async def get_index(call: CallParam) -> Response:
    """Return name, version and links, to a browser as a page and else as JSON."""
    accepted = (call.request.header(b"accept") or "").lower()
    if "text/html" in accepted and "application/json" not in accepted:
        return Response(_PAGE, headers=_HEADERS, media_type="text/html")
    return json_response(_INDEX, headers=_HEADERS)
