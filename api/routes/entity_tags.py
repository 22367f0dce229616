"""Entity tags: the version of a conversation or an agent, as clients name it."""

import re
from collections.abc import Collection

from api.http.call import Call
from api.http.problems import validation_problem

_ETAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_ETAGS = re.compile(rf"[ \t]*(?:{_ETAG.pattern}[ \t]*)?(?:,[ \t]*(?:{_ETAG.pattern}[ \t]*)?)*")
_VERSION = re.compile("[1-9][0-9]{0,8}")
_EVERY_VERSION = range(1, 2**31)


def entity_tag(version: int) -> dict[str, str]:
    """Return the header that names a version."""
    return {"ETag": f'"{version}"'}


def expected_versions(call: Call) -> Collection[int] | None:
    """Return the versions that `If-Match` names, None without the header.

    `*` names every version. A weak tag matches no version, and neither does a tag that is not a version.

    Raises:
        ProblemError: the header is not a list of entity tags (https://www.rfc-editor.org/rfc/rfc9110#name-if-match).
    """
    given = call.request.header(b"if-match")
    if given is None:
        return None
    if given.strip() == "*":
        return _EVERY_VERSION
    if not _ETAGS.fullmatch(given):
        message = 'must be * or a list of entity tags, as in "3", "4"'
        raise validation_problem("The request is not valid.", ("header", "If-Match"), message)
    return frozenset(int(tag) for weak, tag in _ETAG.findall(given) if not weak and _VERSION.fullmatch(tag))
