"""The baselines of the rebuild benchmark leave the rows of a rebuild."""

from collections.abc import Callable

import pytest

from benchmarks.baselines.rebuild_floor import RebuildFloor
from benchmarks.baselines.rebuild_library import library_seconds
from benchmarks.baselines.views import Tables
from benchmarks.rebuild import Rebuilds
from domain.events import CONVERSATION_EVENTS
from tests.support.store import rows

EVENTS = 2_400
NOT_GENERATED = {"MessagesSuperseded", "TurnQueued", "TurnSuspended", "TurnResumed"}


def _floor_seconds(tables: Tables) -> float:
    return RebuildFloor(tables).seconds()


@pytest.mark.parametrize("fill", [_floor_seconds, library_seconds])
async def test_a_baseline_writes_the_rows_of_a_rebuild(database_url: str, fill: Callable[[Tables], float]) -> None:
    await Rebuilds(database_url, "turnlog", EVENTS).make()
    types = {row[0] for row in rows(database_url, "SELECT DISTINCT type FROM events")}
    assert types == {cls.TOPIC for cls in CONVERSATION_EVENTS} - NOT_GENERATED
    tables = Tables(database_url, "baseline", "turnlog")
    fill(tables)
    tables.check()
