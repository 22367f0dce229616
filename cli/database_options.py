"""The database a command works on, chosen by the same options everywhere."""

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

# What libpq reads of the environment beside the variables of its connection parameters.
_LIBPQ_VARIABLES = ("PGSERVICEFILE", "PGSYSCONFDIR", "PGTZ", "PGDATESTYLE", "PGGEQO", "PGLOCALEDIR")


class FailedError(click.ClickException):
    """The command failed: one line on stderr, exit code 1."""

    def format_message(self) -> str:
        """Return the message as one line without control characters, whatever it quotes."""
        return visible(self.message)


class WrongUseError(FailedError):
    """The command was called wrongly: one line on stderr, exit code 2."""

    exit_code = 2


class OpenDatabase(NamedTuple):
    """A PostgreSQL that answers, and the settings that say where it is, also of a temporary one."""

    conninfo: str
    settings: "Settings"


class ExistingLog(NamedTuple):
    """An existing log that is up to date. That of a standby can be read only."""

    conninfo: str
    schema: str
    read_only: bool


def database_options(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `data_dir: Path | None` and `database_url: str | None`."""
    url = click.option("--database-url", metavar="URL", help="Use this PostgreSQL instead of the embedded one.")
    directory = click.option(
        "--data-dir",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help="Data of the embedded PostgreSQL [default: ~/.local/share/turnlog].",
    )
    return directory(url(command))


def settings_for(data_dir: Path | None, database_url: str | None) -> "Settings":
    """Return the settings, where `--data-dir` and `--database-url` go before the environment.

    Raises:
        WrongUseError: a setting is wrong, or both options were given.
    """
    from api.settings import SettingsError, load_settings

    if data_dir is not None and database_url is not None:
        raise WrongUseError("--data-dir and --database-url exclude each other.")
    try:
        settings = load_settings(data_dir=data_dir, database_url=database_url)
    except SettingsError as error:
        raise WrongUseError(str(error)) from None
    return settings if data_dir is None else settings.model_copy(update={"database_url": None})


@contextmanager
def existing_log(data_dir: Path | None, database_url: str | None, *, writes: bool = False) -> Generator[ExistingLog]:
    """Open a log that is there already, and bring its schema up to date; nothing is created.

    The embedded PostgreSQL is started unless it runs. Errors of the log and of PostgreSQL in the block are told in one
    line.

    Raises:
        FailedError: there is no log, or the database cannot serve.
    """
    settings = settings_for(data_dir, database_url)
    with told_errors(), _existing_database(settings) as conninfo:
        from eventlog.db.requirements import check_writable, holds_log, is_read_only
        from projections.catalog import prepare

        if not holds_log(conninfo, settings.log_schema):
            raise FailedError(f"There is no log in the schema {settings.log_schema}; turnlog serve makes one.")
        if writes:
            check_writable(conninfo)
        prepare(conninfo, settings.log_schema)
        yield ExistingLog(conninfo, settings.log_schema, is_read_only(conninfo))


@contextmanager
def database_of(settings: "Settings", *, ephemeral: bool = False) -> Generator[OpenDatabase]:
    """Give the PostgreSQL that the settings name, or a temporary one, for a server.

    The embedded one is made where it is missing, started, and started again whenever it dies.

    Raises:
        FailedError: it cannot be started or reached.
    """
    if settings.database_url is not None and not ephemeral:
        conninfo = settings.database_url.get_secret_value()
        _check_connection(conninfo)
        yield OpenDatabase(conninfo, settings)
        return
    from postgres.embedded import EmbeddedPostgres

    _forget_libpq_variables()
    with told_errors(), EmbeddedPostgres.ephemeral() if ephemeral else EmbeddedPostgres(settings.data_dir) as embedded:
        embedded.watch()
        where = {"data_dir": embedded.data_dir, "database_url": None}
        yield OpenDatabase(embedded.conninfo, settings.model_copy(update=where))


@contextmanager
def told_errors() -> Generator[None]:
    """Turn errors of the log, of projections and of PostgreSQL into one line for the user."""
    import psycopg

    from eventlog.errors import LogError, StoreUnavailableError
    from postgres.embedded import EmbeddedPostgresError
    from projections.errors import ProjectionError

    try:
        yield
    except StoreUnavailableError as error:
        cause = f" {_told(error.__cause__)}" if isinstance(error.__cause__, psycopg.Error) else ""
        raise FailedError(f"{error}{cause}") from None
    except (EmbeddedPostgresError, LogError, ProjectionError) as error:
        raise FailedError(str(error)) from None
    except psycopg.Error as error:
        raise FailedError(_told(error)) from None


def _told(error: "psycopg.Error") -> str:
    """Return what PostgreSQL refuses, or that it cannot be reached, in one sentence without any row."""
    lines = (error.diag.message_primary or str(error)).strip().splitlines()
    reason = lines[0].rstrip(".") if lines else type(error).__name__
    if error.sqlstate is None:
        return f"The database cannot be reached: {reason}."
    return f"The database refuses: {reason}."


@contextmanager
def _existing_database(settings: "Settings") -> Generator[str]:
    if settings.database_url is not None:
        conninfo = settings.database_url.get_secret_value()
        _check_connection(conninfo)
        yield conninfo
        return
    from postgres.embedded import EmbeddedPostgres

    _forget_libpq_variables()
    embedded = EmbeddedPostgres(settings.data_dir)
    if not embedded.exists():
        raise FailedError(f"There is no log in {embedded.data_dir}; turnlog serve makes one.")
    with embedded:
        yield embedded.conninfo


def _forget_libpq_variables() -> None:
    """Remove PGHOSTADDR, PGSERVICE and so on from this process, which are meant for other databases."""
    from psycopg.pq import Conninfo

    known = {option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar}
    for name in known.union(_LIBPQ_VARIABLES):
        os.environ.pop(name, None)


def _check_connection(conninfo: str) -> None:
    import psycopg

    from eventlog.db.sessions import connect

    try:
        connect(conninfo).close()
    except psycopg.Error as error:
        lines = str(error).strip().splitlines()
        raise FailedError(f"The database cannot be reached: {lines[0] if lines else type(error)}") from None
