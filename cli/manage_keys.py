"""`turnlog keys`: create, list and revoke the keys for the API."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import click
from pydantic_core import to_json

from api.auth.errors import InvalidOwnerError, KeyNotFoundError
from api.auth.identity import ROLES, GrantedRole, check_owner_id
from api.auth.key_store import KeyStore, StoredKey
from cli.database_options import ExistingLog, FailedError, WrongUseError, database_options, existing_log
from cli.terminal import cut, visible, visible_json, width
from eventlog.clock import now
from eventlog.db.database import Database
from projections.models.json_resources import rfc3339

MAX_NAME_CHARS = 256
CREATED = """\
{key}
  id       {id}
  owner    {owner}
  role     {role}
  expires  {expires}
This is the only time that the key is shown. Clients send it as: Authorization: Bearer <key>"""

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"([1-9][0-9]{0,5})([mhdw])")
_HINT = "a time such as 2027-01-31 or 2027-01-31T12:00:00Z, or a duration such as 12h or 90d"

T = TypeVar("T")


@click.group()
def keys() -> None:
    """Create, list and revoke the keys for the API."""


@keys.command()
@click.option("--owner", required=True, metavar="ID", help="Owner of the key, or name of the service or operator.")
@click.option("--role", required=True, type=click.Choice(ROLES), help="The role of the key: what its caller may do.")
@click.option("--expires", metavar="WHEN", help=f"End of the key: {_HINT} [default: never].")
@click.option("--name", metavar="TEXT", help="A note on the key's use.")
@database_options
def create(
    data_dir: Path | None,
    database_url: str | None,
    *,
    owner: str,
    role: GrantedRole,
    expires: str | None,
    name: str | None,
) -> None:
    """Create a key and print it, once."""
    try:
        check_owner_id(owner)
    except InvalidOwnerError as error:
        raise WrongUseError(f"--owner: {error}") from None
    if name is not None and not (0 < len(name) <= MAX_NAME_CHARS and name.isprintable()):
        raise WrongUseError(f"--name: A name has 1 to {MAX_NAME_CHARS} visible characters.")
    ends = None if expires is None else _moment(expires)
    id_, key = _run(data_dir, database_url, lambda store: store.create(owner, role, name, ends), writes=True)
    shown = rfc3339(ends) if ends else "never"
    click.echo(CREATED.format(key=key, id=id_, owner=visible(owner), role=role, expires=shown))


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@database_options
def list_keys(data_dir: Path | None, database_url: str | None, *, as_json: bool) -> None:
    """Print all keys, without the keys themselves."""
    found = _run(data_dir, database_url, lambda store: store.all_keys())
    moment, columns = now(), width()
    if as_json:
        for key in found:
            click.echo(visible_json(to_json({**key._asdict(), "status": _status(key, moment)}).decode()))
        return
    lines = [f"{'ID':<36}  {'KEY':<9}  {'ROLE':<7}  {'STATUS':<7}  {'EXPIRES':<27}  OWNER"]
    for key in found:
        ends = rfc3339(key.expires_at) if key.expires_at else "never"
        what = f"{visible(key.owner_id)}{f'  ({visible(key.name)})' if key.name else ''}"
        lines.append(f"{key.id}  {key.prefix}…  {key.role:<7}  {_status(key, moment):<7}  {ends:<27}  {what}")
    for line in lines:
        click.echo(line if columns is None else cut(line, columns))


@keys.command()
@click.argument("key_id", metavar="ID", type=click.UUID)
@database_options
def revoke(key_id: UUID, data_dir: Path | None, database_url: str | None) -> None:
    """Revoke a key. It stops working within 5 s."""
    try:
        key = _run(data_dir, database_url, lambda store: store.revoke(key_id), writes=True)
    except KeyNotFoundError as error:
        raise FailedError(str(error)) from None
    assert key.revoked_at is not None
    what = f"{key.id} ({key.prefix}…, {key.role} {visible(key.owner_id)})"
    click.echo(f"Key {what} is revoked since {rfc3339(key.revoked_at)}.")


def _status(key: StoredKey, moment: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= moment else "active"


def _moment(text: str) -> datetime:
    """Return the time in the future that `--expires` names.

    Raises:
        WrongUseError: it is not a time, or not in the future.
    """
    try:
        if found := _DURATION.fullmatch(text):
            moment = now() + timedelta(**{_UNITS[found[2]]: int(found[1])})
        else:
            moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise WrongUseError(f"--expires {visible(text)}: must be {_HINT}.") from None
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment <= now():
        raise WrongUseError(f"--expires {visible(text)}: is in the past.")
    return moment


def _run(
    data_dir: Path | None,
    database_url: str | None,
    work: Callable[[KeyStore], Awaitable[T]],
    *,
    writes: bool = False,
) -> T:
    with existing_log(data_dir, database_url, writes=writes) as opened:
        return asyncio.run(_with_store(opened, work))


async def _with_store(opened: ExistingLog, work: Callable[[KeyStore], Awaitable[T]]) -> T:
    database = Database(opened.conninfo, opened.schema)
    await database.open()
    try:
        return await work(KeyStore(database))
    finally:
        await database.close()
