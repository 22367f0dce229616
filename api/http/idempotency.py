"""Idempotency keys: a repeated POST is answered from the log."""

import re
from hashlib import sha256

from api.http.problems import validation_problem
from api.http.request import HttpRequest
from commands.commands import Caller
from domain.errors import IdempotencyKeyReusedError
from eventlog.log import IdempotentCommand, Log
from eventlog.writer import Idempotency

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def idempotency_of(request: HttpRequest, owner_id: str) -> Idempotency | None:
    """Return the idempotency key that an owner gave a POST, None without a key.

    Raises:
        ProblemError: the key is not 1 to 255 visible ASCII characters.
    """
    key = request.header(b"idempotency-key") if request.method == "POST" else None
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        message = "must be 1 to 255 visible ASCII characters"
        raise validation_problem("The request is not valid.", ("header", "Idempotency-Key"), message)
    return Idempotency(owner_id, key, _fingerprint(request))


async def find_repeated(log: Log, caller: Caller) -> IdempotentCommand | None:
    """Return the command that the owner's key recorded before, None if it is new.

    Raises:
        IdempotencyKeyReusedError: the key recorded a different request.
    """
    if caller.idempotency is None:
        return None
    found = await log.find_idempotent(caller.idempotency.owner_id, caller.idempotency.key)
    if found and found.fingerprint != caller.idempotency.fingerprint:
        raise IdempotencyKeyReusedError(caller.idempotency.key)
    return found


def _fingerprint(request: HttpRequest) -> bytes:
    return sha256(b"\n".join([request.method.encode(), request.path.encode(), request.body])).digest()
