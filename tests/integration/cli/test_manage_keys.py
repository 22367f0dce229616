"""`turnlog keys` creates, lists and revokes the keys of a log."""

import json
import re
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from api.auth.api_keys import digest_of
from cli.main import turnlog
from tests.support.rebuilding import url
from tests.support.store import rows

KEY = re.compile(r"tlk_[0-9A-Za-z]{43}")


def run(conninfo: str, *arguments: str) -> Result:
    return CliRunner().invoke(turnlog, ["keys", *arguments, "--database-url", url(conninfo)])


def created(conninfo: str, *arguments: str) -> str:
    result = run(conninfo, "create", "--owner", "alice", "--role", "user", *arguments)
    assert result.exit_code == 0, result.output
    found = KEY.search(result.output)
    assert found
    return found[0]


def listed(conninfo: str) -> list[dict[str, Any]]:
    result = run(conninfo, "list", "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


def test_a_key_is_printed_once_and_its_hash_is_stored(prepared_url: str) -> None:
    key = created(prepared_url, "--name", "laptop", "--expires", "90d")
    (stored,) = rows(prepared_url, "SELECT owner_id, role, name, prefix, sha256, revoked_at, keys::text FROM keys")
    assert stored[:6] == ("alice", "user", "laptop", key[:8], digest_of(key.encode()), None)
    assert key not in stored[6]
    shown = run(prepared_url, "list").output
    assert key[:8] in shown and "active" in shown and key not in shown
    (listing,) = listed(prepared_url)
    assert listing.keys() == {
        "id", "owner_id", "role", "name", "prefix", "created_at", "expires_at", "revoked_at", "status",
    }  # fmt: skip
    assert listing["status"] == "active"


def test_a_revoked_key_stays_listed_and_keeps_its_time(prepared_url: str) -> None:
    created(prepared_url)
    (listing,) = listed(prepared_url)
    first = run(prepared_url, "revoke", listing["id"])
    assert (first.exit_code, first.output.count("\n")) == (0, 1)
    (revoked,) = listed(prepared_url)
    assert revoked["status"] == "revoked"
    assert run(prepared_url, "revoke", listing["id"]).output == first.output
    assert listed(prepared_url) == [revoked]


def test_a_key_ends_at_a_time_or_after_a_duration(prepared_url: str) -> None:
    for when in ("2099-01-31", "2099-01-31T12:00:00Z", "2099-01-31T12:00:00+02:00", "12h", "1w", "5m"):
        created(prepared_url, "--expires", when)
    ends = [key["expires_at"] for key in listed(prepared_url)]
    assert ends[:3] == ["2099-01-31T00:00:00Z", "2099-01-31T12:00:00Z", "2099-01-31T10:00:00Z"]
    assert all(ends[3:])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--owner", "", "--role", "user"), "--owner: An owner's id has 1 to 256 visible characters"),
        (("--owner", "a b", "--role", "user"), "--owner: "),
        (("--owner", "a\nb", "--role", "user"), "--owner: "),
        (("--owner", "x" * 257, "--role", "user"), "--owner: "),
        (("--owner", "a", "--role", "root"), "'root' is not one of"),
        (("--owner", "a", "--role", "local"), "'local' is not one of"),
        (("--owner", "a"), "Missing option '--role'"),
        (("--role", "user"), "Missing option '--owner'"),
        (("--owner", "a", "--role", "user", "--expires", "soon"), "--expires soon: must be a time such as"),
        (("--owner", "a", "--role", "user", "--expires", "2001-01-01"), "--expires 2001-01-01: is in the past."),
        (("--owner", "a", "--role", "user", "--expires", "999999w"), "--expires 999999w: must be"),
        (("--owner", "a", "--role", "user", "--name", "a\nb"), "--name: "),
    ],
)
def test_wrong_options_are_refused_before_a_database_is_opened(arguments: tuple[str, ...], words: str) -> None:
    result = CliRunner().invoke(turnlog, ["keys", "create", *arguments])
    assert result.exit_code == 2
    assert words in result.output


def test_an_unknown_key_cannot_be_revoked(prepared_url: str) -> None:
    missing = str(uuid4())
    result = run(prepared_url, "revoke", missing)
    assert (result.exit_code, result.output) == (1, f"Error: There is no key {missing}.\n")
    assert run(prepared_url, "revoke", "tlk_abc").exit_code == 2
