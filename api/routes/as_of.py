"""The moment of the past that a read names with `as_of`."""

from api.http.call import Call
from api.http.problems import INVALID_AS_OF, ProblemError
from eventlog.log import AsOf


async def check_as_of(call: Call, as_of: AsOf | None) -> None:
    """Check that a position or a time is not in the future.

    Raises:
        ProblemError: the log does not reach the position, or the time has not come.
    """
    if as_of is None:
        return
    end = await call.services.log.end()
    if as_of > end.position if isinstance(as_of, int) else as_of > end.at:
        raise ProblemError(INVALID_AS_OF, f"The log ends at position {end.position}, and as_of is in the future.")
