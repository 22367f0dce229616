"""`GET /`: what this server is, and where to go on from there."""

from html import escape
from importlib.metadata import version

from fastapi import APIRouter, Response

from api.http.call import CallParam, json_response
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


@router.get("/")
async def get_index(call: CallParam) -> Response:
    """Tell name, version and links: as a page to a browser, as JSON to programs."""
    accepted = (call.request.header(b"accept") or "").lower()
    if "text/html" in accepted and "application/json" not in accepted:
        return Response(_PAGE, headers=_HEADERS, media_type="text/html")
    return json_response(_INDEX, headers=_HEADERS)
