"""A writer whose appends are always too late."""

import asyncio
from typing import Any

from eventlog.errors import VersionTakenError
from eventlog.writer import GroupCommitWriter


class LosingWriter(GroupCommitWriter):
    """A writer that always loses the race for a version."""

    def append(self, *_: Any, **__: Any) -> asyncio.Future[int]:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        done.set_exception(VersionTakenError("The version was recorded meanwhile."))
        return done
