"""`turnlog serve`: checks first, then the database, then the workers."""

import signal
import socket
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.database_options import WrongUseError, database_of, database_options, settings_for, told_errors

if TYPE_CHECKING:
    from api.settings import Settings

READY = """\
Turnlog is ready at {url}
  data   {data}
  model  {model}
  try    curl -N {url}/v1/turns -H 'content-type: application/json' -d '{{"content": "Hello!", "stream": true}}'
  docs   {url}/docs
  stop   Ctrl-C
"""


@click.command()
@click.option(
    "--host", default="127.0.0.1", help="Address to listen on; loopback only, as nobody is authenticated yet."
)
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
@click.option("--workers", default=1, type=click.IntRange(1, 256), help="Processes that serve.")
@database_options
@click.option("--ephemeral", is_flag=True, help="Use a temporary database and remove it at the end.")
def serve(
    host: str, port: int, workers: int, data_dir: Path | None, database_url: str | None, *, ephemeral: bool
) -> None:
    """Run the API on an event log.

    With no database given, it runs its own PostgreSQL 18 under the data directory.
    """
    if ephemeral and (data_dir or database_url):
        raise WrongUseError("--ephemeral takes neither --data-dir nor --database-url.")
    _refuse_other_than_loopback(host)
    settings = settings_for(data_dir, database_url)
    _end_on_terminate()
    with _listen(host, port) as listener, database_of(settings, ephemeral=ephemeral) as (conninfo, settings):
        _make_log(conninfo, settings.log_schema)
        announce = _announcer(settings, listener, _where(settings, conninfo, ephemeral=ephemeral))
        code = _run(settings, conninfo, listener, workers, announce)
    raise SystemExit(code)


def _make_log(conninfo: str, schema: str) -> None:
    """Make the log or bring it up to date, before any worker starts: what stands in the way is told in one line."""
    from eventlog.db.requirements import check_writable
    from projections.catalog import prepare

    with told_errors():
        check_writable(conninfo)
        prepare(conninfo, schema)


def _run(
    settings: "Settings", conninfo: str, listener: socket.socket, workers: int, announce: Callable[[], None]
) -> int:
    if workers == 1:
        from cli.server import run_server

        return run_server(settings, conninfo, listener, announce)
    from cli.processes import run_workers

    return run_workers(settings, conninfo, listener, workers, announce)


def _refuse_other_than_loopback(host: str) -> None:
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise WrongUseError(f"--host {host}: only a loopback address (127.0.0.1, ::1) until there is authentication.")


def _listen(host: str, port: int) -> socket.socket:
    """Returns the socket that all workers accept from; it is bound before anything is started."""
    address = "127.0.0.1" if host == "localhost" else host
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise click.ClickException(f"Cannot listen on {host} port {port}: {error.strerror}.") from None
    listener.setblocking(False)
    return listener


def _end_on_terminate() -> None:
    """SIGTERM unwinds like Ctrl-C before and after a server has the signals; a closed terminal counts as SIGTERM."""

    def end(_signal: int, _frame: object) -> None:
        raise SystemExit(0)

    def terminate(_signal: int, _frame: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, terminate)


def _where(settings: "Settings", conninfo: str, *, ephemeral: bool) -> str:
    """Says where the data lives, without any password."""
    if ephemeral:
        return "temporary PostgreSQL 18, removed at the end"
    if settings.database_url is None:
        return f"{settings.data_dir} (embedded PostgreSQL 18)"
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(conninfo)
    return f"database {parts.get('dbname')} on {parts.get('host')}, schema {settings.log_schema}"


def _announcer(settings: "Settings", listener: socket.socket, where: str) -> Callable[[], None]:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return lambda: click.echo(READY.format(url=url, data=where, model=settings.model))
