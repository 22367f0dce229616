"""`python -m tests.support.no_model` is the `turnlog` command whose servers load no model library before a turn does.

It takes a server five seconds of CPU, and one that is asked to end waits for it.
"""

from cli.main import main
from turns.model.gateway import ModelGateway


async def _warm_up(self: ModelGateway) -> None:
    """Leave the library to the first turn."""


ModelGateway.warm_up = _warm_up  # not only where this is the program: workers import it too

if __name__ == "__main__":
    main()
