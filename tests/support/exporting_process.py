"""A process that exports a log, to be killed, or to find its disk full.

python -m tests.support.exporting_process CONNINFO PATH FORMAT --hold 3    # says `held` after three sections, and waits
python -m tests.support.exporting_process CONNINFO PATH FORMAT --limit 4000    # no file may have more bytes
"""

import argparse
import asyncio
import resource
import sys
from pathlib import Path

from audit.exports.errors import ExportError
from audit.exports.export_manifest import ExportFilter, ExportPlan
from audit.exports.log_export import export_log, plan_export
from eventlog.db.database import Database
from tests.support.log_exports import SMALL


def main() -> None:
    options = _options()
    if options.limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.limit, options.limit))
    plan = asyncio.run(_plan(options))
    sections = 0

    def report(position: int, upto: int) -> None:
        nonlocal sections
        sections += 1
        if sections == options.hold:
            print("held", flush=True)
            sys.stdin.read()

    try:
        export_log(options.conninfo, "turnlog", options.path, plan, report, SMALL)
    except ExportError as error:
        sys.exit(str(error))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("conninfo")
    parser.add_argument("path", type=Path)
    parser.add_argument("format")
    parser.add_argument("--hold", type=int, default=0)
    parser.add_argument("--limit", type=int, default=0)
    return parser.parse_args()


async def _plan(options: argparse.Namespace) -> ExportPlan:
    database = Database(options.conninfo)
    await database.open()
    try:
        return await plan_export(database, options.format, ExportFilter())
    finally:
        await database.close()


if __name__ == "__main__":
    main()
