"""The problems of the API, for the OpenAPI document."""

from collections.abc import Collection, Mapping
from itertools import groupby
from typing import Any

from api.auth import errors as auth_errors
from api.document.headers import Schema, answer_headers
from api.http.problems import (
    BAD_REQUEST,
    FORBIDDEN,
    HEADERS_TOO_LARGE,
    INTERNAL,
    INVALID_AS_OF,
    INVALID_CURSOR,
    METHOD_NOT_ALLOWED,
    MODEL_ERROR,
    NOT_FOUND,
    PAYLOAD_TOO_LARGE,
    PROBLEM_KINDS,
    READ_MODEL_BEHIND,
    REQUEST_TIMEOUT,
    SERVER_BUSY,
    UNSUPPORTED_ENCODING,
    VALIDATION_FAILED,
    ProblemKind,
)
from domain import errors
from eventlog.errors import StoreUnavailableError
from projections.errors import UnknownProjectionError

MEDIA_TYPE = "application/problem+json"

UNAUTHENTICATED = PROBLEM_KINDS[auth_errors.UnauthenticatedError]
IDENTITY_PROVIDER_UNAVAILABLE = PROBLEM_KINDS[auth_errors.IdentityProviderError]
KEY_NOT_FOUND = PROBLEM_KINDS[auth_errors.KeyNotFoundError]
CONVERSATION_NOT_FOUND = PROBLEM_KINDS[errors.ConversationNotFoundError]
CONVERSATION_DELETED = PROBLEM_KINDS[errors.ConversationDeletedError]
CONVERSATION_LOCKED = PROBLEM_KINDS[errors.ConversationLockedError]
MESSAGE_NOT_FOUND = PROBLEM_KINDS[errors.MessageNotFoundError]
TURN_NOT_FOUND = PROBLEM_KINDS[errors.TurnNotFoundError]
TURN_NOT_ACTIVE = PROBLEM_KINDS[errors.TurnNotActiveError]
DELTA_OUT_OF_ORDER = PROBLEM_KINDS[errors.DeltaOutOfOrderError]
VERSION_MISMATCH = PROBLEM_KINDS[errors.VersionMismatchError]
AGENT_NOT_FOUND = PROBLEM_KINDS[errors.AgentNotFoundError]
CONVERSATION_LIMIT_REACHED = PROBLEM_KINDS[errors.ConversationLimitReachedError]
WRITE_CONFLICT = PROBLEM_KINDS[errors.WriteConflictError]
UNSUPPORTED_IMAGE = PROBLEM_KINDS[errors.UnsupportedImageError]
IDEMPOTENCY_KEY_REUSED = PROBLEM_KINDS[errors.IdempotencyKeyReusedError]
RATE_LIMITED = PROBLEM_KINDS[errors.LimitReachedError]
STORE_UNAVAILABLE = PROBLEM_KINDS[StoreUnavailableError]
PROJECTION_NOT_FOUND = PROBLEM_KINDS[UnknownProjectionError]

MEANINGS: Mapping[ProblemKind, str] = {
    BAD_REQUEST: "The bytes are not HTTP, there is not exactly one `Host`, or a service sent no `Turnlog-Owner`.",
    INVALID_CURSOR: "The cursor is broken, or one of another list.",
    INVALID_AS_OF: "`as_of` is in the future.",
    UNAUTHENTICATED: "There are no credentials, or none that work.",
    FORBIDDEN: "The role may not do this or not name an owner, the `Host` is not one of this server, or a page of "
    "another site writes.",
    NOT_FOUND: "There is no such path.",
    CONVERSATION_NOT_FOUND: "There is no such conversation, or it belongs to another owner.",
    MESSAGE_NOT_FOUND: "There is no such message in the conversation, or it is deleted. A superseded one cannot be "
    "answered or replaced.",
    TURN_NOT_FOUND: "There is no such turn in the conversation.",
    AGENT_NOT_FOUND: "There is no such agent, it belongs to another owner, or the label cannot be one.",
    KEY_NOT_FOUND: "There is no key with this id.",
    PROJECTION_NOT_FOUND: "There is no read model of this name.",
    METHOD_NOT_ALLOWED: "The path does not support the method.",
    REQUEST_TIMEOUT: "The request was not complete within 30 s.",
    CONVERSATION_LOCKED: "A turn runs, or a hundred wait already. `active_turn_id` names the turn.",
    TURN_NOT_ACTIVE: "The turn has ended, does not wait for tool results, or has not started.",
    DELTA_OUT_OF_ORDER: "The batch skips chunks. `next_seq` is the number of the next chunk.",
    CONVERSATION_LIMIT_REACHED: "The agent allows no further conversation.",
    WRITE_CONFLICT: "Other processes won a hundred times in a row, or the read model is being rebuilt already.",
    CONVERSATION_DELETED: "The owner deleted the conversation.",
    VERSION_MISMATCH: "`If-Match` does not name the version of the conversation or agent.",
    PAYLOAD_TOO_LARGE: "The body has more than 10 MiB.",
    UNSUPPORTED_ENCODING: "The body has a `Content-Encoding` other than `identity`.",
    UNSUPPORTED_IMAGE: "The bytes of an image are not of its media type, or the type is not supported.",
    VALIDATION_FAILED: "The request is not valid. `errors` names up to twenty faults.",
    IDEMPOTENCY_KEY_REUSED: "The key was used before with another request.",
    RATE_LIMITED: "The owner is at its limit of requests, running turns or open streams.",
    HEADERS_TOO_LARGE: "The request line and the headers have more than 16 KiB.",
    INTERNAL: "A defect of the server.",
    MODEL_ERROR: "The turn failed, or the model library could not be loaded.",
    STORE_UNAVAILABLE: "PostgreSQL does not answer, or the server is being stopped. A write may have been recorded.",
    IDENTITY_PROVIDER_UNAVAILABLE: "The JWKS server does not deliver the key of the token.",
    SERVER_BUSY: "Too many large bodies arrive at once.",
    READ_MODEL_BEHIND: "The read models did not reach the position in 5 s.",
}
"""The meaning of each kind, in one sentence or two."""

