"""An import of a whole log gives the same log, or nothing at all."""

import asyncio
import json
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.errors import LogDamagedError
from audit.exports import log_import
from audit.exports.errors import ExportDamagedError, ExportError, LogNotEmptyError
from audit.exports.export_manifest import ExportFormat
from audit.exports.log_export import ExportSizes
from audit.exports.log_import import import_log, is_log_export
from audit.proofs.checkpoints import Checkpoint
from audit.seals.sealed_tree import read_current_tree, read_tree
from audit.seals.verification import verify_log
from domain.aggregates import AggregateEvent
from eventlog.db.database import Database
from eventlog.errors import IdempotencyKeyTakenError
from eventlog.mapper import new_row
from eventlog.migrations import migrate
from eventlog.writer import Idempotency
from projections.catalog import PROJECTIONS, install
from tests.support.audits import DIGEST, conversation_of, tamper
from tests.support.histories.agents import agent_histories
from tests.support.histories.builders import Story
from tests.support.histories.histories import histories
from tests.support.log_exports import (
    FORMATS,
    all_rows,
    exported,
    files,
    imported,
    is_empty,
)
from tests.support.rebuilding import check_read_models, stories
from tests.support.store import blocked_head, opened, rows, until, value
from tests.support.waiting import PATIENCE_S

FIRST = "events-000000000001.jsonl"
FORGED: LiteralString = DIGEST.replace("actor", "'user:eve'")


async def checkpoint_of(conninfo: str) -> Checkpoint:
    async with await Database(conninfo).connect() as connection:
        origin, tree = await read_current_tree(connection)
    return Checkpoint(origin, tree.size, tree.root())


@pytest.mark.parametrize("format_name", FORMATS)
async def test_an_imported_log_is_the_exported_one(
    log_url: str, empty_url: str, out: Path, tmp_path: Path, format_name: ExportFormat
) -> None:
    checkpoint = await checkpoint_of(log_url)
    manifest = await exported(log_url, out, format_name)
    assert is_log_export(out)
    found = await imported(empty_url, out)
    # An image is in each part that refers to it, and counts once.
    assert found == (manifest.log, manifest.count, 1, 1)
    assert all_rows(empty_url) == all_rows(log_url)
    verified = await verify_log(Database(empty_url), 2, checkpoint)
    assert (verified.events, verified.erased, verified.finding) == (manifest.count, 1, None)
    await exported(empty_url, tmp_path / "again", format_name)
    assert files(tmp_path / "again") == files(out)


UNUSUAL = {
    "numbers": [-0.0, 1e22, 1e-7, 0.1 + 0.2, 1.7976931348623157e308, 5e-324, 123456789012345678901234567890],
    "texts": ["\u2028\x7f\u202e", "\x01\x02\r\n", "\\.", "NULL", "", "\U0001f600"],
    ',"data":': ',"data":{}}',
    "": [[], {}, None, True],
}


@pytest.mark.parametrize("format_name", FORMATS)
async def test_unusual_numbers_and_texts_stay_as_they_are(
    database_url: str, empty_url: str, out: Path, format_name: ExportFormat
) -> None:
    story = Story(owner='",\x01"', title='t"\\', metadata=UNUSUAL)
    story.say("\\.")
    async with opened(database_url, listening=False) as store:
        await store.append(story.events)
    await exported(database_url, out, format_name)
    await imported(empty_url, out)
    assert all_rows(empty_url) == all_rows(database_url)
    assert (await verify_log(Database(empty_url), 1)).finding is None


async def test_an_empty_log_is_imported_with_its_name(database_url: str, empty_url: str, out: Path) -> None:
    manifest = await exported(database_url, out)
    assert await imported(empty_url, out) == (manifest.log, 0, 0, 0)
    assert all_rows(empty_url) == all_rows(database_url)


async def test_the_tree_is_sealed_as_a_server_seals_it(
    database_url: str, empty_url: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_import, "HEAD_EVENTS", 10)
    async with opened(database_url, listening=False) as store:
        await store.append(conversation_of(34).events)
    await exported(database_url, out)
    await imported(empty_url, out)
    assert [row[0] for row in rows(empty_url, "SELECT size FROM tree_heads ORDER BY size")] == [10, 20, 30, 34]
    async with await Database(empty_url).connect() as connection:
        assert (await read_tree(connection)).tree.size == 34
    verified = await verify_log(Database(empty_url), 1)
    assert (verified.heads, verified.finding) == (4, None)


async def test_the_log_goes_on_after_an_import(log_url: str, empty_url: str, out: Path) -> None:
    manifest = await exported(log_url, out)
    await imported(empty_url, out)
    async with opened(empty_url, listening=False) as store:
        assert await store.append(conversation_of(5).events) == manifest.count + 5
        assert await store.log.head() == manifest.count + 5
    assert (await verify_log(Database(empty_url), 2)).finding is None
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        rows(empty_url, "UPDATE events SET actor = 'user:eve'")


