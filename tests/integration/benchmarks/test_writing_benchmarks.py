"""The benchmarks that write in this process run to their end."""

from types import ModuleType

import pytest

from benchmarks import appends, turns_in_process
from benchmarks.measure import Plan


@pytest.mark.parametrize("benchmark", [appends, turns_in_process])
async def test_a_short_run_measures_every_side(empty_database_url: str, benchmark: ModuleType) -> None:
    measured = await benchmark.run(Plan(empty_database_url, rounds=1, seconds=0.2, events=0))
    assert measured
    assert all(line.value > 0 for line in measured)
