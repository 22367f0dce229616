"""The call: one request as a route's function gets it."""

import re
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import orjson
from fastapi import Depends, Response

from api.auth.access import READS_EVERYBODY
from api.auth.errors import ForbiddenError
from api.auth.identity import Identity
from api.http.idempotency import idempotency_of
from api.http.read_your_writes import position_headers
from api.http.request import HttpRequest
from api.services import Services
from commands.commands import Caller
from domain.errors import ConversationDeletedError, ConversationNotFoundError
from eventlog.clock import new_hex_id
from eventlog.log import IdempotentCommand
from projections.models.listing import ConversationRow

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,255}")


class Call(NamedTuple):
    """A request with its caller and the services.

    `identity` says what the caller may read, and `caller` is how commands know it. `repeated` is the command that its
    idempotency key recorded before, if any.
    """

    services: Services
    request: HttpRequest
    caller: Caller
    identity: Identity
    repeated: IdempotentCommand | None = None

    @property
    def readable_owner(self) -> str | None:
        """The owner whose conversations the caller may read, None for those of everybody."""
        return None if self.identity.role in READS_EVERYBODY else self.identity.owner_id

    @property
    def named_owner(self) -> str | None:
        """The owner that an auditor or an admin names with `Turnlog-Owner`, None without."""
        return self.identity.owner_id if self.identity.named_by else None

    def listed_owner(self, named: str | None) -> str | None:
        """Return the owner whose conversations are listed, None for those of everybody.

        Raises:
            ForbiddenError: the caller names an owner, and its role does not read everybody's conversations.
        """
        if named is None:
            return self.readable_owner
        if self.identity.role not in READS_EVERYBODY:
            raise ForbiddenError("Only an auditor or an admin may name an owner.")
        return named

    async def readable_conversation(self, conversation_id: UUID, position: int | None = None) -> ConversationRow:
        """Return a conversation that the caller may read, now or at a position of the log.

        Raises:
            ConversationNotFoundError: it does not exist, or the caller may not read it.
            ConversationDeletedError: it is deleted.
        """
        row = await self.owned_conversation(conversation_id, position)
        if row.deleted:
            raise ConversationDeletedError(conversation_id)
        return row

    async def owned_conversation(self, conversation_id: UUID, position: int | None = None) -> ConversationRow:
        """Return a conversation that the caller may read, deleted or not.

        Raises:
            ConversationNotFoundError: it does not exist, or the caller may not read it.
        """
        listing = self.services.listing if position is None else self.services.past.listing(position)
        row = await listing.get(conversation_id, self.readable_owner)
        if row is None:
            raise ConversationNotFoundError(conversation_id)
        return row

    async def write_response(self, position: int | None, resource: Any = None, status: int = 200) -> Response:
        """Return the answer to a write, once the read models show its position.

        The position is None if nothing was written.
        """
        headers = await self.write_headers(position)
        if resource is None:
            return Response(status_code=status, headers=headers)
        return json_response(resource, status, headers)

    async def write_headers(self, position: int | None) -> dict[str, str]:
        """Return the headers of a write, once the read models show its position."""
        return await position_headers(position, self.services.log, self.services.progress)


def json_response(resource: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response with a JSON body."""
    return Response(orjson.dumps(resource), status, headers, "application/json")


def caller_of(request: HttpRequest, identity: Identity) -> Caller:
    """Return the caller of a request, as commands and the log know it.

    Raises:
        ProblemError: the idempotency key is not valid.
    """
    idempotency = idempotency_of(request, identity.owner_id)
    return Caller(identity.owner_id, identity.actor, _request_id(request), idempotency)


def _request_id(request: HttpRequest) -> str:
    given = request.header(b"x-request-id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else new_hex_id()


def _placeholder() -> Call:
    # FastAPI reads the signatures of routes and would take a bare `Call` for a body. `JSONRoute` passes the call.
    raise AssertionError("JSONRoute makes the call")


CallParam = Annotated[Call, Depends(_placeholder)]
