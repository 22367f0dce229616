"""An export holds the log as it was at one position, whatever happens meanwhile."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.errors import LogDamagedError
from audit.exports.errors import ExportError
from audit.exports.export_manifest import ExportFilter, ExportFormat
from audit.exports.exported_event import ExportedEvent, matches_digest
from audit.exports.jsonl_events import parse_line
from audit.exports.log_export import ExportSizes, export_log, plan_export
from audit.exports.parquet_events import read_parquet
from audit.proofs.event_digest import POSTGRESQL_EPOCH, DigestedEvent
from audit.proofs.signed_notes import Signer, open_note
from tests.support.audits import conversation_of, tamper
from tests.support.histories.builders import BEGINNING, Story, one_of_each
from tests.support.log_exports import COLUMNS, FORMATS, SMALL, all_rows, exported, files, lines
from tests.support.naive_merkle import mth
from tests.support.store import Store, opened, rows, value

ROOT = Path(__file__).parents[4]


async def record(conninfo: str, events: int) -> None:
    async with opened(conninfo, listening=False) as store:
        await store.append(conversation_of(events).events)


def events_of(path: Path, format_name: ExportFormat) -> list[ExportedEvent]:
    """Return the events of an export."""
    if format_name == "jsonl":
        return [parse_line(line + b"\n") for line in lines(path)]
    return [event for file in sorted(path.glob("events-*.parquet")) for event in read_parquet(file)]


def as_row(event: ExportedEvent) -> tuple[Any, ...]:
    """Return an event as a row of the database."""

    def text(value: bytes | None) -> str | None:
        return None if value is None else value.decode()

    id_ = event.aggregate_id.hex()
    return (
        event.position,
        POSTGRESQL_EPOCH + timedelta(microseconds=event.recorded_us),
        text(event.aggregate),
        "-".join((id_[:8], id_[8:12], id_[12:16], id_[16:20], id_[20:])),
        event.version,
        *map(text, (event.type, event.actor, event.request_id, event.data)),
        event.salt,
        event.content_hash,
        event.digest,
        text(event.idempotency_owner),
        text(event.idempotency_key),
        event.fingerprint,
    )


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("sizes", [SMALL, ExportSizes(), ExportSizes(part_bytes=1, block_bytes=1)], ids=str)
async def test_an_export_holds_every_column_of_every_event(
    log_url: str, out: Path, format_name: ExportFormat, sizes: ExportSizes
) -> None:
    manifest = await exported(log_url, out, format_name, sizes)
    events = events_of(out, format_name)
    assert [as_row(event) for event in events] == all_rows(log_url)["events"]
    assert [event.position for event in events if not matches_digest(event)] == []
    assert (manifest.count, manifest.first_position, manifest.last_position) == (len(events), 1, len(events))


async def test_the_manifest_describes_each_file_and_the_tree_of_the_log(log_url: str, out: Path) -> None:
    manifest = await exported(log_url, out)
    assert len(manifest.events) > 2
    found = files(out)
    assert found.keys() == {"manifest.json", *(file.name for file in (*manifest.events, *manifest.images))}
    for file in (*manifest.events, *manifest.images):
        content = found[file.name]
        assert (file.bytes, file.sha256) == (len(content), sha256(content).hexdigest())
        assert file.count == content.count(b"\n")
    digests = [row[0] for row in rows(log_url, "SELECT digest FROM events ORDER BY position")]
    assert (manifest.tree_head.size, manifest.tree_head.root) == (len(digests), mth(digests).hex())
    assert manifest.log == value(log_url, "SELECT 'turnlog/' || log_id FROM sealed_tree")
    shown = json.loads(found["manifest.json"])
    assert shown["filters"] == {"from": None, "to": None, "owner": None, "conversation": None, "type": None}
    assert shown["events"][0]["name"] == "events-000000000001.jsonl"


async def test_a_line_is_json_with_the_exact_text_of_the_data(log_url: str, out: Path) -> None:
    await exported(log_url, out)
    for line, (position, data) in zip(
        lines(out), rows(log_url, "SELECT position, data::text FROM events ORDER BY position"), strict=True
    ):
        event = json.loads(line)
        assert (event["position"], event["data"]) == (position, json.loads(data))
        assert line.decode().endswith(f',"data":{data}}}')


async def test_the_digest_of_a_line_is_that_of_the_proofs(log_url: str, out: Path) -> None:
    await exported(log_url, out)
    for event in events_of(out, "jsonl"):
        row = as_row(event)
        erased = event.content_hash is not None
        digested = DigestedEvent(
            position=row[0],
            aggregate=row[2],
            aggregate_id=UUID(row[3]),
            version=row[4],
            type=row[5],
            actor=row[6],
            request_id=row[7],
            recorded_at=row[1],
            salt=event.salt,
            content=None if erased else row[8],
            content_hash=event.content_hash,
        )
        assert digested.digest() == event.digest


def in_duckdb(query: str) -> list[Any]:
    """Return the rows of a query."""
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


async def test_parquet_is_queried_with_duckdb(log_url: str, out: Path) -> None:
    await exported(log_url, out, "parquet")
    columns = COLUMNS.replace("::text", "").replace("recorded_at", "epoch_us(recorded_at)")
    query = columns.replace("FROM events", f"FROM '{out}/events-*.parquet' ORDER BY position")
    expected = rows(
        log_url,
        COLUMNS.replace("recorded_at", "(extract(epoch FROM recorded_at) * 1000000)::bigint")  # pyright: ignore[reportArgumentType]
        + " ORDER BY position",
    )
    assert in_duckdb(query) == expected
    roles = f"SELECT data ->> 'role', count(*) FROM '{out}/events-*.parquet' WHERE type = 'MessageAdded' GROUP BY 1"
    in_log = "SELECT data ->> 'role', count(*) FROM events WHERE type = 'MessageAdded' GROUP BY 1"
    assert sorted(in_duckdb(roles), key=str) == sorted(rows(log_url, in_log), key=str)


async def test_the_images_of_exported_events_are_in_files_of_their_own(log_url: str, out: Path, tmp_path: Path) -> None:
    manifest = await exported(log_url, out, sizes=ExportSizes())
    (file,) = manifest.images
    image = json.loads((out / file.name).read_bytes())
    assert (image["media_type"], image["data"]) == ("image/gif", "R0lGODlh")
    assert image["sha256"] == value(log_url, "SELECT encode(sha256, 'hex') FROM images")
    assert (await exported(log_url, tmp_path / "bob", owner_id="bob")).images == ()


async def test_a_missing_image_is_counted(log_url: str, out: Path) -> None:
    tamper(log_url, "DELETE FROM images")
    manifest = await exported(log_url, out, sizes=ExportSizes())
    assert (manifest.missing_images, sum(file.count for file in manifest.images)) == (1, 0)


async def test_an_empty_log_has_an_export_without_files(database_url: str, out: Path) -> None:
    manifest = await exported(database_url, out)
    assert (manifest.count, manifest.first_position, manifest.last_position) == (0, None, None)
    assert files(out).keys() == {"manifest.json"}


@pytest.fixture
async def stories_url(here: Store, database_url: str) -> str:
    """A log of seven events of Alice, then three of Bob."""
    story, other = Story(title="Talk"), Story(owner="bob")
    story.ask("Why?")
    story.stream("Be")
    story.fail("Be")
    story.rename(title="Talked")
    other.say("Hi")
    other.say("There")
    await here.append([*story.events, *other.events])
    return database_url


SECOND = timedelta(seconds=1)
FILTERS: list[tuple[Mapping[str, Any], list[int]]] = [
    ({"first": 8}, [8, 9, 10]),
    ({"last": 2}, [1, 2]),
    ({"first": 3, "last": 3}, [3]),
    ({"first": 0, "last": 0}, []),
    ({"owner_id": "bob"}, [8, 9, 10]),
    ({"type": "MessageAdded"}, [2, 5, 9, 10]),
    ({"type": "MessageAdded", "owner_id": "alice", "first": 3}, [5]),
    ({"owner_id": "carol"}, []),
    ({"last": BEGINNING}, []),
]


@pytest.mark.parametrize(("filters", "positions"), FILTERS, ids=str)
@pytest.mark.parametrize("format_name", FORMATS)
async def test_filters_select_events(
    stories_url: str, out: Path, filters: Mapping[str, Any], positions: list[int], format_name: ExportFormat
) -> None:
    manifest = await exported(stories_url, out, format_name, **filters)
    found = [event.position for event in events_of(out, format_name)]
    assert found == positions
    assert manifest.count == len(positions)
    assert manifest.tree_head.size == 10


async def test_times_are_inclusive(stories_url: str, out: Path) -> None:
    # The conversations follow each other in the log, and their times overlap.
    for number, (first, last) in enumerate([(1, 2), (2, 2), (3, 5), (5, 60)]):
        between = BEGINNING + first * SECOND, BEGINNING + last * SECOND
        await exported(stories_url, out / str(number), first=between[0], last=between[1])
        found = [event.position for event in events_of(out / str(number), "jsonl")]
        assert found == expected_between(stories_url, *between)


def expected_between(conninfo: str, first: datetime, last: datetime) -> list[int]:
    """Return the positions from the first event of a time span to its last."""
    low = value(conninfo, "SELECT min(position) FROM events WHERE recorded_at >= %s", [first])
    high = value(conninfo, "SELECT max(position) FROM events WHERE recorded_at <= %s", [last])
    return list(range(low, high + 1))


async def test_a_conversation_is_selected_by_its_id(stories_url: str, out: Path) -> None:
    id_ = value(stories_url, "SELECT aggregate_id::text FROM events WHERE position = 9")
    await exported(stories_url, out, conversation_id=id_)
    assert [event.position for event in events_of(out, "jsonl")] == [8, 9, 10]


@pytest.mark.parametrize("format_name", FORMATS)
async def test_an_export_ends_where_it_began_while_others_write(
    database_url: str, tmp_path: Path, format_name: ExportFormat
) -> None:
    async with opened(database_url, listening=False) as store:
        await store.append(conversation_of(300).events)
        plan = await plan_export(store.database, format_name, ExportFilter())
        running = asyncio.create_task(
            asyncio.to_thread(export_log, database_url, "turnlog", tmp_path / "during", plan, sizes=SMALL)
        )
        while not running.done():
            await store.append(conversation_of(10).events)
        manifest = await running
    assert (manifest.count, manifest.tree_head.size) == (300, 300)
    await exported(database_url, tmp_path / "after", format_name, last=300)
    during, after = files(tmp_path / "during"), files(tmp_path / "after")
    assert {**during, "manifest.json": b""} == {**after, "manifest.json": b""}


@pytest.mark.parametrize("format_name", FORMATS)
async def test_a_killed_export_is_gone_on_with(database_url: str, tmp_path: Path, format_name: ExportFormat) -> None:
    await record(database_url, 200)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    await exported(database_url, undisturbed, format_name)
    with started_export(database_url, killed, format_name, "--hold", "12") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.kill()
    left = files(killed)
    complete = {name for name in left if name.startswith("events-") and not name.endswith(".incomplete")}
    assert complete < files(undisturbed).keys()
    assert complete
    assert "manifest.json" not in left
    await record(database_url, 50)  # which the export does not get, because it began before
    await exported(database_url, killed, format_name)
    assert files(killed) == files(undisturbed)


def started_export(conninfo: str, path: Path, format_name: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.exporting_process", conninfo, str(path), format_name, *options]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)


@pytest.mark.parametrize("format_name", FORMATS)
async def test_a_full_disk_is_one_line_and_leaves_complete_files(
    database_url: str, tmp_path: Path, format_name: ExportFormat
) -> None:
    await record(database_url, 20)
    async with opened(database_url, listening=False) as store:
        await store.append(Story(title="long", metadata={"text": "ab" * 15_000}).events)
        await store.append(conversation_of(20).events)
    undisturbed, full = tmp_path / "undisturbed", tmp_path / "full"
    await exported(database_url, undisturbed, format_name)
    largest = max(len(content) for content in files(undisturbed).values())
    with started_export(database_url, full, format_name, "--limit", str(largest - 1)) as process:
        _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.decode() == f"{full} cannot be written: File too large. The same command goes on with it.\n"
    left = files(full)
    assert "export-state.json" in left
    assert [name for name in left if name.endswith(".incomplete")] == []
    assert {name: content for name, content in left.items() if name.startswith("events-")}.items() <= files(
        undisturbed
    ).items()
    await exported(database_url, full, format_name)
    assert files(full) == files(undisturbed)


async def test_a_finished_export_stays_as_it_is(log_url: str, out: Path) -> None:
    first = await exported(log_url, out)
    before = files(out)
    await record(log_url, 5)
    assert await exported(log_url, out) == first
    assert files(out) == before


async def test_other_arguments_are_refused(log_url: str, out: Path) -> None:
    await exported(log_url, out, owner_id="alice")
    with pytest.raises(ExportError, match=r"holds an export with other arguments: format jsonl, owner alice\.$"):
        await exported(log_url, out, owner_id="bob")
    with pytest.raises(ExportError, match="other arguments"):
        await exported(log_url, out, "parquet", owner_id="alice")


async def test_another_log_is_refused(log_url: str, out: Path, empty_url: str) -> None:
    await exported(log_url, out)
    with pytest.raises(ExportError, match=r"holds an export of turnlog/.*, but this log is turnlog/"):
        await exported(empty_url, out)


@pytest.fixture
def used(out: Path) -> Path:
    """A directory with a file of the user."""
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    return out


async def test_a_directory_with_something_else_is_refused(log_url: str, used: Path) -> None:
    with pytest.raises(ExportError, match=r"is not empty, and holds no export\.$"):
        await exported(log_url, used)
    assert files(used) == {"notes.txt": b"mine"}


async def test_a_file_in_the_place_of_the_directory_is_refused(log_url: str, used: Path) -> None:
    with pytest.raises(ExportError, match="cannot be written"):
        await exported(log_url, used / "notes.txt")
    assert files(used) == {"notes.txt": b"mine"}


async def test_two_exports_do_not_write_to_one_directory(database_url: str, out: Path) -> None:
    await record(database_url, 100)
    with started_export(database_url, out, "jsonl", "--hold", "2") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(ExportError, match="Another export writes to"):
            await exported(database_url, out)
        process.kill()


async def test_a_complete_file_that_was_changed_is_noticed(database_url: str, out: Path) -> None:
    await record(database_url, 100)
    with started_export(database_url, out, "jsonl", "--hold", "12") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    first = out / "events-000000000001.jsonl"
    first.write_bytes(first.read_bytes()[:-10])
    with pytest.raises(ExportError, match=re.escape(f"{first} was removed or changed")):
        await exported(database_url, out)


async def test_a_log_with_a_gap_is_not_exported(database_url: str, out: Path) -> None:
    await record(database_url, 30)
    tamper(database_url, "DELETE FROM events WHERE position = 15")
    with pytest.raises(LogDamagedError, match="not whole"):
        await exported(database_url, out)


async def test_the_manifest_has_a_checkpoint_if_there_is_a_key(here: Store, database_url: str, out: Path) -> None:
    await here.append(one_of_each())
    key = Ed25519PrivateKey.generate()
    plan = await plan_export(here.database, "jsonl", ExportFilter(), key)
    manifest = export_log(database_url, "turnlog", out, plan)
    assert manifest.checkpoint is not None
    text = open_note(manifest.checkpoint.encode(), [Signer(manifest.log, key).key])
    assert text.splitlines()[:2] == [manifest.log, str(manifest.count)]
