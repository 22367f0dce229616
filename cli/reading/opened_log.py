"""Open an existing log for the work of a command that reads it."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from cli.database_options import ExistingLog, existing_log
from eventlog.opening import OpenLog, open_log

Work = Callable[[OpenLog], Coroutine[Any, Any, None]]
"""The work of a command on a log."""


def read_log(
    data_dir: Path | None, database_url: str | None, work: Work, *, watched: bool = False, listening: bool = False
) -> None:
    """Do some work on an existing log.

    Ctrl-C is a good end of work that is `watched`. With `listening` the log's feed learns of new events from
    notifications, but not on a standby.

    Raises:
        FailedError: there is no log, or the database cannot be used.
    """
    # Output that lacks its end must not look complete, so without a watcher Ctrl-C is a failure.
    interrupted = suppress(KeyboardInterrupt) if watched else nullcontext()
    with interrupted, existing_log(data_dir, database_url) as existing:
        asyncio.run(_with_log(existing, work, listening=listening and not existing.read_only))


async def _with_log(existing: ExistingLog, work: Work, *, listening: bool) -> None:
    async with open_log(existing.conninfo, existing.schema, listening=listening) as opened:
        await work(opened)
