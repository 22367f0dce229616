"""The host names of a server that authenticates its callers.

A foreign name is no danger by itself: a page whose name resolves to the server (DNS rebinding) has no key. The list is
for servers that should answer under their own names only.
"""

import re
from collections.abc import Sequence

from starlette.types import Scope

from api.address_lists import ANY
from api.http.problems import BAD_REQUEST, FORBIDDEN, ProblemError
from api.http.same_machine import ONE_HOST

_HOST = re.compile(rb"(?:\[([0-9a-f:.]+)\]|([^\s/@\[\]:]+))(?::\d{1,5})?", re.IGNORECASE)


class AllowedHosts:
    """The names that a server answers to.

    Without a list, or with `*`, it answers to any.
    """

    def __init__(self, names: Sequence[str] | None) -> None:
        self._any = names is None or ANY in names
        self._names = frozenset(name for name in names or () if not name.startswith(ANY))
        self._endings = tuple(name.removeprefix(ANY) for name in names or () if name.startswith("*."))

    def refusal(self, scope: Scope) -> ProblemError | None:
        """Return the problem of a request that is refused, None if it may pass."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) > 1 or not (hosts or scope["http_version"] == "1.0"):
            return ProblemError(BAD_REQUEST, ONE_HOST)
        if self._any or not hosts or self._allows(hosts[0]):
            return None
        return ProblemError(FORBIDDEN, "The Host header names no host of this server.")

    def _allows(self, value: bytes) -> bool:
        found = _HOST.fullmatch(value)
        if found is None:
            return False
        host = (found[1] or found[2]).decode("latin-1").lower().removesuffix(".")
        return host in self._names or host.endswith(self._endings)
