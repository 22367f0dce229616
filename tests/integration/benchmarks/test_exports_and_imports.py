"""The benchmarks of exports and imports run to their end."""

from types import ModuleType

import pytest

from benchmarks.audits import exports, imports
from benchmarks.measure import Plan


@pytest.mark.parametrize("benchmark", [exports, imports])
async def test_a_short_run_measures_every_side(empty_database_url: str, benchmark: ModuleType) -> None:
    measured = await benchmark.run(Plan(empty_database_url, rounds=1, seconds=0.2, events=2_000))
    assert measured
    assert all(line.value > 0 for line in measured)
