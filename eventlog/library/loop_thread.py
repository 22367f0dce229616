"""An event loop in its own thread, with the errors of the eventsourcing library."""

import asyncio
from collections.abc import Coroutine
from threading import Thread
from typing import Any, TypeVar

from eventsourcing.persistence import DataError, IntegrityError, OperationalError

from eventlog.errors import StoreUnavailableError, UnstorableEventError, VersionTakenError

T = TypeVar("T")


class LoopThread:
    """Runs an event loop in its own thread, for synchronous callers."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="eventlog", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, run on the loop.

        Raises:
            IntegrityError: another writer recorded one of the versions first.
            DataError: PostgreSQL cannot hold a value of an event.
            OperationalError: the database does not answer.
        """
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except VersionTakenError as error:
            raise IntegrityError(str(error)) from error
        except UnstorableEventError as error:
            raise DataError(str(error)) from error
        except StoreUnavailableError as error:
            raise OperationalError(str(error)) from error

    def close(self) -> None:
        """Stop the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
