"""Moments of a log that options name: a position, or a time."""

from datetime import datetime

from cli.database_options import WrongUseError
from eventlog.log import AsOf, Log
from projections.errors import NotYetRecordedError

EXAMPLE = "a log position or a time such as 2026-05-01T12:00:00Z"


def moment_of(option: str, text: str) -> AsOf:
    """Return the moment that an option names.

    Raises:
        WrongUseError: it is neither a position nor a time with a time zone.
    """
    if text.isdecimal() and text.isascii() and len(text) <= 100:
        return int(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUseError(f"{option} {text}: must be {EXAMPLE}.") from None
    if when.tzinfo is None:
        raise WrongUseError(f"{option} {text}: needs a time zone, such as Z for UTC.")
    return when


async def check_recorded(log: Log, *moments: AsOf | None) -> None:
    """Check that the log has reached some moments.

    Raises:
        NotYetRecordedError: a position is beyond the end of the log, or a time is in the future.
    """
    end = await log.end()
    for moment in moments:
        if moment is not None and end.is_before(moment):
            raise NotYetRecordedError(str(moment), end.position)
