"""Interleaved rounds of a benchmark and measurements of their medians."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

CALLERS = 32

Round = Callable[[float], Awaitable[float]]
"""Work for a number of seconds that returns one figure, such as appends per second."""


class Target(NamedTuple):
    """A bound on a measurement's ratio to its baseline, or on its value."""

    bound: float
    at_least: bool = True
    of_ratio: bool = True

    def met(self, value: float, ratio: float | None) -> bool:
        """Return whether the measurement is within the bound."""
        figure = ratio if self.of_ratio else value
        assert figure is not None
        return figure >= self.bound if self.at_least else figure <= self.bound


@dataclass(frozen=True)
class Measurement:
    """One line of the report.

    `rounds` and `baseline_rounds` hold one figure per round, in `unit`.
    """

    benchmark: str
    measure: str
    unit: str
    rounds: Sequence[float]
    baseline: str | None = None
    baseline_rounds: Sequence[float] = ()
    target: Target | None = None

    @property
    def value(self) -> float:
        """Return the median of the rounds."""
        return median(self.rounds)

    @property
    def baseline_value(self) -> float | None:
        """Return the median of the baseline's rounds, None without a baseline."""
        return median(self.baseline_rounds) if self.baseline_rounds else None

    @property
    def ratio(self) -> float | None:
        """Return value over baseline, None without a baseline."""
        return self.value / self.baseline_value if self.baseline_value else None

    @property
    def met(self) -> bool | None:
        """Return whether the target is met, None without a target."""
        return self.target.met(self.value, self.ratio) if self.target else None


@dataclass(frozen=True)
class Plan:
    """Database, rounds, seconds per round and log length of a benchmark."""

    conninfo: str
    rounds: int
    seconds: float
    events: int

    async def interleave(self, sides: Mapping[str, Round]) -> dict[str, list[float]]:
        """Warm up all sides, run them in alternation and return a figure per round."""
        for work in sides.values():
            await work(self.seconds / 2)
        figures: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(self.rounds):
            for name, work in sides.items():
                figures[name].append(await work(self.seconds))
        return figures
