"""Ids of owners, and what each role may do."""

import pytest

from api.auth.access import ROUTES, Access, UndeclaredRouteError, access_of, check_rights
from api.auth.errors import ForbiddenError, InvalidOwnerError
from api.auth.identity import ANONYMOUS, LOCAL, ROLES, check_owner_id, granted


@pytest.mark.parametrize(
    "owner_id", ["alice", "auth0|5f7", "alice@example.org", "Zoë", "x" * 256, "'; DROP TABLE keys"[:2]]
)
def test_an_owner_id_is_visible_text(owner_id: str) -> None:
    assert check_owner_id(owner_id) == owner_id


@pytest.mark.parametrize(
    "owner_id", ["", "x" * 257, "a b", "a\0", "a\n", "a\u202eb", "a\u200bb", "\ud800", "a\u00a0b", "\x7f", "a\u2028b"]
)
def test_any_other_text_is_no_owner_id(owner_id: str) -> None:
    with pytest.raises(InvalidOwnerError):
        check_owner_id(owner_id)


def test_the_actor_names_the_role() -> None:
    assert [granted(role, "ops", None, None).actor for role in ROLES] == [
        "user:ops",
        "service:ops",
        "auditor:ops",
        "admin:ops",
    ]


def test_each_role_may_do_what_the_table_says() -> None:
    def may(role: str) -> set[str]:
        identity = {"local": LOCAL, "anonymous": ANONYMOUS}.get(role) or granted(role, "x", None, None)  # type: ignore[arg-type]
        allowed: set[str] = set()
        for access in Access:
            try:
                check_rights(identity, access)
                allowed.add(access.name)
            except ForbiddenError:
                pass
        return allowed

    own = {"ANY_CALLER", "READS", "STREAMS", "WRITES", "READS_AGENTS", "WRITES_AGENTS"}
    audit = {"ANY_CALLER", "READS", "STREAMS", "READS_ANYTHING", "READS_AGENTS"}
    assert may("user") == may("service") == own
    assert may("auditor") == audit
    assert may("admin") == audit | {"OPERATES", "WRITES_AGENTS"}
    assert may("local") == {access.name for access in Access}
    assert may("anonymous") == {"PUBLIC"}


def test_a_route_without_a_line_in_the_table_is_refused() -> None:
    with pytest.raises(UndeclaredRouteError, match="POST /v1/conversations/new"):
        access_of({"POST"}, "/v1/conversations/new")
    with pytest.raises(UndeclaredRouteError):
        access_of({"GET", "POST"}, "/v1/conversations")  # one line for each


def test_head_needs_what_get_needs() -> None:
    assert access_of({"HEAD"}, "/v1/events") is ROUTES["GET /v1/events"] is Access.STREAMS
