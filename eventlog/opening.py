"""Opens a log for the server, the library adapter, benchmarks and tests."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from eventlog.db.database import Database
from eventlog.feeds.channels import Channels
from eventlog.feeds.feed import Feed
from eventlog.image_store import ImageStore
from eventlog.log import Log
from eventlog.writer import BatchListener, GroupCommitWriter


class OpenLog(NamedTuple):
    """The parts of one process's connection to a log."""

    database: Database
    channels: Channels
    log: Log
    feed: Feed
    writer: GroupCommitWriter
    images: ImageStore


@asynccontextmanager
async def open_log(
    conninfo: str,
    schema: str = "turnlog",
    *,
    listening: bool = True,
    on_batch: BatchListener = lambda commit_s, appends: None,
) -> AsyncGenerator[OpenLog]:
    """Open the log in `schema`, which must be up to date.

    Without `listening` no notifications are exchanged with other processes. A caller that registers handlers of its
    own opens `channels` afterwards. `on_batch` is told of each commit.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    async with AsyncExitStack() as stack:
        database = Database(conninfo, schema)
        await database.open()
        stack.push_async_callback(database.close)
        channels, log = Channels(database), Log(database)
        feed = Feed(log, channels)
        stack.push_async_callback(feed.close)
        # The writer closes before the channels, so that its last commits can still be announced.
        if listening:
            await channels.open()
            stack.push_async_callback(channels.close)
        writer = GroupCommitWriter(database, feed.committed, on_batch)
        await writer.open()
        stack.push_async_callback(writer.close)
        yield OpenLog(database, channels, log, feed, writer, ImageStore(database))
