"""The directory of an export is gone on with, and holds nothing half done."""

import stat
from pathlib import Path
from typing import Any

import pytest

from audit.exports.errors import ExportError
from audit.exports.export_directory import ExportDirectory, open_export
from audit.exports.export_manifest import (
    ExportedFile,
    ExportedTreeHead,
    ExportFilter,
    ExportPlan,
    read_manifest,
)

LOG = "turnlog/0199c3e1-6f0e-4c5b-9d07-5f1c9c3f8a51"
NAMES = [f"events-{number:012}.jsonl" for number in (1, 11)]


def plan(**changes: Any) -> ExportPlan:
    given: dict[str, Any] = {
        "log": LOG,
        "format": "jsonl",
        "filters": ExportFilter(owner_id="alice"),
        "after": 0,
        "upto": 20,
        "tree_head": ExportedTreeHead(size=20, root="ab" * 32),
        "checkpoint": None,
    }
    return ExportPlan(**{**given, **changes})


def write_part(directory: ExportDirectory, name: str, content: bytes = b"{}\n") -> None:
    first = int(name[7:19])
    with directory.new_file(name) as file:
        file.write(content)
    entry = ExportedFile(
        name=name, count=10, bytes=file.bytes, sha256=file.sha256, first_position=first, last_position=first + 9
    )
    directory.add(entry, None, 0)


def names(path: Path) -> set[str]:
    return {file.name for file in path.iterdir()}


def test_a_finished_export_has_its_files_and_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "new" / "export"
    with open_export(path, plan()) as directory:
        for name in NAMES:
            write_part(directory, name)
        manifest = directory.finish()
    assert names(path) == {*NAMES, "manifest.json"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert read_manifest(path) == manifest
    assert (manifest.count, manifest.first_position, manifest.last_position, manifest.bytes) == (20, 1, 20, 6)


def interrupted_export(path: Path) -> None:
    with open_export(path, plan()) as directory:
        write_part(directory, NAMES[0])
        with directory.new_file(NAMES[1]) as file:
            file.write(b"half")
            raise KeyboardInterrupt


def test_an_unfinished_export_keeps_its_plan(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted_export(tmp_path)
    assert names(tmp_path) == {NAMES[0], "export-state.json"}
    (tmp_path / f"{NAMES[1]}.incomplete").write_bytes(b"left by a kill")
    with pytest.raises(ExportError, match="is not finished"):
        read_manifest(tmp_path)
    with open_export(tmp_path, plan(upto=99)) as directory:
        assert (directory.state.plan.upto, [file.name for file in directory.state.events]) == (20, NAMES[:1])
        assert names(tmp_path) == {NAMES[0], "export-state.json"}


def test_a_kill_before_the_first_state_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "export-state.json.incomplete").write_bytes(b"{")
    with open_export(tmp_path, plan()) as directory:
        assert directory.state.events == ()


def test_a_kill_after_the_manifest_leaves_a_finished_export(tmp_path: Path) -> None:
    with open_export(tmp_path, plan()) as directory:
        write_part(directory, NAMES[0])
        state = (tmp_path / "export-state.json").read_bytes()
        manifest = directory.finish()
    (tmp_path / "export-state.json").write_bytes(state)
    with open_export(tmp_path, plan()) as directory:
        assert directory.manifest == manifest
        directory.remove_rest()
    assert names(tmp_path) == {NAMES[0], "manifest.json"}


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "parquet"}, r"holds an export with other arguments: format jsonl, owner alice\.$"),
        ({"filters": ExportFilter()}, "other arguments"),
        ({"filters": ExportFilter(owner_id="alice", first=1)}, "other arguments"),
        ({"log": LOG.replace("0199", "0200")}, f"holds an export of {LOG}, but this log is turnlog/0200"),
    ],
)
def test_another_export_is_refused(tmp_path: Path, finished: bool, changes: dict[str, Any], message: str) -> None:
    with open_export(tmp_path, plan()) as directory:
        write_part(directory, NAMES[0])
        if finished:
            directory.finish()
    before = names(tmp_path)
    with pytest.raises(ExportError, match=message), open_export(tmp_path, plan(**changes)):
        pass
    assert names(tmp_path) == before


@pytest.mark.parametrize("name", ["notes.txt", "events-000000000001.jsonl", "notes.incomplete"])
def test_a_directory_with_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(ExportError, match=r"is not empty, and holds no export\.$"), open_export(tmp_path, plan()):
        pass
    assert names(tmp_path) == {name}


@pytest.mark.parametrize("tree_head", [(15, "ab"), (20, "cd")])
def test_a_log_that_lost_events_is_not_exported_further(tmp_path: Path, tree_head: tuple[int, str]) -> None:
    with open_export(tmp_path, plan()) as directory:
        write_part(directory, NAMES[0])
    before = names(tmp_path)
    size, digit_pair = tree_head
    restored = plan(upto=size, tree_head=ExportedTreeHead(size=size, root=digit_pair * 32))
    message = f"The log has lost events since the export in {tmp_path} was begun, when it ended at position 20"
    with pytest.raises(ExportError, match=message), open_export(tmp_path, restored):
        pass
    assert names(tmp_path) == before


@pytest.mark.parametrize("finished", [False, True])
def test_a_complete_file_that_is_gone_is_noticed(tmp_path: Path, finished: bool) -> None:
    with open_export(tmp_path, plan()) as directory:
        write_part(directory, NAMES[0])
        if finished:
            directory.finish()
    (tmp_path / NAMES[0]).unlink()
    with pytest.raises(ExportError, match=f"{NAMES[0]} was removed or changed"), open_export(tmp_path, plan()):
        pass


@pytest.mark.parametrize("name", ["export-state.json", "manifest.json"])
def test_a_damaged_state_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(ExportError, match=f"{name} is damaged"), open_export(tmp_path, plan()):
        pass


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    with (
        open_export(tmp_path, plan()),
        pytest.raises(ExportError, match="Another export writes to"),
        open_export(tmp_path, plan()),
    ):
        pass


def test_filters_have_the_names_of_the_options() -> None:
    filters = ExportFilter.model_validate({"from": 5, "to": "2026-01-02T03:04:05Z", "conversation": "c"})
    assert (filters.first, filters.is_of_all_events, filters.is_of_whole_log) == (5, False, False)
    shown = filters.model_dump_json()
    assert shown == '{"from":5,"to":"2026-01-02T03:04:05Z","owner":null,"conversation":"c","type":null}'
    assert ExportFilter.model_validate_json(shown) == filters
    assert ExportFilter(first=3).is_of_all_events
    assert ExportFilter().is_of_whole_log
