"""The database a command works on, chosen by the same options everywhere."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from api.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")


class WrongUseError(click.ClickException):
    """The command was called wrongly: one line on stderr, exit code 2."""

    exit_code = 2


def database_options(command: Callable[P, R]) -> Callable[P, R]:
    """Gives a command `data_dir: Path | None` and `database_url: str | None`."""
    url = click.option("--database-url", metavar="URL", help="Use this PostgreSQL instead of the embedded one.")
    directory = click.option(
        "--data-dir",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help="Data of the embedded PostgreSQL [default: ~/.local/share/turnlog].",
    )
    return directory(url(command))


def settings_for(data_dir: Path | None, database_url: str | None) -> "Settings":
    """Returns the settings, where `--data-dir` and `--database-url` go before the environment.

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
def open_database(data_dir: Path | None, database_url: str | None) -> Generator[str]:
    """Gives the conninfo of a PostgreSQL that answers; the embedded one is started unless it runs already."""
    with database_of(settings_for(data_dir, database_url)) as conninfo:
        yield conninfo


@contextmanager
def database_of(settings: "Settings", *, ephemeral: bool = False) -> Generator[str]:
    """Gives the conninfo of the PostgreSQL that the settings name, or of a temporary one.

    Raises:
        click.ClickException: it cannot be started or reached.
    """
    if settings.database_url is not None and not ephemeral:
        conninfo = settings.database_url.get_secret_value()
        _check_connection(conninfo)
        yield conninfo
        return
    from eventlog.embedded import EmbeddedPostgres, EmbeddedPostgresError

    try:
        with EmbeddedPostgres.ephemeral() if ephemeral else EmbeddedPostgres(settings.data_dir) as embedded:
            yield embedded.conninfo
    except EmbeddedPostgresError as error:
        raise click.ClickException(str(error)) from None


def _check_connection(conninfo: str) -> None:
    import psycopg

    try:
        psycopg.connect(conninfo, connect_timeout=5).close()
    except psycopg.Error as error:
        lines = str(error).strip().splitlines()
        raise click.ClickException(f"The database cannot be reached: {lines[0] if lines else type(error)}") from None
