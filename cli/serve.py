"""`turnlog serve`: check the options, open the database, then run the workers."""

import shlex
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.database_options import WrongUseError, create_log, database_options, open_database, settings_for

if TYPE_CHECKING:
    from api.settings import Settings

ANY_IPV4, ANY_IPV6 = "0.0.0.0", "::"  # noqa: S104 - only compared with
READY = """\
Turnlog is ready at {url}
  {where}data   {data}
  model  {model}
  {key}try    curl -N {url}/v1/turns {headers} -d '{{"content": "Hello!", "stream": true}}'
  docs   {url}/docs
  stop   Ctrl-C
"""
CREATE_KEY = "key    TOKEN=$({program} keys create --owner me --role user{database} | sed -n 1p)\n  "
JSON_HEADER = "-H 'content-type: application/json'"
KEY_HEADER = '-H "authorization: Bearer $TOKEN"'


@click.command()
@click.option("--host", default="127.0.0.1", help="Address to listen on. Without TURNLOG_AUTH, a loopback address.")
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
    from api.telemetry.logs import configure_logs

    settings = settings_for(data_dir, database_url)
    configure_logs(settings)
    _refuse_unauthenticated_network(host, settings)
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


def _refuse_unauthenticated_network(host: str, settings: "Settings") -> None:
    from api.address_lists import is_loopback

    if settings.auth == "none" and not is_loopback(host):
        raise WrongUseError(
            f"--host {host}: must be a loopback address (127.0.0.1, ::1) unless TURNLOG_AUTH is keys or jwt."
        )
    if not host:
        raise WrongUseError("--host: must be an address or a name; 0.0.0.0 is every address of this machine.")


def _listen(host: str, port: int) -> socket.socket:
    """Return the socket that all workers accept connections from, bound and listening.

    A name stands for its first address, and `::` for every address of both families.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            "127.0.0.1" if host == "localhost" else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return _listener(family, address, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this is no host name"
        raise click.ClickException(f"Cannot listen on {host} port {port}: {reason}.") from None


def _listener(family: int, address: tuple[Any, ...], backlog: int) -> socket.socket:
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # The default differs between systems.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != ANY_IPV6)
        listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
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


def _announcer(settings: "Settings", listener: socket.socket, data: str) -> Callable[[], None]:
    host, port = listener.getsockname()[:2]
    everywhere = host in {ANY_IPV4, ANY_IPV6}
    shown = "127.0.0.1" if everywhere else f"[{host}]" if ":" in host else host
    key = CREATE_KEY.format(program=_program(), database=_database_option(settings))
    ready = READY.format(
        url=f"http://{shown}:{port}",
        where=f"on     every address of this machine, port {port}\n  " if everywhere else "",
        data=data,
        model=settings.model,
        key=key if settings.auth == "keys" else "",
        headers=JSON_HEADER if settings.auth == "none" else f"{KEY_HEADER} {JSON_HEADER}",
    )
    return lambda: click.echo(ready)


def _program() -> str:
    """Return the name by which a shell finds this program."""
    called = sys.argv[0]
    return called if Path(called).name == "turnlog" and shutil.which("turnlog") is None else "turnlog"


def _database_option(settings: "Settings") -> str:
    """Return the option that other commands need to find the embedded PostgreSQL."""
    from api.settings import DEFAULT_DATA_DIR

    # The URL of another database may hold a password, which is not shown.
    if settings.database_url is not None or settings.data_dir == DEFAULT_DATA_DIR.expanduser():
        return ""
    return f" --data-dir {shlex.quote(str(settings.data_dir))}"
