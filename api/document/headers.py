"""The headers of requests and of answers, for the OpenAPI document."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from api.auth.credentials import OWNER
from api.auth.identity import MAX_OWNER_CHARS
from api.http.request import MAX_DIGITS

Schema = dict[str, Any]

_NUMBER: Schema = {"type": "integer", "minimum": 0, "maximum": 10**MAX_DIGITS - 1}
_VISIBLE = "[!-~]{1,255}"
_TAG = '(W/)?"[!#-~]*"'


class Header(NamedTuple):
    """A header, with the schema of its value."""

    description: str
    schema: Schema


REQUEST_HEADERS: Mapping[str, Header] = {
    "Idempotency-Key": Header(
        "Makes the request safe to repeat. The same key with the same request records nothing and returns the first "
        "answer. 1 to 255 visible ASCII characters.",
        {"type": "string", "pattern": f"^{_VISIBLE}$"},
    ),
    "If-Match": Header(
        'The versions at which the conversation or agent may be changed: `*`, or entity tags such as `"3", "4"`.',
        {"type": "string", "pattern": rf"^(\*|{_TAG}( *, *{_TAG})*)$"},
    ),
    "Last-Event-ID": Header(
        "The id of the last event that the client has seen. The stream continues after it. EventSource sends it by "
        "itself. An empty value counts as none.",
        {"type": "string", "pattern": f"^[0-9]{{0,{MAX_DIGITS}}}$"},
    ),
    "Turnlog-Position": Header(
        "A log position that the answer has to include, such as that of the client's last write. The request waits up "
        "to 5 s for it.",
        _NUMBER,
    ),
    OWNER: Header(
        "The owner who is meant. A service must send it, but not with an `access_token`. An auditor or an admin may "
        "send it on the routes of agents. Other callers may not.",
        {"type": "string", "minLength": 1, "maxLength": MAX_OWNER_CHARS},
    ),
    "X-Request-Id": Header(
        "An id that is recorded with the events of the request. Without 1 to 255 visible ASCII characters, the server "
        "makes one.",
        {"type": "string"},
    ),
}

ANSWER_HEADERS: Mapping[str, Header] = {
    "Turnlog-Position": Header(
        "Log position of the write's last event, of the start of a streamed turn, or of the moment that `as_of` names.",
        _NUMBER,
    ),
    "Turnlog-Behind": Header("The read models that do not show the position yet.", {"type": "string"}),
    "ETag": Header("The version of the conversation or agent.", {"type": "string", "pattern": '^"[0-9]+"$'}),
    "Retry-After": Header("Seconds after which the request may be sent again.", {"type": "integer", "minimum": 1}),
    "WWW-Authenticate": Header("The scheme of authentication.", {"type": "string", "const": "Bearer"}),
    "Allow": Header("The methods of the path.", {"type": "string"}),
    "Accept-Encoding": Header("The encoding of bodies that is accepted.", {"type": "string", "const": "identity"}),
    "Cache-Control": Header("The answer is for this request only.", {"type": "string"}),
    "X-Accel-Buffering": Header("Tells a proxy to pass each event on at once.", {"type": "string", "const": "no"}),
    "Vary": Header("The request header that the answer depends on.", {"type": "string"}),
}


def header_components() -> dict[str, Schema]:
    """Return the headers of answers as components of the document.

    A component without the suffix is always sent where it is named.
    """
    always = {name: _header(header) | {"required": True} for name, header in ANSWER_HEADERS.items()}
    return always | {f"{name}.optional": _header(header) for name, header in ANSWER_HEADERS.items()}


def parameter_components() -> dict[str, Schema]:
    """Return the headers of requests as components of the document."""
    return {name: {"name": name, "in": "header", **_header(header)} for name, header in REQUEST_HEADERS.items()}


def answer_headers(always: Iterable[str], sometimes: Iterable[str] = ()) -> dict[str, Schema]:
    """Return references to the headers of an answer."""
    names = {name: name for name in always} | {name: f"{name}.optional" for name in sometimes}
    return {name: {"$ref": f"#/components/headers/{component}"} for name, component in names.items()}


def header_parameter(name: str) -> Schema:
    """Return a reference to a header of a request."""
    assert name in REQUEST_HEADERS, name
    return {"$ref": f"#/components/parameters/{name}"}


def _header(header: Header) -> Schema:
    return {"description": header.description, "schema": header.schema}
