"""Access: what each route needs, and what each role may do."""

from collections.abc import Mapping
from enum import Enum, auto

from api.auth.errors import ForbiddenError
from api.auth.identity import Identity, Role


class Access(Enum):
    """The needs of a route: what its caller has to be allowed."""

    PUBLIC = auto()
    """Nothing, not even authentication."""
    ANY_CALLER = auto()
    """Authentication, in any role."""
    READS = auto()
    """Reads conversations: its own, or everybody's for an auditor or an admin."""
    STREAMS = auto()
    """Reads conversations as an event stream. So it also takes a short token."""
    WRITES = auto()
    """Writes its own conversations."""
    READS_AGENTS = auto()
    """Reads agents that it may use, or everybody's for an auditor or an admin."""
    WRITES_AGENTS = auto()
    """Writes its own agents, or everybody's for an admin."""
    READS_ANYTHING = auto()
    """Reads what belongs to no owner, such as metrics."""
    OPERATES = auto()
    """Operates the server, such as its projections."""


AGENTS = frozenset({Access.READS_AGENTS, Access.WRITES_AGENTS})
"""The needs of routes on which auditors and admins may name an owner."""

_OWN = frozenset({Access.ANY_CALLER, Access.READS, Access.STREAMS, Access.WRITES, *AGENTS})
_AUDIT = frozenset({Access.ANY_CALLER, Access.READS, Access.STREAMS, Access.READS_AGENTS, Access.READS_ANYTHING})

RIGHTS: Mapping[Role, frozenset[Access]] = {
    "anonymous": frozenset({Access.PUBLIC}),
    "local": frozenset(Access),
    "user": _OWN,
    "service": _OWN,
    "auditor": _AUDIT,
    "admin": _AUDIT | {Access.WRITES_AGENTS, Access.OPERATES},
}
"""What each role may do. `local` is everybody where authentication is off."""

SHARES_AGENTS: frozenset[Role] = frozenset({"admin", "local"})
"""The roles that write the agents which every owner may use."""

READS_EVERYBODY: frozenset[Role] = frozenset({"auditor", "admin"})
"""The roles that read the conversations of every owner."""

AUDITED = frozenset({Access.ANY_CALLER, Access.READS, Access.STREAMS, Access.READS_AGENTS})
"""The needs of the routes whose use by these roles is recorded in the log.

Metrics are not among them. They show nothing of an owner, and are asked for while PostgreSQL is away.
"""

# The one place that says what each route needs. A route that is missing here fails when it is imported.
ROUTES: Mapping[str, Access] = {
    "GET /": Access.PUBLIC,
    "GET /healthz": Access.PUBLIC,
    "GET /readyz": Access.PUBLIC,
    "GET /metrics": Access.READS_ANYTHING,
    "POST /v1/tokens": Access.ANY_CALLER,
    "GET /v1/conversations": Access.READS,
    "POST /v1/conversations": Access.WRITES,
    "DELETE /v1/conversations": Access.WRITES,
    "GET /v1/conversations/{conversation_id}": Access.READS,
    "PATCH /v1/conversations/{conversation_id}": Access.WRITES,
    "DELETE /v1/conversations/{conversation_id}": Access.WRITES,
    "GET /v1/conversations/{conversation_id}/messages": Access.READS,
    "POST /v1/conversations/{conversation_id}/messages": Access.WRITES,
    "GET /v1/conversations/{conversation_id}/messages/{message_id}": Access.READS,
    "DELETE /v1/conversations/{conversation_id}/messages/{message_id}": Access.WRITES,
    "POST /v1/conversations/{conversation_id}/messages/{message_id}/regenerate": Access.WRITES,
    "GET /v1/conversations/{conversation_id}/context": Access.READS,
    "GET /v1/conversations/{conversation_id}/log": Access.READS,
    "GET /v1/conversations/{conversation_id}/events": Access.STREAMS,
    "GET /v1/conversations/{conversation_id}/turns": Access.READS,
    "POST /v1/conversations/{conversation_id}/turns": Access.WRITES,
    "POST /v1/turns": Access.WRITES,
    "GET /v1/conversations/{conversation_id}/turns/{turn_id}": Access.READS,
    "GET /v1/conversations/{conversation_id}/turns/{turn_id}/stream": Access.STREAMS,
    "POST /v1/conversations/{conversation_id}/turns/{turn_id}/cancel": Access.WRITES,
    "POST /v1/conversations/{conversation_id}/turns/{turn_id}/tool_results": Access.WRITES,
    "POST /v1/conversations/{conversation_id}/turns/{turn_id}/deltas": Access.WRITES,
    "POST /v1/conversations/{conversation_id}/turns/{turn_id}/complete": Access.WRITES,
    "POST /v1/conversations/{conversation_id}/turns/{turn_id}/fail": Access.WRITES,
    "GET /v1/agents": Access.READS_AGENTS,
    "GET /v1/agents/{agent_id}": Access.READS_AGENTS,
    "PUT /v1/agents/{agent_id}": Access.WRITES_AGENTS,
    "DELETE /v1/agents/{agent_id}": Access.WRITES_AGENTS,
    "GET /v1/events": Access.STREAMS,
    "GET /v1/log": Access.READS,
    "GET /v1/projections": Access.OPERATES,
    "GET /v1/projections/{name}": Access.OPERATES,
    "POST /v1/projections/{name}/rebuild": Access.OPERATES,
}

# Pages of the framework, which show nothing of the log.
PUBLIC_PAGES = frozenset({"/docs", "/docs/oauth2-redirect", "/openapi.json", "/static-offline-docs"})


class UndeclaredRouteError(Exception):
    """A route does not say what it needs of its caller."""


def access_of(methods: set[str] | None, path: str, routes: Mapping[str, Access] = ROUTES) -> Access:
    """Return what a route needs. HEAD needs what GET does.

    Raises:
        UndeclaredRouteError: the table has no line for it.
    """
    needed = {routes.get(f"{'GET' if method == 'HEAD' else method} {path}") for method in methods or {"GET"}}
    access = needed.pop()
    if access is None or needed:
        raise UndeclaredRouteError(f"{' '.join(methods or ())} {path} needs a line in api.auth.access.ROUTES.")
    return access


def check_rights(identity: Identity, access: Access) -> None:
    """Check that a caller may use a route.

    Raises:
        ForbiddenError: its role does not allow it.
    """
    if access not in RIGHTS[identity.role]:
        raise ForbiddenError(f"The role {identity.role} may not do this.")
