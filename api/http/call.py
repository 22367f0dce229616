"""One request as the routes see it: who calls, with what services, and whether the same was asked before."""

import re
from hashlib import sha256
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import orjson
from fastapi import Depends, Response

from api.http.problems import Kind, ProblemError, validation_problem
from api.http.request import Incoming, header_number
from api.services import Services
from commands.commands import Caller
from domain.errors import (
    ConversationDeletedError,
    ConversationNotFoundError,
    IdempotencyKeyReusedError,
)
from eventlog.clock import new_hex_id
from eventlog.log import IdempotentCommand
from eventlog.writer import Idempotency
from projections.models.listing import ConversationRow

LOCAL_OWNER = "local"
WRITE_WAIT_S = 2.0
READ_WAIT_S = 5.0
READ_MODELS = frozenset({"listing", "history", "context"})
"""What the routes read; a projection that none of them asks holds no read up."""

_TOKEN = re.compile(r"[\x21-\x7e]{1,255}")
_READ_MODEL_BEHIND = Kind(503, "READ_MODEL_BEHIND")


class Call(NamedTuple):
    """A request in the making of its answer. `repeated` is the command that the same idempotency key recorded."""

    services: Services
    request: Incoming
    caller: Caller
    repeated: IdempotentCommand | None = None

    async def readable(self, conversation_id: UUID) -> ConversationRow:
        """Return the caller's conversation.

        Raises:
            ConversationNotFoundError: there is none, or it is another's.
            ConversationDeletedError: the caller deleted it.
        """
        row = await self.owned(conversation_id)
        if row.deleted:
            raise ConversationDeletedError(conversation_id)
        return row

    async def owned(self, conversation_id: UUID) -> ConversationRow:
        """Return the caller's conversation, deleted or not.

        Raises:
            ConversationNotFoundError: there is none, or it is another's.
        """
        row = await self.services.listing.get(conversation_id)
        if row is None or row.owner_id != self.caller.actor:
            raise ConversationNotFoundError(conversation_id)
        return row

    async def written(self, position: int | None, resource: Any = None, status: int = 200) -> Response:
        """Answer a write at `position` once every read model shows it, or say which ones do not; None wrote nothing."""
        headers = await self.write_headers(position)
        if resource is None:
            return Response(status_code=status, headers=headers)
        return json_response(resource, status, headers)

    async def write_headers(self, position: int | None) -> dict[str, str]:
        """Return the headers of a write, after waiting until it can be read; nothing written is as of now."""
        if position is None:
            position = await self.services.log.head()
        behind = await self.services.progress.wait(position, WRITE_WAIT_S)
        headers = {"Turnlog-Position": str(position)}
        if behind:
            headers["Turnlog-Behind"] = ", ".join(behind)
        return headers


def json_response(resource: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(orjson.dumps(resource), status, headers, "application/json")


def caller_of(request: Incoming) -> Caller:
    """Return who calls; until there is authentication everyone is the one local owner.

    Raises:
        ProblemError: the idempotency key is not one.
    """
    key = request.header(b"idempotency-key") if request.method == "POST" else None
    idempotency = Idempotency(_token(key), _fingerprint(request)) if key is not None else None
    return Caller(LOCAL_OWNER, _request_id(request), idempotency)


async def find_repeated(services: Services, caller: Caller) -> IdempotentCommand | None:
    """Return the command that the caller's idempotency key recorded before, None if it is new.

    Raises:
        IdempotencyKeyReusedError: it recorded another request.
    """
    if caller.idempotency is None:
        return None
    found = await services.log.find_idempotent(caller.actor, caller.idempotency.key)
    if found and found.fingerprint != caller.idempotency.fingerprint:
        raise IdempotencyKeyReusedError(caller.idempotency.key)
    return found


async def wait_for_position(request: Incoming, services: Services) -> None:
    """Hold a read that names a position until the read models have reached it.

    Raises:
        ProblemError: they have not within 5 s, or the position is no number.
    """
    wanted = request.header(b"turnlog-position")
    if wanted is None:
        return
    position = header_number("Turnlog-Position", wanted, "a position")
    behind = [name for name in await services.progress.wait(position, READ_WAIT_S) if name in READ_MODELS]
    if behind:
        headers = {"Turnlog-Behind": ", ".join(behind), "Retry-After": "1"}
        raise ProblemError(_READ_MODEL_BEHIND, f"Position {wanted} is not reached yet.", headers=headers)


def _token(key: str) -> str:
    if not _TOKEN.fullmatch(key):
        raise validation_problem(
            "The request is not valid.", ("header", "Idempotency-Key"), "must be 1 to 255 visible ASCII characters"
        )
    return key


def _fingerprint(request: Incoming) -> bytes:
    return sha256(b"\n".join([request.method.encode(), request.path.encode(), request.body])).digest()


def _request_id(request: Incoming) -> str:
    given = request.header(b"x-request-id")
    return given if given is not None and _TOKEN.fullmatch(given) else new_hex_id()


def _call_of() -> Call:
    """Stands in the signatures of routes for the call that `JSONRoute` hands them."""
    raise AssertionError("the route class makes the call")


CallParam = Annotated[Call, Depends(_call_of)]
