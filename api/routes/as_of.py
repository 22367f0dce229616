"""The moment that a read shows: now, or the one that it names with `as_of`."""

from datetime import datetime
from typing import NamedTuple

from api.http.call import Call
from api.http.cursors import cursor_position, kind_at
from api.http.problems import INVALID_AS_OF, ProblemError
from eventlog.log import LAST_POSITION, AsOf


class ReadMoment(NamedTuple):
    """The moment that a read shows: a position of the log, or None for now.

    `as_of` is the moment that the request names, in one spelling.
    """

    position: int | None = None
    as_of: str = ""

    @property
    def upto(self) -> int:
        """The position of the last event that the read may show."""
        return LAST_POSITION if self.position is None else self.position

    def kind(self, kind: str) -> str:
        """Return the kind of the cursors of a list at this moment."""
        return kind if self.position is None else kind_at(kind, self.as_of, self.position)

    def headers(self) -> dict[str, str]:
        """Return the header that names the position of the past."""
        return {} if self.position is None else {"Turnlog-Position": str(self.position)}


async def find_moment(call: Call, as_of: AsOf | None, cursor: str | None = None) -> ReadMoment:
    """Return the moment that a request names. A later page shows that of its cursor.

    Raises:
        ProblemError: the log does not reach the position, or the time has not come.
    """
    if as_of is None:
        return ReadMoment()
    end = await call.services.log.end()
    if end.is_before(as_of):
        raise ProblemError(INVALID_AS_OF, f"The log ends at position {end.position}, and as_of is in the future.")
    text = as_of.isoformat() if isinstance(as_of, datetime) else str(as_of)
    # An event that was decided before a time may be recorded after it was read. All pages show the log of the first.
    position = cursor_position(cursor, text)
    if position is None or position > end.position:
        position = await call.services.log.position_of(as_of)
    return ReadMoment(position, text)
