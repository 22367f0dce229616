"""Check that every shape of a stored type is recorded and can be upcast."""

from pathlib import Path
from typing import Any

from domain.aggregates import AggregateEvent
from tests.golden.record import FOLDER, golden_file, read, shape_of

RECORD = "run `python -m tests.golden.record`"


def fault_of(cls: type[AggregateEvent], folder: Path = FOLDER) -> str | None:
    """Return the fault of a type's golden files and its remedy, or None."""
    name, today = cls.TOPIC, cls.class_version
    for version in range(1, today):
        if not golden_file(name, version, folder).exists():
            return f"{name} version {version} was stored, but its golden file is gone: take it back from git."
    for version in range(1, today):
        if not callable(getattr(cls, f"upcast_v{version}_v{version + 1}", None)):
            return f"{name} version {version} cannot be read as version {version + 1}: write {name}.{_upcast(version)}."
    path = golden_file(name, today, folder)
    if not path.exists():
        return f"{name} version {today} has no golden file: {RECORD}, which adds {path.name}."
    if changed := _changed(read(path)["shape"], shape_of(cls)):
        return (
            f"{name} is no longer what version {today} is recorded as ({', '.join(changed)}): set its class_version"
            f" to {today + 1}, write {name}.{_upcast(today)}, and {RECORD}."
        )
    return None


def _upcast(version: int) -> str:
    return f"upcast_v{version}_v{version + 1}"


def _changed(recorded: Any, shape: Any) -> list[str]:
    """Return the names of the fields and nested models that differ.

    Other differences are named by their schema key.
    """
    known = {**recorded, **recorded["properties"], **recorded.get("$defs", {})}
    found = {**shape, **shape["properties"], **shape.get("$defs", {})}
    changed = {name for name in {*known, *found} if known.get(name) != found.get(name)}
    return sorted(changed - {"properties", "$defs"}) or sorted(changed)
