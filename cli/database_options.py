"""Choose and open the database of a command, by the same options everywhere."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

import click

from cli.terminal import visible

if TYPE_CHECKING:
    import psycopg

    from api.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

# Variables that libpq reads besides those of its connection parameters.
_LIBPQ_VARIABLES = ("PGSERVICEFILE", "PGSYSCONFDIR", "PGTZ", "PGDATESTYLE", "PGGEQO", "PGLOCALEDIR")


class FailedError(click.ClickException):
    """The command failed. It prints one line on stderr and exits with 1."""

    def format_message(self) -> str:
        """Return the message as one line, with control characters escaped."""
        return visible(self.message)


class WrongUseError(FailedError):
    """The command was called wrongly. It prints one line on stderr and exits with 2."""

    exit_code = 2


class OpenDatabase(NamedTuple):
    """A PostgreSQL, and the settings that lead to it."""

    conninfo: str
    settings: "Settings"


class ExistingLog(NamedTuple):
    """An existing log with an up-to-date schema. The log of a standby is read-only."""

    conninfo: str
    schema: str
    read_only: bool


def database_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options `--data-dir` and `--database-url` to a command."""
    url = click.option("--database-url", metavar="URL", help="PostgreSQL to use instead of the embedded one.")
    directory = click.option(
        "--data-dir",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help="Data directory of the embedded PostgreSQL [default: ~/.local/share/turnlog].",
    )
    return directory(url(command))


def settings_for(data_dir: Path | None, database_url: str | None) -> "Settings":
    """Return the settings. The two options override the environment.

    Raises:
        WrongUseError: a setting is wrong, or both options were given.
    """
    from api.settings import SettingsError, load_settings

    if data_dir is not None and database_url is not None:
        raise WrongUseError("--data-dir and --database-url cannot be combined.")
    try:
        settings = load_settings(data_dir=data_dir, database_url=database_url)
    except SettingsError as error:
        raise WrongUseError(str(error)) from None
    return settings if data_dir is None else settings.model_copy(update={"database_url": None})


@contextmanager
def existing_log(data_dir: Path | None, database_url: str | None, *, writes: bool = False) -> Generator[ExistingLog]:
    """Open an existing log, and bring its schema up to date.

    The embedded PostgreSQL is started unless it runs. Errors of the log and of PostgreSQL in the block become
    FailedError.

    Raises:
        FailedError: there is no log, or the database cannot be used.
    """
    settings = settings_for(data_dir, database_url)
    with one_line_errors(), _existing_database(settings) as conninfo:
        yield _once_answered(lambda: _prepared_log(conninfo, settings.log_schema, writes=writes))


def _prepared_log(conninfo: str, schema: str, *, writes: bool) -> ExistingLog:
    from eventlog.db.requirements import check_writable, holds_log, is_read_only
    from projections.catalog import prepare

    if not holds_log(conninfo, schema):
        raise FailedError(f"There is no log in the schema {schema}. Create one with: turnlog serve")
    if writes:
        check_writable(conninfo)
    prepare(conninfo, schema)
    return ExistingLog(conninfo, schema, is_read_only(conninfo))


def create_log(conninfo: str, schema: str) -> None:
    """Create a log or bring it up to date, before any server process starts.

    Raises:
        FailedError: the database cannot be used.
    """
    from eventlog.db.requirements import check_writable
    from projections.catalog import prepare

    def create() -> None:
        check_writable(conninfo)
        prepare(conninfo, schema)

    with one_line_errors():
        _once_answered(create)


def _once_answered(work: Callable[[], R]) -> R:
    """Return the result of `work`, tried for 15 s while PostgreSQL is too slow.

    A refused connection is an error at once.
    """
    from psycopg.errors import ConnectionTimeout

    from eventlog.errors import StoreUnavailableError
    from eventlog.retry import retry_blocking, start_pauses

    return retry_blocking(work, (ConnectionTimeout, StoreUnavailableError), start_pauses())


@contextmanager
def open_database(settings: "Settings", *, ephemeral: bool = False) -> Generator[OpenDatabase]:
    """Open the PostgreSQL that the settings name, or a temporary one, for a server.

    The embedded one is created if it is missing, started, and restarted whenever it dies.

    Raises:
        FailedError: it cannot be started.
    """
    if settings.database_url is not None and not ephemeral:
        yield OpenDatabase(settings.database_url.get_secret_value(), settings)
        return
    from postgres.embedded import EmbeddedPostgres

    _remove_libpq_variables()
    with (
        one_line_errors(),
        EmbeddedPostgres.ephemeral() if ephemeral else EmbeddedPostgres(settings.data_dir) as embedded,
    ):
        embedded.watch()
        where = {"data_dir": embedded.data_dir, "database_url": None}
        yield OpenDatabase(embedded.conninfo, settings.model_copy(update=where))


@contextmanager
def one_line_errors() -> Generator[None]:
    """Raise FailedError for errors of the log, projections, audits and PostgreSQL."""
    import psycopg

    from audit.errors import AuditError
    from audit.proofs.errors import ProofError
    from eventlog.errors import LogError, StoreUnavailableError
    from postgres.errors import EmbeddedPostgresError
    from projections.errors import ProjectionError

    try:
        yield
    except StoreUnavailableError as error:
        cause = f" {_describe(error.__cause__)}" if isinstance(error.__cause__, psycopg.Error) else ""
        raise FailedError(f"{error}{cause}") from None
    except (AuditError, EmbeddedPostgresError, LogError, ProjectionError, ProofError) as error:
        raise FailedError(str(error)) from None
    except psycopg.Error as error:
        raise FailedError(_describe(error)) from None


def _describe(error: "psycopg.Error") -> str:
    """Return a database error as one sentence that quotes no row."""
    lines = (error.diag.message_primary or str(error)).strip().splitlines()
    reason = lines[0].rstrip(".") if lines else type(error).__name__
    if error.sqlstate is None:
        return f"The database cannot be reached: {reason}."
    return f"The database refused: {reason}."


@contextmanager
def _existing_database(settings: "Settings") -> Generator[str]:
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    from postgres.embedded import EmbeddedPostgres

    _remove_libpq_variables()
    embedded = EmbeddedPostgres(settings.data_dir)
    if not embedded.exists():
        raise FailedError(f"There is no log in {embedded.data_dir}. Create one with: turnlog serve")
    with embedded:
        yield embedded.conninfo


def _remove_libpq_variables() -> None:
    """Remove PGHOSTADDR, PGSERVICE and so on from this process's environment."""
    from psycopg.pq import Conninfo

    known = {option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar}
    for name in known.union(_LIBPQ_VARIABLES):
        os.environ.pop(name, None)
