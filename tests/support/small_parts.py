"""`python -m tests.support.small_parts` is the `turnlog` command whose rebuilds have many parts on a short log."""

import signal

from cli.main import main
from projections.rebuild import parts

PART_EVENTS = 200

if __name__ == "__main__":
    # Who runs the tests in the background of a shell hands on that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parts.PART_EVENTS = PART_EVENTS
    main()
