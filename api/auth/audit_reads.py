"""The record of what auditors and admins read."""

from api.auth.identity import Identity


async def record_audit_read(identity: Identity, method: str, path: str, request_id: str) -> None:
    """Record a read of an auditor or an admin, before it is answered.

    It is not implemented, and nothing is recorded: an `AuditRead` belongs to an aggregate of its own, and the log holds
    conversations only. The query is not a parameter, as it may hold a short token.
    """
