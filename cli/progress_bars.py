"""Show progress as bars on a terminal, and as plain lines elsewhere."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol

import click

from projections.rebuild.builder import BuildStep

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_INTERVAL_S = 1.0


class ProgressView(Protocol):
    """A view of progress, with results printed in between."""

    def report(self, step: BuildStep) -> None:
        """Show a step."""
        ...

    def print_result(self, line: str) -> None:
        """Print a result on stdout."""
        ...


@contextmanager
def show_progress() -> Generator[ProgressView]:
    """Yield the view that takes each step and each result."""
    if not sys.stderr.isatty():
        yield _LineView()
        return
    bars = _BarView()
    try:
        yield bars
    finally:
        bars.stop()


class _Phase(NamedTuple):
    """The phase of a projection, with the time and the position of its begin."""

    name: str
    since: float
    position: int

    def rate(self, position: int) -> float:
        """Return the events per second since the phase began."""
        return (position - self.position) / max(monotonic() - self.since, 0.001)


class _Phases:
    """The current phase of each projection."""

    def __init__(self) -> None:
        self._phases: dict[str, _Phase] = {}

    def at(self, step: BuildStep) -> _Phase:
        """Return the phase of a step, which the step may begin."""
        phase = self._phases.get(step.projection)
        if phase is None or phase.name != step.phase:
            phase = self._phases[step.projection] = _Phase(step.phase, monotonic(), step.position)
        return phase


class _BarView:
    """A bar for each projection."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._phases = _Phases()
        self._tasks: dict[str, TaskID] = {}

    def report(self, step: BuildStep) -> None:
        """Move the projection's bar."""
        progress = self._progress or self._started()
        if step.projection not in self._tasks:
            self._tasks[step.projection] = progress.add_task("", total=step.target, rate=0.0)
        progress.update(
            self._tasks[step.projection],
            description=f"{step.projection:<10} {step.phase:<9}",
            completed=step.position,
            total=step.target,
            rate=self._phases.at(step).rate(step.position),
        )

    def print_result(self, line: str) -> None:
        """Print a result below the earlier ones.

        The next step draws the bars again, below it.
        """
        self.stop()
        click.echo(line)

    def stop(self) -> None:
        """Remove the bars from the terminal."""
        if self._progress is not None:
            self._progress.stop()
        # Started again, the same bars would erase the lines above the cursor, which hold results by now.
        self._progress, self._tasks = None, {}

    def _started(self) -> "Progress":
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        label = TextColumn("{task.description}")
        numbers = TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[rate]:,.0f} events/s")
        columns = (label, BarColumn(), numbers, TimeRemainingColumn())
        # Results go to stdout, which may be a file.
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
        self._progress.start()
        return self._progress


class _LineView:
    """A line when a projection's phase begins, and one per second while it lasts."""

    def __init__(self) -> None:
        self._phases = _Phases()
        self._printed: dict[str, tuple[_Phase, float]] = {}

    def print_result(self, line: str) -> None:
        """Print a result."""
        click.echo(line)

    def report(self, step: BuildStep) -> None:
        """Print a step, unless one of the same phase was printed within the last second."""
        phase = self._phases.at(step)
        printed, at = self._printed.get(step.projection, (None, 0.0))
        if phase == printed and monotonic() - at < LINE_INTERVAL_S and step.position < step.target:
            return
        self._printed[step.projection] = phase, monotonic()
        click.echo(_line(step, phase), err=True)


def _line(step: BuildStep, phase: _Phase) -> str:
    rate = phase.rate(step.position)
    eta = f", {(step.target - step.position) / rate:,.0f} s left" if rate else ""
    return f"{step.projection}: {step.phase} {step.position:,} of {step.target:,}, {rate:,.0f} events/s{eta}"
