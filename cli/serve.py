"""`turnlog serve`: check the options, open the database, then run the workers."""

import signal
import socket
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.database_options import WrongUseError, create_log, database_options, open_database, settings_for

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
@click.option("--host", default="127.0.0.1", help="Loopback address to listen on; callers are not authenticated yet.")
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="Port to listen on; 0 chooses a free one.")
@click.option("--workers", default=1, type=click.IntRange(1, 256), help="Number of serving processes.")
@database_options
@click.option("--ephemeral", is_flag=True, help="Use a temporary database, removed at the end.")
def serve(
    host: str, port: int, workers: int, data_dir: Path | None, database_url: str | None, *, ephemeral: bool
) -> None:
    """Run the API on an event log.

    Without a database, it runs an embedded PostgreSQL 18 in the data directory.
    """
    if ephemeral and (data_dir or database_url):
        raise WrongUseError("--ephemeral cannot be combined with --data-dir or --database-url.")
    _refuse_other_than_loopback(host)
    settings = settings_for(data_dir, database_url)
    _exit_on_terminate()
    with _listen(host, port) as listener, open_database(settings, ephemeral=ephemeral) as (conninfo, settings):
        create_log(conninfo, settings.log_schema)
        announce = _announcer(settings, listener, _data_place(settings, conninfo, ephemeral=ephemeral))
        code = _run(settings, conninfo, listener, workers, announce)
    raise SystemExit(code)


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
        raise WrongUseError(
            f"--host {host}: must be a loopback address (127.0.0.1, ::1), as there is no authentication yet."
        )


def _listen(host: str, port: int) -> socket.socket:
    """Return the socket that all workers accept connections from, bound and listening."""
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


def _exit_on_terminate() -> None:
    """Handle SIGTERM like Ctrl-C, and a closed terminal like SIGTERM."""

    def exit_cleanly(_signal: int, _frame: object) -> None:
        raise SystemExit(0)

    def terminate(_signal: int, _frame: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, exit_cleanly)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, terminate)


def _data_place(settings: "Settings", conninfo: str, *, ephemeral: bool) -> str:
    """Return where the data is, without a password."""
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
