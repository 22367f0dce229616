"""The directory of an export: complete files, and the state of an unfinished one."""

import fcntl
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from audit.exports.errors import ExportError
from audit.exports.export_manifest import (
    MANIFEST,
    STATE,
    ExportedFile,
    ExportedTreeHead,
    ExportManifest,
    ExportPlan,
    ExportState,
)
from audit.exports.part_file import PartFile

T = TypeVar("T")

INCOMPLETE = ".incomplete"
"""The end of the name of a file that is being written."""


class ExportDirectory:
    """The directory of an export that this process alone writes.

    A file has its final name only when it is complete and on the disk. `manifest` is that of a finished export, or
    None.
    """

    def __init__(self, path: Path, state: ExportState, manifest: ExportManifest | None = None) -> None:
        self.path = path
        self.state = state
        self.manifest = manifest

    @contextmanager
    def new_file(self, name: str) -> Generator[PartFile]:
        """Yield a new file, which gets its name at the end of the block.

        Nothing is left of a block that raises.
        """
        incomplete = self.path / f"{name}{INCOMPLETE}"
        file = PartFile(incomplete)
        try:
            yield file
            file.finish()
        except BaseException:
            file.drop()
            file.close()
            with suppress(OSError):
                incomplete.unlink()
            raise
        incomplete.rename(self.path / name)
        _sync(self.path)

    def add(self, events: ExportedFile, images: ExportedFile | None, missing_images: int) -> None:
        """Note a part whose files are complete."""
        state = self.state
        self._write_state(
            state.model_copy(
                update={
                    "events": (*state.events, events),
                    "images": state.images if images is None else (*state.images, images),
                    "missing_images": state.missing_images + missing_images,
                }
            )
        )

    def begin(self) -> None:
        """Write the state of an export without files."""
        self._write_state(self.state)

    def finish(self) -> ExportManifest:
        """Write the manifest, and remove the state."""
        self.manifest = self.state.manifest()
        self._write(MANIFEST, self.manifest.model_dump_json(indent=2))
        self.remove_rest()
        return self.manifest

    def remove_rest(self) -> None:
        """Remove what a finished export does not need."""
        (self.path / STATE).unlink(missing_ok=True)
        _remove_incomplete(self.path)

    def _write_state(self, state: ExportState) -> None:
        self._write(STATE, state.model_dump_json(indent=2))
        self.state = state

    def _write(self, name: str, text: str) -> None:
        with self.new_file(name) as file:
            file.write(f"{text}\n".encode())


@contextmanager
def open_export(path: Path, plan: ExportPlan) -> Generator[ExportDirectory]:
    """Open the directory of an export, which is created or gone on with.

    An export that was begun before keeps the plan that it began with.

    Raises:
        ExportError: the directory cannot be written, is in use, or holds something else.
    """
    with _written(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)  # an export holds everything that was said
        with _locked(path):
            directory = _opened(path, plan)
            if directory.manifest is None:
                _remove_incomplete(path)
                if not (path / STATE).exists():
                    directory.begin()
            yield directory


def _opened(path: Path, plan: ExportPlan) -> ExportDirectory:
    state = _read(path / STATE, ExportState.model_validate_json)
    manifest = _read(path / MANIFEST, ExportManifest.model_validate_json)
    if state is not None:
        _check_same(path, plan, state.plan)
        _check_not_lost(path, plan.tree_head, state.plan.tree_head)
        _check_complete(path, (*state.events, *state.images))
        return ExportDirectory(path, state, manifest)
    if manifest is not None:
        held = plan.model_copy(update={"log": manifest.log, "format": manifest.format, "filters": manifest.filters})
        _check_same(path, plan, held)
        _check_complete(path, (*manifest.events, *manifest.images))
        return ExportDirectory(path, ExportState(plan=plan), manifest)
    if any(entry.name != f"{STATE}{INCOMPLETE}" for entry in path.iterdir()):
        raise ExportError(f"{path} is not empty, and holds no export.")
    return ExportDirectory(path, ExportState(plan=plan))


def _read(path: Path, parse: Callable[[bytes], T]) -> T | None:
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise ExportError(f"{path} is damaged. Remove this directory, or choose another one.") from None


def _check_same(path: Path, plan: ExportPlan, held: ExportPlan) -> None:
    if held.log != plan.log:
        raise ExportError(f"{path} holds an export of {held.log}, but this log is {plan.log}.")
    if not held.is_same_export(plan):
        given = ", ".join(f"{name} {value}" for name, value in _arguments(held).items())
        raise ExportError(f"{path} holds an export with other arguments: {given}.")


def _arguments(plan: ExportPlan) -> dict[str, object]:
    filters = plan.filters.model_dump(mode="json", exclude_none=True)
    return {"format": plan.format, **filters}


def _check_not_lost(path: Path, now: ExportedTreeHead, begun: ExportedTreeHead) -> None:
    """Check that the log has lost no events since an export was begun."""
    if now.size < begun.size or (now.size == begun.size and now.root != begun.root):
        raise ExportError(
            f"The log has lost events since the export in {path} was begun, when it ended at position {begun.size}. "
            "Remove this directory, or choose another one."
        )


def _check_complete(path: Path, files: Sequence[ExportedFile]) -> None:
    for file in files:
        found = path / file.name
        if not found.exists() or found.stat().st_size != file.bytes:
            raise ExportError(f"{found} was removed or changed. Remove this directory, or choose another one.")


def _remove_incomplete(path: Path) -> None:
    for left in path.glob(f"*{INCOMPLETE}"):
        left.unlink()


@contextmanager
def _locked(path: Path) -> Generator[None]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExportError(f"Another export writes to {path}.") from None
        yield
    finally:
        os.close(descriptor)  # which ends the lock


@contextmanager
def _written(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(f"{path} cannot be written: {reason}. The same command goes on with it.") from None


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
