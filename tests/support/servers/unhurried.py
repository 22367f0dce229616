"""`python -m tests.support.unhurried` is the `turnlog` command whose servers are those of a test that asks no model.

They load the model library only when a turn asks for it, because it takes five seconds of CPU. And an answer to a write
waits for the read models as long as a busy machine may take, so that it says `Turnlog-Behind` only where they do not
move.
"""

from api.http import read_your_writes
from cli.main import main
from turns.model.gateway import ModelGateway

WRITE_WAIT_S = 30.0


async def _warm_up(self: ModelGateway) -> None:
    """Leave the library to the first turn."""


# Not only where this is the program: workers import it too.
ModelGateway.warm_up = _warm_up
read_your_writes.WRITE_WAIT_S = WRITE_WAIT_S

if __name__ == "__main__":
    main()
