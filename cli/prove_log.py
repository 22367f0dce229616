"""`turnlog log verify`, `checkpoint` and `prove`: nothing was changed."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.errors import LogDamagedError
from audit.proofs.checkpoints import Checkpoint, parse_checkpoint
from audit.proofs.errors import SigningKeyError
from audit.proofs.key_file import read_key, read_or_make_key
from audit.proofs.signed_notes import NoteKey, Signer, open_note, parse_key
from audit.seals.proving import prove_event, sign_checkpoint
from audit.seals.sealed_tree import read_origin
from audit.seals.verification import Verified, verify_log
from cli.database_options import ExistingLog, FailedError, database_options, existing_log, settings_for
from cli.progress_bars import show_progress
from cli.terminal import visible
from eventlog.db.connection import Connection, translated_errors
from eventlog.db.database import Database
from projections.rebuild.builder import BuildStep

KEY_FILE = "checkpoint.key"

T = TypeVar("T")

_key_file = click.option(
    "--key",
    "key_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"The signing key, made if it is missing [default: {KEY_FILE} in the data directory].",
)


class DifferentError(FailedError):
    """The log is not as it was recorded.

    The command prints one line on stderr and exits with 3.
    """

    exit_code = 3


@click.command()
@click.option(
    "--workers", type=click.IntRange(1, 64), default=min(os.cpu_count() or 1, 8), help="Number of connections."
)
@click.option(
    "--against",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A checkpoint. The log must have grown from it.",
)
@click.option(
    "--public-key", metavar="KEY", help=f"The key that signed it [default: that of {KEY_FILE} in the data directory]."
)
@database_options
def verify(
    workers: int, data_dir: Path | None, database_url: str | None, *, against: Path | None, public_key: str | None
) -> None:
    """Check that nothing in the log was changed.

    Positions must have no gap, every event must match its digest, and all of them the sealed tree heads. Exits with 3
    and names the first position that does not.
    """
    with existing_log(data_dir, database_url) as existing, damage_exits_with_3():
        checkpoint = None
        if against is not None:
            checkpoint = _read_checkpoint(against, public_key, _key_path(None, data_dir, database_url))
        verified = _verify(existing, workers, checkpoint)
    click.echo(_report(verified, checkpoint))
    if verified.finding:
        raise SystemExit(DifferentError.exit_code)


@click.command()
@_key_file
@click.option("--show-key", is_flag=True, help="Print the public key instead, for --public-key of others.")
@database_options
def checkpoint(data_dir: Path | None, database_url: str | None, *, key_file: Path | None, show_key: bool) -> None:
    """Print a signed checkpoint of the log, to be kept elsewhere.

    The signature is Ed25519, the form a signed note (c2sp.org/tlog-checkpoint).
    """
    path = _key_path(key_file, data_dir, database_url)
    with existing_log(data_dir, database_url) as existing, damage_exits_with_3(), _signing_key(path) as private:
        if show_key:
            origin = _run(existing, read_origin)
            click.echo(str(Signer(origin, private).key))
        else:
            click.echo(_run(existing, lambda connection: sign_checkpoint(connection, private)), nl=False)


@click.command()
@click.argument("position", type=click.IntRange(1, 2**63 - 1))
@_key_file
@database_options
def prove(position: int, data_dir: Path | None, database_url: str | None, *, key_file: Path | None) -> None:
    """Print a proof that the event at a position is in the log.

    The proof holds the event and a signed checkpoint (c2sp.org/tlog-proof).
    """
    path = _key_path(key_file, data_dir, database_url)
    with existing_log(data_dir, database_url) as existing, damage_exits_with_3(), _signing_key(path) as private:
        proof = _run(existing, lambda connection: prove_event(connection, position, private))
        click.echo(proof.text(), nl=False)


def _verify(existing: ExistingLog, workers: int, checkpoint: Checkpoint | None) -> Verified:
    async def work() -> Verified:
        database = Database(existing.conninfo, existing.schema)
        with show_progress() as progress:
            return await verify_log(
                database,
                workers,
                checkpoint,
                lambda verified, events: progress.report(BuildStep("log", "verifying", verified, events)),
            )

    return asyncio.run(work())


def _run(existing: ExistingLog, work: Callable[[Connection], Awaitable[T]]) -> T:
    async def run() -> T:
        async with await Database(existing.conninfo, existing.schema).connect() as connection:
            with translated_errors():
                return await work(connection)

    return asyncio.run(run())


def _report(verified: Verified, checkpoint: Checkpoint | None) -> str:
    if verified.finding:
        return visible(f"Position {verified.finding.position}: {verified.finding.reason}")
    counted = f"{verified.events:,} events ({verified.erased:,} erased) and {verified.heads:,} sealed heads"
    lines = [f"{counted} are as they were recorded."]
    if checkpoint is not None:
        lines.append(f"The log only grew since the checkpoint of {checkpoint.size:,} events.")
    return "\n".join(lines)


def _key_path(given: Path | None, data_dir: Path | None, database_url: str | None) -> Path:
    return given or settings_for(data_dir, database_url).data_dir / KEY_FILE


@contextmanager
def _signing_key(path: Path) -> Generator[Ed25519PrivateKey]:
    """Yield the key of a file, and say at the end if it was made.

    Otherwise a lost key would be replaced unnoticed.
    """
    is_new = not path.exists()
    yield read_or_make_key(path)
    if is_new:
        click.echo(visible(f"Made the signing key {path}. Back it up, because checkpoints need it."), err=True)


def _read_checkpoint(path: Path, public_key: str | None, key_path: Path) -> Checkpoint:
    """Return the checkpoint of a file.

    The given key, or else that of this machine, has to have signed it.
    """
    try:
        note = path.read_bytes()
    except OSError as error:
        raise FailedError(f"{path} cannot be read: {error.strerror or error}.") from None
    # The key of this machine signs for every log under the log's name. A checkpoint of another one is refused later.
    name = note.partition(b"\n")[0].decode(errors="replace")
    key = NoteKey(name, _public(key_path)) if public_key is None else parse_key(public_key)
    return parse_checkpoint(open_note(note, [key]))


def _public(path: Path) -> bytes:
    try:
        private: Ed25519PrivateKey = read_key(path)
    except SigningKeyError as error:
        raise FailedError(f"{error} Name the key that signed the checkpoint with --public-key.") from None
    return private.public_key().public_bytes_raw()


@contextmanager
def damage_exits_with_3() -> Generator[None]:
    """Raise DifferentError for a log that is not whole."""
    try:
        yield
    except LogDamagedError as error:
        raise DifferentError(str(error)) from None
