"""Failures of a rebuild without a bad event: full disks, lost databases, workers."""

import asyncio
import os
import subprocess
from base64 import b64encode
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventlog.migrations import migrate
from postgres.embedded import EmbeddedPostgres
from projections.catalog import PROJECTIONS, install
from projections.errors import BuildFailedError, BuildInterruptedError, ProjectionFailedError
from projections.rebuild.past import build_past
from projections.rebuild.rebuild import rebuild
from projections.rebuild.verify import verify
from tests.support.histories.builders import Story
from tests.support.projections import POISON, Titles, TitlesThatCannotLoad
from tests.support.rebuilding import (
    build_records,
    caught_up,
    check_read_models,
    in_threads,
    locked,
    opened_builder,
    prepared_url,
    store,
)
from tests.support.servers.own_postgres import cluster_directory
from tests.support.store import PATIENCE_S, Store, blocked_backend, opened, rows, value

__all__ = ["in_threads", "prepared_url", "store"]

LARGEST_FILE_BYTES = 17 * 2**20  # a segment of the write-ahead log has 16 MiB


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    with cluster_directory() as directory, EmbeddedPostgres(directory) as embedded:
        migrate(embedded.conninfo)
        install(embedded.conninfo)
        yield embedded


@contextmanager
def full_disk(postgres: EmbeddedPostgres) -> Generator[None]:
    """Limit the size of files for connections that are made in the block."""
    pid = int((postgres.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
    limit_files(pid, str(LARGEST_FILE_BYTES))
    try:
        yield
    finally:
        limit_files(pid, "unlimited")


def limit_files(pid: int, size: str) -> None:
    """Set a process's limit of file sizes, as its user, because root may not."""
    owner = Path(f"/proc/{pid}").stat()
    user, group = (owner.st_uid, owner.st_gid) if owner.st_uid != os.geteuid() else (None, None)
    subprocess.run(["prlimit", "--pid", str(pid), f"--fsize={size}:"], user=user, group=group, check=True)


@pytest.mark.usefixtures("in_threads")
async def test_a_full_disk_ends_a_build_with_one_line_and_keeps_the_live_one_running(
    own_postgres: EmbeddedPostgres,
) -> None:
    conninfo = own_postgres.conninfo
    story = Story()
    async with opened(conninfo, listening=False) as store, store.projecting(*PROJECTIONS) as progress:
        for _ in range(40):
            story.say(b64encode(os.urandom(450_000)).decode(), tokens=1)
        assert await progress.wait(await store.append(story.events), PATIENCE_S) == []
        before = [build_records(conninfo, each.name) for each in PROJECTIONS]
        with full_disk(own_postgres):
            async with opened_builder(conninfo) as builder:
                for work in (
                    rebuild(builder, PROJECTIONS),
                    verify(builder, PROJECTIONS),
                    build_past(builder, PROJECTIONS, len(story.events), "past"),
                ):
                    with pytest.raises(BuildFailedError, match="File too large") as raised:
                        await work
                    assert "\n" not in str(raised.value)
            assert [build_records(conninfo, each.name) for each in PROJECTIONS] == before
            assert rows(conninfo, "SELECT 1 FROM pg_namespace WHERE nspname LIKE 'past%%'", []) == []
            assert await progress.wait(await store.append(story.say()), PATIENCE_S) == []
        async with opened_builder(conninfo) as builder:
            switched = await rebuild(builder, PROJECTIONS)
        assert [each.compared and each.compared.differing for each in switched] == [0] * len(PROJECTIONS)
        assert await progress.wait(await store.append(story.say()), PATIENCE_S) == []
    check_read_models(conninfo, story.events)


async def test_an_error_in_a_worker_process_is_reported_unchanged(store: Store, prepared_url: str) -> None:
    for title in ("one", POISON, "three"):
        await store.append(Story(title=title).events)
    async with opened_builder(prepared_url) as builder:
        with pytest.raises(ProjectionFailedError) as raised:
            await rebuild(builder, [TitlesThatCannotLoad()])
        expected = "Projection titles cannot take the event at position 2: ValueError('cannot be projected')."
        assert (str(raised.value), raised.value.position) == (expected, 2)
        assert build_records(prepared_url, "titles").builds == [("titles", 1, 1, "live")]
        await rebuild(builder, [Titles()])
    assert build_records(prepared_url, "titles").builds == [("titles", 1, 1, "kept"), ("titles", 1, 2, "live")]


TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'turnlog'"
)


@pytest.mark.usefixtures("in_threads")
@pytest.mark.parametrize(
    ("held_up", "table"),
    [("loading", "titles_v1_2"), ("following", "titles_v1_2"), ("switching", "projections")],
)
async def test_a_lost_database_interrupts_a_rebuild_and_blames_no_event(
    prepared_url: str, held_up: str, table: str
) -> None:
    async with opened(prepared_url, listening=False) as store:
        await store.append(Story(title="one").events)
        async with opened_builder(prepared_url) as builder:
            build = await builder.create(Titles(), "building")
            await builder.plan([build], 1)
            if held_up != "loading":
                await builder.load([build])
        if held_up == "following":
            await store.append([Story(title=str(number)).events[0] for number in range(3)])
            await caught_up(store, Titles())
    with locked(prepared_url, f"LOCK TABLE {table} IN SHARE MODE"):
        interrupted = asyncio.create_task(rebuild_titles(prepared_url))
        await blocked_backend(prepared_url)
        rows(prepared_url, TERMINATE)
        with pytest.raises(BuildInterruptedError) as raised:
            await interrupted
        assert "\n" not in str(raised.value)
    assert build_records(prepared_url, "titles").builds[-1] == ("titles", 1, 2, "building")
    await rebuild_titles(prepared_url)
    assert build_records(prepared_url, "titles").builds[-1] == ("titles", 1, 2, "live")
    assert value(prepared_url, "SELECT count(*) FROM titles") == value(prepared_url, "SELECT position FROM head")


async def rebuild_titles(conninfo: str) -> None:
    async with opened_builder(conninfo) as builder:
        await rebuild(builder, [Titles()])
