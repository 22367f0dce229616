"""The `turnlog` command with small parts, so that a short log has many.

Run it as `python -m tests.support.small_parts`.
"""

import signal

from cli.main import main
from projections.rebuild import plan

PART_EVENTS = 200

if __name__ == "__main__":
    # A shell that runs the tests in the background makes them ignore Ctrl-C, and child processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    plan.PART_EVENTS = PART_EVENTS
    main()