_ALWAYS: Mapping[ProblemKind, tuple[str, ...]] = {
    UNAUTHENTICATED: ("WWW-Authenticate",),
    METHOD_NOT_ALLOWED: ("Allow",),
    CONVERSATION_LOCKED: ("Retry-After",),
    UNSUPPORTED_ENCODING: ("Accept-Encoding",),
    RATE_LIMITED: ("Retry-After",),
    IDENTITY_PROVIDER_UNAVAILABLE: ("Retry-After",),
    SERVER_BUSY: ("Retry-After",),
    READ_MODEL_BEHIND: ("Retry-After", "Turnlog-Behind"),
}
"""The headers that each answer of a kind has."""

_SOMETIMES: Mapping[ProblemKind, tuple[str, ...]] = {
    STORE_UNAVAILABLE: ("Retry-After",),
    MODEL_ERROR: ("Turnlog-Position", "Turnlog-Behind"),
}

_OF_NO_OPERATION = (NOT_FOUND, METHOD_NOT_ALLOWED)
_ID: Schema = {"type": "string", "format": "uuid"}

PROBLEM: Schema = {
    "title": "Problem",
    "description": "An error (RFC 9457). Members after `code` belong to certain codes only.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "pattern": "^urn:turnlog:problem:[A-Z_]+$"},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "A sentence for people."},
        "code": {"type": "string", "description": "For programs.", "enum": sorted(kind.code for kind in MEANINGS)},
        "errors": {
            "description": "Of `VALIDATION_FAILED`, and of `BAD_REQUEST` for a missing `Turnlog-Owner`.",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["loc", "msg"],
                "properties": {
                    "loc": {
                        "description": "The place: body, query, path or header, then names and indexes.",
                        "type": "array",
                        "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                    },
                    "msg": {"type": "string"},
                },
            },
        },
        "active_turn_id": {**_ID, "description": "Of `CONVERSATION_LOCKED`."},
        "next_seq": {"type": "integer", "description": "Of `DELTA_OUT_OF_ORDER`."},
        "conversation_id": {**_ID, "description": "Of `MODEL_ERROR`, if a turn failed."},
        "turn_id": {**_ID, "description": "Of `MODEL_ERROR`, if a turn failed."},
        "error": {"$ref": "#/components/schemas/TurnError"},
    },
    "examples": [
        {
            "type": "urn:turnlog:problem:VALIDATION_FAILED",
            "title": "Unprocessable content",
            "status": 422,
            "detail": "The request is not valid.",
            "code": "VALIDATION_FAILED",
            "errors": [{"loc": ["body", "content"], "msg": "Field required"}],
        }
    ],
}


class ProblemResponses:
    """The responses with problems, as components that operations share."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        for kind in _OF_NO_OPERATION:
            self._refer([kind])

    def by_status(self, kinds: Collection[ProblemKind]) -> dict[str, Schema]:
        """Return a response for each status of these kinds."""
        grouped = groupby(sorted(set(kinds)), key=lambda kind: kind.status)
        return {str(status): self._refer(list(group)) for status, group in grouped}

    def _refer(self, kinds: list[ProblemKind]) -> Schema:
        name = ".".join(kind.code for kind in kinds)
        self.components.setdefault(name, problem_response_of(kinds))
        return {"$ref": f"#/components/responses/{name}"}


def problem_response_of(kinds: list[ProblemKind]) -> Schema:
    """Return the response that answers kinds of one status."""
    always = set[str].intersection(*(set(_ALWAYS.get(kind, ())) for kind in kinds))
    possible = {name for kind in kinds for name in (*_ALWAYS.get(kind, ()), *_SOMETIMES.get(kind, ()))}
    codes: Schema = {"properties": {"code": {"enum": [kind.code for kind in kinds]}}}
    found: dict[str, Any] = {
        "description": "\n\n".join(f"`{kind.code}`: {MEANINGS[kind]}" for kind in kinds),
        "content": {MEDIA_TYPE: {"schema": {"allOf": [{"$ref": "#/components/schemas/Problem"}, codes]}}},
    }
    if headers := answer_headers(sorted(always), sorted(possible - always)):
        found["headers"] = headers
    return found
