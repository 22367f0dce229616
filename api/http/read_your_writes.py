"""Read your writes: requests wait until the read models have reached a position.

A read may name the position in `Turnlog-Position`. The answer to a write names the one that it wrote.
"""

from api.http.problems import READ_MODEL_BEHIND, RETRY_AFTER, ProblemError
from api.http.request import HttpRequest, header_number
from eventlog.log import Log
from projections.progress import Progress

WRITE_WAIT_S = 2.0
READ_WAIT_S = 5.0

# The read models that the routes read. A projection that no route reads does not delay a read.
READ_MODELS = frozenset({"listing", "history", "context", "agents"})


async def wait_for_position(request: HttpRequest, progress: Progress) -> None:
    """Wait until the read models have reached the position that a read names.

    Raises:
        ProblemError: they have not reached it within 5 s, or it is not a position.
    """
    header = request.header(b"turnlog-position")
    if header is None:
        return
    await require_position(header_number("Turnlog-Position", header, "a position"), progress)


async def require_position(position: int, progress: Progress) -> None:
    """Wait until the read models have reached a position.

    Raises:
        ProblemError: they have not reached it within 5 s.
    """
    behind = [name for name in await progress.wait(position, READ_WAIT_S) if name in READ_MODELS]
    if behind:
        headers = {"Turnlog-Behind": ", ".join(behind), **RETRY_AFTER}
        raise ProblemError(READ_MODEL_BEHIND, f"Position {position} is not reached yet.", headers=headers)


async def position_headers(position: int | None, log: Log, progress: Progress) -> dict[str, str]:
    """Return the headers of a write, after waiting for the read models up to 2 s.

    A command that wrote nothing has the position None. Its answer names the head of the log. `Turnlog-Behind` lists
    the projections that have not reached the position.
    """
    if position is None:
        position = await log.head()
    behind = await progress.wait(position, WRITE_WAIT_S)
    headers = {"Turnlog-Position": str(position)}
    if behind:
        headers["Turnlog-Behind"] = ", ".join(behind)
    return headers
