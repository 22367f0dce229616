"""The `turnlog` command for tests whose servers call no model.

`python -m tests.support.servers.unhurried` loads the model library only when a turn needs it, because loading takes
five seconds of CPU. The answer to a write waits for the read models as long as a busy machine may take, so that it has
`Turnlog-Behind` only where they make no progress.
"""

from api.http import read_your_writes
from cli.main import main
from turns.model.gateway import ModelGateway

WRITE_WAIT_S = 30.0


async def _warm_up(self: ModelGateway) -> None:
    """Load nothing, so that the first turn loads the library."""


# Also set where this is not the main program, because workers import it.
ModelGateway.warm_up = _warm_up
read_your_writes.WRITE_WAIT_S = WRITE_WAIT_S

if __name__ == "__main__":
    main()
