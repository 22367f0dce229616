"""Reports of a run: a plain table, Markdown for the documentation, and JSON."""

from typing import Any

from benchmarks.measure import Measurement, Target

_HEADINGS = ("benchmark", "measure", "value", "baseline", "ratio", "target", "result")
_RIGHT = frozenset({"value", "ratio"})


def result(measurement: Measurement) -> dict[str, Any]:
    """Return a measurement as a JSON object."""
    return {
        "benchmark": measurement.benchmark,
        "measure": measurement.measure,
        "unit": measurement.unit,
        "value": measurement.value,
        "rounds": list(measurement.rounds),
        "baseline": measurement.baseline,
        "baseline_value": measurement.baseline_value,
        "baseline_rounds": list(measurement.baseline_rounds),
        "ratio": measurement.ratio,
        "target": _target(measurement.target, measurement.unit),
        "met": measurement.met,
    }


def plain(run: dict[str, Any]) -> str:
    """Return a run's table in columns, below a line about its machine."""
    rows = [_HEADINGS, *map(_cells, run["results"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            _aligned(text, width, name) for text, width, name in zip(row, widths, _HEADINGS, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join([_origin(run), "", lines[0], "-" * max(map(len, lines)), *lines[1:]])


def markdown(run: dict[str, Any]) -> str:
    """Return a run's table in Markdown, below a line about its machine."""
    rules = ["---:" if name in _RIGHT else "---" for name in _HEADINGS]
    rows = [_HEADINGS, rules, *map(_cells, run["results"])]
    return "\n".join([_origin(run), "", *(f"| {' | '.join(row)} |" for row in rows)])


def _origin(run: dict[str, Any]) -> str:
    machine = run["machine"]
    return (
        f"{run['date'][:10]}, commit {run['commit'] or 'none'}: {machine['cores']} cores ({machine['processor']}), "
        f"{machine['system']}, Python {machine['python']}, PostgreSQL {machine['postgresql']}, "
        f"fsync {machine['fsync']}; medians of {run['rounds']} rounds of {run['seconds']:g} s."
    )


def _cells(line: dict[str, Any]) -> tuple[str, ...]:
    baseline, ratio = line["baseline_value"], line["ratio"]
    return (
        line["benchmark"],
        line["measure"],
        f"{_number(line['value'])} {line['unit']}",
        "" if baseline is None else f"{_number(baseline)} {line['unit']}: {line['baseline']}",
        "" if ratio is None else f"{ratio:.2f}",
        line["target"] or "",
        {True: "met", False: "MISSED", None: ""}[line["met"]],
    )


def _target(target: Target | None, unit: str) -> str | None:
    if target is None:
        return None
    sign = "≥" if target.at_least else "≤"
    return f"ratio {sign} {target.bound:g}" if target.of_ratio else f"{sign} {target.bound:,g} {unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _aligned(text: str, width: int, name: str) -> str:
    return text.rjust(width) if name in _RIGHT else text.ljust(width)
