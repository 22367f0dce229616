"""Run benchmarks, each beside its baseline, on a temporary PostgreSQL."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import psycopg
import uvloop
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from benchmarks import appends, cancels, commands, context, lag, rebuild, starts, turns_in_process
from benchmarks.audits import as_of, conversation_imports, exports, imports, log_verification, sealing
from benchmarks.machine import describe
from benchmarks.measure import Plan
from benchmarks.report import markdown, plain, result
from benchmarks.requests import authentication, deletion, listing, post_messages_http, turns_http
from benchmarks.streaming import stream_log, stream_readers, streams
from postgres.embedded import EmbeddedPostgres

_MODULES = (
    appends,
    turns_in_process,
    turns_http,
    post_messages_http,
    authentication,
    listing,
    deletion,
    context,
    as_of,
    commands,
    lag,
    streams,
    stream_log,
    stream_readers,
    rebuild,
    cancels,
    starts,
    sealing,
    log_verification,
    exports,
    imports,
    conversation_imports,
)
BENCHMARKS = {module.NAME: module.run for module in _MODULES}


def main() -> None:
    """Run the benchmarks that the command line names and print their report.

    A missed target is a line of the report and no failure.
    """
    options = _options()
    run = json.loads(options.read.read_text()) if options.read else _measured(options)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(run, indent=2) + "\n")
    print(markdown(run) if options.markdown else plain(run))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(BENCHMARKS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to run, of: {names} [default: all]")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a round [default: 5]")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side [default: 5]")
    parser.add_argument("--events", type=int, default=1_000_000, help="size of the longer logs [default: 1000000]")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the run there too")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.add_argument("--read", type=Path, metavar="PATH", help="print an earlier run's JSON instead of running")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {names}")
    if options.seconds <= 0 or options.rounds < 1 or options.events < 1000:
        parser.error("--seconds and --rounds must be positive, --events at least 1000")
    return options


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    with EmbeddedPostgres.ephemeral() as postgres:
        run = {**describe(postgres.conninfo), "seconds": options.seconds, "rounds": options.rounds}
        run["results"] = [
            result(measurement)
            for name in options.names or BENCHMARKS
            for measurement in _run(name, postgres.conninfo, options)
        ]
    return run


def _run(name: str, conninfo: str, options: argparse.Namespace) -> Any:
    print(f"{name} …", file=sys.stderr, flush=True)
    plan = Plan(_database(conninfo, name), options.rounds, options.seconds, options.events)
    return uvloop.run(BENCHMARKS[name](plan))


def _database(conninfo: str, name: str) -> str:
    """Create a separate database for the benchmark and return its URL."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    path = f"/{conninfo_to_dict(conninfo)['dbname']}?"
    return conninfo.replace(path, f"/{name}?")


if __name__ == "__main__":
    main()
