"""How long work comes along: a bar per projection on a terminal, plain lines elsewhere."""

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


class Shown(Protocol):
    """Progress as it is shown, and results between it."""

    def report(self, step: BuildStep) -> None:
        """Show a step."""
        ...

    def say(self, line: str) -> None:
        """Print a result on stdout."""
        ...


@contextmanager
def shown_progress() -> Generator[Shown]:
    """Give what is to be told of each step and each result."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    bars = _Bars()
    try:
        yield bars
    finally:
        bars.stop()


class _Phase(NamedTuple):
    """The phase a projection is in, since when, and at which position that began."""

    name: str
    since: float
    position: int

    def rate(self, position: int) -> float:
        """Return events a second since the phase began."""
        return (position - self.position) / max(monotonic() - self.since, 0.001)


class _Phases:
    """In which phase each projection is."""

    def __init__(self) -> None:
        self._phases: dict[str, _Phase] = {}

    def at(self, step: BuildStep) -> _Phase:
        """Return the phase of a step, a new one if it is its first."""
        phase = self._phases.get(step.projection)
        if phase is None or phase.name != step.phase:
            phase = self._phases[step.projection] = _Phase(step.phase, monotonic(), step.position)
        return phase


class _Bars:
    """A bar for each projection that is at work."""

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

    def say(self, line: str) -> None:
        """Print a result below what was printed before; bars come again below it with the next step."""
        self.stop()
        click.echo(line)

    def stop(self) -> None:
        """Take the bars off the terminal."""
        if self._progress is not None:
            self._progress.stop()
        # One that is started again would erase as many lines as it had before, which are results by now.
        self._progress, self._tasks = None, {}

    def _started(self) -> "Progress":
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        label = TextColumn("{task.description}")
        numbers = TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[rate]:,.0f} events/s")
        columns = (label, BarColumn(), numbers, TimeRemainingColumn())
        # Results go to stdout itself, which may be a file.
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
        self._progress.start()
        return self._progress


class _Lines:
    """A line where a projection's phase begins, and one a second while it lasts."""

    def __init__(self) -> None:
        self._phases = _Phases()
        self._said: dict[str, tuple[_Phase, float]] = {}

    def say(self, line: str) -> None:
        """Print a result."""
        click.echo(line)

    def report(self, step: BuildStep) -> None:
        """Say it, unless something like it was said just now."""
        phase = self._phases.at(step)
        said, at = self._said.get(step.projection, (None, 0.0))
        if phase == said and monotonic() - at < LINE_INTERVAL_S and step.position < step.target:
            return
        self._said[step.projection] = phase, monotonic()
        click.echo(_line(step, phase), err=True)


def _line(step: BuildStep, phase: _Phase) -> str:
    rate = phase.rate(step.position)
    eta = f", {(step.target - step.position) / rate:,.0f} s left" if rate else ""
    return f"{step.projection}: {step.phase} {step.position:,} of {step.target:,}, {rate:,.0f} events/s{eta}"
