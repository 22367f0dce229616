"""docs/operations.md lists the settings and figures of the code."""

import re
from pathlib import Path
from typing import Any

from api.settings import DEFAULT_DATA_DIR, Settings
from cli.processes import ENDING_TIMEOUT_S
from commands.executor import CACHED_STATES
from eventlog.db.database import POOL_SIZE
from eventlog.feeds.feed import TAIL_EVENTS
from eventlog.mapper import SNAPSHOT_INTERVAL
from turns.frames.turn_recorder import RETRY_FOR_S

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def test_every_setting_and_no_other_is_documented() -> None:
    rows = re.findall(r"^\| `(TURNLOG_\w+)` \| (.+?) \| (.+?) \|$", TEXT, re.MULTILINE)
    code = [
        (f"TURNLOG_{name.upper()}", default_of(field.default), field.description)
        for name, field in Settings.model_fields.items()
    ]
    assert rows == code


def default_of(value: Any) -> str:
    if value is None:
        return "none"
    if value == DEFAULT_DATA_DIR:
        return f"`{value}`"
    return f"`{float(value)}`" if isinstance(value, int | float) else f"`{value}`"


def test_figures_are_those_of_the_code() -> None:
    for documented in (
        f"{ENDING_TIMEOUT_S:.0f} s after the grace",
        f"up to {RETRY_FOR_S:.0f} s to record",
        f"up to {POOL_SIZE} for reading",
        f"the state of {CACHED_STATES:,} conversations",
        f"the last {TAIL_EVENTS:,} events",
        f"every {SNAPSHOT_INTERVAL} versions",
    ):
        assert documented in " ".join(TEXT.split())
