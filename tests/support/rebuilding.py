"""Rebuilds in tests, with small parts and with threads as workers."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from cli.main import turnlog
from domain.events import ConversationEvent
from projections.catalog import PROJECTIONS, install
from projections.projection import Projection
from projections.rebuild import builder, catch_up, plan, workers
from projections.rebuild.builder import Builder, BuildStep, open_builder
from projections.rebuild.loading import Source
from projections.rebuild.plan import Part
from tests.support.histories.builders import Story
from tests.support.naive_views.catalog import NAIVE
from tests.support.naive_views.rows import Row, in_order
from tests.support.projections import Titles
from tests.support.store import PATIENCE_S, Store, opened, rows

WORKERS = 2
HOLD = """
CREATE OR REPLACE FUNCTION hold_last_parts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM rebuild_parts WHERE name = OLD.name) <= TG_ARGV[0]::integer THEN
        PERFORM pg_advisory_xact_lock_shared(1);
    END IF;
    RETURN OLD;
END $$;
CREATE OR REPLACE TRIGGER hold BEFORE DELETE ON rebuild_parts FOR EACH ROW EXECUTE FUNCTION hold_last_parts({parts});
SELECT pg_advisory_lock(1)
"""


@pytest.fixture
def prepared_url(database_url: str) -> str:
    """Return a database with the tables of all projections and of `Titles`."""
    install(database_url, projections=[*PROJECTIONS, Titles()])
    return database_url


@pytest.fixture
async def store(prepared_url: str) -> AsyncIterator[Store]:
    """Yield the log of a process that does not listen to others.

    It projects only on a test's request.
    """
    async with opened(prepared_url, listening=False) as store:
        yield store


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load with threads, which start quickly, in parts of a few events."""

    def threads(number: int, *_: Any) -> Executor:
        return ThreadPoolExecutor(number)

    monkeypatch.setattr(workers, "ProcessPoolExecutor", threads)
    monkeypatch.setattr(plan, "PART_EVENTS", 5)
    monkeypatch.setattr(catch_up, "CAUGHT_UP_EVENTS", 0)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], Part]]:
    """Return a list to which loaded parts and their projections are appended."""
    seen: list[tuple[list[str], Part]] = []
    load_part = builder.load_part

    def noting(source: Source, projections: Sequence[Projection], part: Part) -> None:
        load_part(source, projections, part)
        seen.append(([projection.name for projection in projections], part))

    monkeypatch.setattr(builder, "load_part", noting)
    return seen


@asynccontextmanager
async def opened_builder(conninfo: str) -> AsyncGenerator[Builder]:
    """Open a builder.

    A closed builder leaves the same tables and records as a killed one.
    """
    async with open_builder(conninfo, "turnlog", WORKERS, _ignore) as builder:
        yield builder


def stories(number: int) -> list[ConversationEvent]:
    """Return interleaved conversations, each with a running and an ended turn."""
    conversations = [Story(title=f"Story {each}") for each in range(number)]
    for story in conversations:
        story.ask("Why so?")
        story.stream("Be", "cause")
        story.complete("Because")
        story.ask("Why not?")
        story.stream("Well")
    event_lists = [story.events for story in conversations]
    return [event for step in zip(*event_lists, strict=True) for event in step]


async def caught_up(store: Store, *projections: Projection) -> None:
    """Run an engine until it has applied all events."""
    async with store.projecting(*(projections or PROJECTIONS)) as progress:
        assert await progress.wait(await store.log.head(), PATIENCE_S) == []


def _ignore(_: BuildStep) -> None:
    pass


def read_models(conninfo: str, schema: str = "turnlog") -> dict[str, list[Row]]:
    """Return all rows of all read models, read through their views."""
    options = f"-c search_path={schema} -c timezone=UTC"
    with psycopg.Connection[Row].connect(conninfo, row_factory=dict_row, options=options) as connection:
        return {
            table: connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))).fetchall()
            for table in NAIVE
        }


def check_read_models(conninfo: str, events: Sequence[ConversationEvent], schema: str = "turnlog") -> None:
    """Compare the read models with the naive views of `events`."""
    for table, found in read_models(conninfo, schema).items():
        built, wanted = in_order(found), in_order(NAIVE[table](events))
        unexpected = [row for row in built if row not in wanted]
        assert built == wanted, f"{table}: {unexpected} instead of {[row for row in wanted if row not in built]}"


class BuildRecords(NamedTuple):
    """The builds of a projection, their tables, and the number of their plans.

    A build consists of name, version, build and state.
    """

    builds: list[tuple[str, int, int, str]]
    tables: list[str]
    plans: int

    @property
    def states(self) -> list[tuple[int, str]]:
        """Return number and state of each build of a projection with one version."""
        return [build[2:] for build in self.builds]


def build_records(conninfo: str, name: str) -> BuildRecords:
    """Return the builds of a projection whose tables begin with its name."""
    builds = "SELECT name, version, build, state FROM projections WHERE name = %s ORDER BY version, build"
    tables = (
        "SELECT relname FROM pg_class WHERE relnamespace = 'turnlog'::regnamespace AND relkind = 'r'"
        " AND relname ~ ('^' || %s || '_v[0-9]+_[0-9]+$') ORDER BY relname"
    )
    plans = (
        "SELECT (SELECT count(*) FROM rebuilds WHERE name = %s) + (SELECT count(*) FROM rebuild_parts WHERE name = %s)"
    )
    return BuildRecords(
        rows(conninfo, builds, [name]),
        [row[0] for row in rows(conninfo, tables, [name])],
        rows(conninfo, plans, [name, name])[0][0],
    )


def url(conninfo: str) -> str:
    """Return a conninfo as a URL for the command line."""
    parts = conninfo_to_dict(conninfo)
    host = quote(str(parts["host"]), safe="")
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={host}&port={parts['port']}"


def run_turnlog(conninfo: str, *arguments: str) -> tuple[int, str, str]:
    """Run `turnlog projections` in this process.

    Return the exit code, the output, and the errors without progress lines.
    """
    command = ["projections", *arguments, "--database-url", url(conninfo)]
    result = CliRunner().invoke(turnlog, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    lines = [line for line in result.stderr.splitlines() if " events/s" not in line]
    return result.exit_code, result.stdout, "\n".join(lines)


@contextmanager
def locked(conninfo: str, statement: str) -> Generator[psycopg.Connection[Any]]:
    """Run a statement in a transaction that stays open for the block."""
    with psycopg.connect(conninfo, options="-c search_path=turnlog") as connection:
        connection.execute(sql.SQL(statement))  # pyright: ignore[reportArgumentType]
        yield connection


@contextmanager
def held_parts(conninfo: str, parts: int) -> Generator[None]:
    """Hold workers up before the last `parts` parts until the end of the block.

    Each worker may be one part ahead, so that more than `parts - WORKERS` parts are left.
    """
    with psycopg.connect(conninfo, autocommit=True, options="-c search_path=turnlog") as connection:
        connection.execute(sql.SQL(HOLD).format(parts=sql.Literal(parts)))
        yield
