"""`python -m tests.support.small_parts` is the `turnlog` command whose rebuilds have many parts on a short log."""

from cli.main import main
from projections import parts

if __name__ == "__main__":
    parts.PART_EVENTS = 500
    main()