async def test_times_of_an_imported_log_are_found_by_their_index(log_url: str, empty_url: str, out: Path) -> None:
    await exported(log_url, out)
    await imported(empty_url, out)
    # Nothing is left to be added.
    assert value(empty_url, "SELECT brin_summarize_new_values('events_time')") == 0


async def test_a_command_of_before_is_not_executed_again(log_url: str, empty_url: str, out: Path) -> None:
    owner, key = rows(log_url, "SELECT idempotency_owner, idempotency_key FROM events WHERE fingerprint IS NOT NULL")[0]
    await exported(log_url, out)
    await imported(empty_url, out)
    events = conversation_of(1).events
    async with opened(empty_url, listening=False) as store:
        found = await store.log.find_idempotent(owner, key)
        assert found is not None
        assert found.fingerprint == sha256(b"request").digest()
        with pytest.raises(IdempotencyKeyTakenError):
            await store.writer.append(list(map(new_row, events)), Idempotency(owner, key, b"other"), events)


async def test_servers_on_the_empty_log_notice_and_build_their_read_models(
    database_url: str, empty_url: str, out: Path
) -> None:
    events = stories(4)
    async with opened(database_url, listening=False) as store:
        await store.append(events)
    await exported(database_url, out)
    await asyncio.to_thread(install, empty_url)
    async with opened(empty_url) as server, server.projecting(*PROJECTIONS) as progress:
        await server.feed.refresh()
        assert server.feed.head == 0
        await imported(empty_url, out)
        await until(lambda: server.feed.head == len(events))
        assert await progress.wait(len(events), PATIENCE_S) == []
    check_read_models(empty_url, events)


logs = st.tuples(histories(20), agent_histories(10)).map(lambda both: [*both[0], *both[1]])


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=logs, format_name=st.sampled_from(FORMATS), part_bytes=st.sampled_from([1, 3_000, 10**9]))
def test_export_and_import_are_inverse(
    database_url: str,
    tmp_path: Path,
    log: list[AggregateEvent],
    format_name: ExportFormat,
    part_bytes: int,
) -> None:
    name = uuid4().hex
    source, target = f"a{name}", f"b{name}"
    sizes = ExportSizes(part_bytes=part_bytes, block_bytes=1_000, section_positions=11)
    for schema in (source, target):
        migrate(database_url, schema)

    async def work() -> None:
        async with opened(database_url, source, listening=False) as store:
            await store.append(log)
        await exported(database_url, tmp_path / source, format_name, sizes, source)
        await imported(database_url, tmp_path / source, target)
        await exported(database_url, tmp_path / target, format_name, sizes, target)

    asyncio.run(work())
    assert all_rows(database_url, target) == all_rows(database_url, source)
    assert files(tmp_path / target) == files(tmp_path / source)


Damage = Callable[[Path], None]


def edited(name: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(path: Path) -> None:
        file = path / name
        file.write_bytes(change(file.read_bytes()))

    return damage


def in_manifest(change: Callable[[Any], None]) -> Damage:
    def damage(path: Path) -> None:
        manifest = json.loads((path / "manifest.json").read_bytes())
        change(manifest)
        (path / "manifest.json").write_text(json.dumps(manifest))

    return damage


def with_new_hash(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Change a file, and the manifest so that it fits."""

    def damage(path: Path) -> None:
        edited(name, change)(path)
        content = (path / name).read_bytes()

        def fit(manifest: Any) -> None:
            (entry,) = [entry for entry in manifest["events"] if entry["name"] == name]
            entry.update(bytes=len(content), sha256=sha256(content).hexdigest())

        in_manifest(fit)(path)

    return damage


def swapped(path: Path) -> None:
    first, second = sorted(path.glob("events-*.jsonl"))[:2]
    first.rename(path / "aside")
    second.rename(first)
    (path / "aside").rename(second)


def without(pattern: str) -> Damage:
    def damage(path: Path) -> None:
        max(path.glob(pattern)).unlink()

    return damage


def swapped_lines(content: bytes) -> bytes:
    first, second, *rest = content.splitlines(keepends=True)
    return b"".join([second, first, *rest])


def forged_key(content: bytes) -> bytes:
    return content.replace(b'"idempotency_owner":"alice"', b'"idempotency_owner":"carol"', 1)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "truncated in a line": (edited(FIRST, lambda content: content[:-20]), rf"{FIRST}, line \d+: this is no event"),
    "truncated after a line": (
        edited(FIRST, lambda content: b"".join(content.splitlines(keepends=True)[:-1])),
        rf"{FIRST}: has \d+ entries, and manifest.json says \d+",
    ),
    "emptied": (edited(FIRST, lambda content: b""), rf"{FIRST}: has 0 entries"),
    "an edited word": (
        edited(FIRST, lambda content: content.replace(b'"plan": "pro"', b'"plan": "none"', 1)),
        rf"{FIRST}, line \d+: the event at position \d+ does not match its digest",
    ),
    "an edited word with a new hash": (
        with_new_hash(FIRST, lambda content: content.replace(b'"Hello"', b'"HELLO"', 1)),
        rf"{FIRST}, line \d+: the event at position \d+ does not match its digest",
    ),
    "another actor": (
        edited(FIRST, lambda content: content.replace(b"user:alice", b"user:mallory", 1)),
        rf"{FIRST}, line 1: the event at position 1 does not match its digest",
    ),
    "other spaces in the data": (
        edited(FIRST, lambda content: content.replace(b'"title": "Gr', b'"title":"Gr', 1)),
        rf"{FIRST}, line 1: the event at position 1 does not match its digest",
    ),
    "another idempotency key": (edited(FIRST, forged_key), rf"{FIRST}: its size or its SHA-256 is not that"),
    "an extra line": (
        edited(FIRST, lambda content: content + content.splitlines(keepends=True)[-1]),
        rf"{FIRST}, line \d+: position \d+ is not \d+",
    ),
    "a line that is no event": (
        edited(FIRST, lambda content: b"{}\n" + content),
        rf"{FIRST}, line 1: this is no event",
    ),
    "a version as text": (
        edited(FIRST, lambda content: content.replace(b'"version":1,', b'"version":"1",', 1)),
        rf"{FIRST}, line 1: the event at position 1 does not match",
    ),
    "a huge version": (
        edited(FIRST, lambda content: content.replace(b'"version":1,', b'"version":99999999999,', 1)),
        rf"{FIRST}, line 1: the event at position 1 does not match",
    ),
    "a time without a zone": (
        edited(FIRST, lambda content: content.replace(b"+00:00", b"", 1)),
        rf"{FIRST}, line 1: this is no event",
    ),
    "swapped lines": (edited(FIRST, swapped_lines), rf"{FIRST}, line 1: position 2 is not 1"),
    "swapped files": (swapped, rf"{FIRST}, line 1: position \d+ is not 1"),
    "a missing file": (without("events-*"), r"events-\d+.jsonl: is missing"),
    "missing images": (without("images-*"), r"images-\d+.jsonl: is missing"),
    "no JSON in the manifest": (edited("manifest.json", lambda content: content[:-20]), r"manifest.json: Invalid JSON"),
    "another count": (in_manifest(lambda found: found.update(count=found["count"] + 1)), "the counts of its files"),
    "another root": (
        in_manifest(lambda found: found["tree_head"].update(root="ab" * 32)),
        "manifest.json: the events have another tree head",
    ),
    "another size": (in_manifest(lambda found: found["tree_head"].update(size=3)), "the counts of its files"),
    "one file less": (
        in_manifest(lambda found: found["events"].pop(0)),
        r"events-\d+.jsonl does not begin at position 1",
    ),
    "the last file less": (in_manifest(lambda found: found["events"].pop()), "the counts of its files"),
    "another format": (in_manifest(lambda found: found.update(format="parquet")), "is not in the format parquet"),
    "a path that leads out": (
        in_manifest(lambda found: found["events"][0].update(name="../events-000000000001.jsonl")),
        r"manifest.json: events.0.name",
    ),
    "an unknown key": (in_manifest(lambda found: found.update(more=1)), r"manifest.json: more"),
    "a newer form": (in_manifest(lambda found: found.update(turnlog_export=2)), r"manifest.json: turnlog_export"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_export_leaves_an_empty_log(log_url: str, empty_url: str, out: Path, damage: str) -> None:
    await exported(log_url, out)
    before = files(out)
    change, message = DAMAGES[damage]
    change(out)
    assert files(out) != before
    with pytest.raises(ExportDamagedError, match=message) as caught:
        await imported(empty_url, out)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, LogDamagedError)
    assert is_empty(empty_url)
    assert is_log_export(out)


async def test_a_damaged_image_is_named(log_url: str, empty_url: str, out: Path) -> None:
    (name,) = {file.name for file in (await exported(log_url, out, sizes=ExportSizes())).images}
    edited(name, lambda content: content.replace(b"R0lGODlh", b"R0lGODdh"))(out)
    with pytest.raises(ExportDamagedError, match=f"{name}, line 1: the image does not match its SHA-256"):
        await imported(empty_url, out)
    assert is_empty(empty_url)


@pytest.mark.parametrize("media_type", ["text/html", "image/png", "image/gif\\u0000"])
async def test_an_image_of_another_media_type_is_named(
    log_url: str, empty_url: str, out: Path, media_type: str
) -> None:
    (name,) = {file.name for file in (await exported(log_url, out, sizes=ExportSizes())).images}
    edited(name, lambda content: content.replace(b"image/gif", media_type.encode()))(out)
    with pytest.raises(ExportDamagedError, match=f"{name}, line 1: the image is not of its media type"):
        await imported(empty_url, out)
    assert is_empty(empty_url)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-30],
        lambda content: content[:100],
        lambda content: content + b"\n",
        lambda content: b"",
    ],
)
async def test_damaged_parquet_is_named(
    log_url: str, empty_url: str, out: Path, change: Callable[[bytes], bytes]
) -> None:
    manifest = await exported(log_url, out, "parquet")
    name = manifest.events[0].name
    edited(name, change)(out)
    with pytest.raises(ExportDamagedError, match=f"{re.escape(name)}: its size or its SHA-256 is not"):
        await imported(empty_url, out)
    assert is_empty(empty_url)


async def test_an_edited_row_of_parquet_with_a_new_hash_is_named(log_url: str, empty_url: str, out: Path) -> None:
    name = (await exported(log_url, out, "parquet", ExportSizes())).events[0].name
    table = pyarrow.parquet.read_table(out / name)
    actors = table.column("actor").to_pylist()
    actors[6] = "user:eve"
    edited_table = table.set_column(table.schema.get_field_index("actor"), "actor", pyarrow.array(actors))
    pyarrow.parquet.write_table(edited_table, out / name)
    with_new_hash(name, lambda content: content)(out)
    with pytest.raises(ExportDamagedError, match=f"{name}, row 7: the event at position 7 does not match its digest"):
        await imported(empty_url, out)
    assert is_empty(empty_url)


async def test_a_log_that_is_not_empty_is_refused(log_url: str, out: Path) -> None:
    await exported(log_url, out)
    before = all_rows(log_url)
    with pytest.raises(LogNotEmptyError, match=r"The log is not empty. It ends at position \d+"):
        await imported(log_url, out)
    assert all_rows(log_url) == before


async def test_a_log_that_another_process_writes_is_refused(log_url: str, empty_url: str, out: Path) -> None:
    await exported(log_url, out)
    with blocked_head(empty_url), pytest.raises(LogNotEmptyError, match="Another process is writing to the log"):
        await imported(empty_url, out)
    await imported(empty_url, out)


async def test_an_append_meanwhile_comes_after_the_import(log_url: str, empty_url: str, out: Path) -> None:
    manifest = await exported(log_url, out)
    appended: list[asyncio.Future[int]] = []
    async with opened(empty_url, listening=False) as store:

        def append_once(position: int, upto: int) -> None:
            if not appended:
                events = conversation_of(1).events
                appended.append(store.writer.append(list(map(new_row, events)), None, events))

        await import_log(Database(empty_url), out, append_once)
        assert await appended[0] == manifest.count + 1
    assert (await verify_log(Database(empty_url), 1)).finding is None


async def test_a_part_of_a_log_is_refused(log_url: str, empty_url: str, out: Path) -> None:
    await exported(log_url, out, owner_id="alice", last=10)
    with pytest.raises(ExportError, match=r"is a part of a log, chosen by to, owner\. Only a whole log"):
        await imported(empty_url, out)
    assert is_empty(empty_url)


async def test_an_unfinished_export_is_refused(log_url: str, empty_url: str, out: Path) -> None:
    await exported(log_url, out)
    (out / "manifest.json").rename(out / "export-state.json")
    assert is_log_export(out)
    with pytest.raises(ExportError, match=r"is not finished. Run the same export again"):
        await imported(empty_url, out)


async def test_a_rewritten_log_is_imported_and_found_by_a_checkpoint(log_url: str, empty_url: str, out: Path) -> None:
    checkpoint = await checkpoint_of(log_url)
    tamper(log_url, f"UPDATE events SET actor = 'user:eve', digest = {FORGED} WHERE position = 5")
    await exported(log_url, out)
    await imported(empty_url, out)
    assert (await verify_log(Database(empty_url), 1)).finding is None
    finding = (await verify_log(Database(empty_url), 1, checkpoint)).finding
    assert finding is not None
    assert "the checkpoint" in finding.reason


@pytest.mark.parametrize(
    ("content", "expected"),
    [({}, False), ({"manifest.json": b'{"name": "site"}'}, False), ({"conversations.json": b"[]"}, False)],
)
def test_another_directory_is_no_export(out: Path, content: dict[str, bytes], expected: bool) -> None:
    assert not is_log_export(out)
    out.mkdir()
    for name, data in content.items():
        (out / name).write_bytes(data)
    assert is_log_export(out) == expected
    assert not is_log_export(out / "manifest.json")
