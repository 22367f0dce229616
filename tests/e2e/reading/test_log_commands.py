"""`turnlog log` with its filters, its colours, and live."""

import asyncio
import json
import re
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from domain.aggregates import AggregateEvent
from domain.events import EVENT_TYPES
from projections.catalog import prepare
from tests.support.command_line import Finished, clean_environment, run_here
from tests.support.histories.agents import AgentStory
from tests.support.histories.builders import Story, audit_read, one_of_each
from tests.support.rebuilding import url
from tests.support.servers.running_command import RunningCommand
from tests.support.servers.terminal import on_terminal
from tests.support.store import opened, rows
from tests.support.waiting import PATIENCE_S, eventually

TURNLOG = str(Path(sysconfig.get_path("scripts")) / "turnlog")
COLOUR = re.compile(r"\x1b\[(?:[0-9]|3[0-7])m")
OPTIONS: list[tuple[list[str], list[int]]] = [
    (["--type", "TurnFailed"], [6]),
    (["--type", "MessageAdded"], [2, 5, 9]),
    (["--actor", "user:bob"], [8, 9]),
    (["--actor", "auditor:watch"], [11]),
    (["--owner", "alice"], [1, 2, 3, 4, 5, 6, 7, 10]),
    (["--owner", "bob", "--type", "MessageAdded"], [9]),
    (["--after", "8"], [9, 10, 11]),
    (["--before", "3"], [1, 2]),
    (["--after", "3", "--before", "8", "--type", "StreamDelta"], [4]),
    (["--after", "2026-01-02T03:04:10Z"], [7]),
    (["--before", "2026-01-02T03:04:06+00:00"], [11]),
    (["--actor", "user:carol"], []),
]


def turnlog(conninfo: str, *arguments: str) -> Finished:
    return run_here(*arguments, "--database-url", url(conninfo))


def found(conninfo: str, *arguments: str) -> list[int]:
    """Return the positions of the events that a command prints."""
    done = turnlog(conninfo, *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line)["position"] for line in done.stdout.splitlines()]


def record(conninfo: str, events: Sequence[AggregateEvent]) -> None:
    """Record events as another process does, with its notifications."""

    async def work() -> None:
        async with opened(conninfo) as store:
            await store.append(events)

    asyncio.run(work())


@pytest.fixture
def story() -> Story:
    """A conversation of Alice with seven events."""
    story = Story(title="Talk")
    story.ask("Why?")
    story.stream("Be")
    story.fail("Be")
    story.rename(title="Talked")
    return story


@pytest.fixture
def log_url(database_url: str, story: Story) -> str:
    """A log of two conversations, an agent and a read of an auditor."""
    prepare(database_url, "turnlog")
    other, agent = Story(owner="bob"), AgentStory()
    other.say("Hi")
    agent.define()
    record(database_url, [*story.events, *other.events, *agent.events, audit_read()])
    return database_url


@pytest.mark.parametrize(("options", "expected"), OPTIONS, ids=lambda value: " ".join(map(str, value)))
def test_tail_prints_the_newest_events_that_the_options_select(
    log_url: str, options: list[str], expected: list[int]
) -> None:
    assert found(log_url, "log", "tail", *options) == expected
    assert found(log_url, "log", "tail", *options, "--order", "desc") == expected[::-1]
    assert found(log_url, "log", "tail", *options, "-n", "2") == expected[-2:]


@pytest.mark.parametrize(("options", "expected"), OPTIONS, ids=lambda value: " ".join(map(str, value)))
def test_show_prints_those_of_a_conversation(
    log_url: str, story: Story, options: list[str], expected: list[int]
) -> None:
    of_story = [position for position in expected if position <= len(story.events)]
    assert found(log_url, "log", "show", str(story.id), *options) == of_story
    assert found(log_url, "log", "show", str(story.id), *options, "--order", "desc") == of_story[::-1]


def test_lines_name_the_actor_and_the_reads_of_auditors_are_among_them(log_url: str) -> None:
    lines = turnlog(log_url, "log", "tail", "--after", "9").stdout.splitlines()
    assert [line.split()[4:6] for line in lines] == [["AgentDefined", "user:alice"], ["AuditRead", "auditor:watch"]]


@pytest.mark.parametrize("command", [["tail"], ["show", "CONVERSATION"]], ids=" ".join)
@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--type", "Nothing"], 2, "is not a type of event"),
        (["--after", "yesterday"], 2, "--after yesterday: must be a log position or a time"),
        (["--before", "2026-01-02T03:04:05"], 2, "needs a time zone"),
        (["--after", "12"], 1, "12 is beyond the end of the log, which is at position 11"),
        (["--before", "12"], 1, "12 is beyond the end"),
        (["--after", "1" * 90], 1, "is beyond the end"),
        (["--after", "2999-01-01T00:00:00Z"], 1, "2999-01-01 00:00:00+00:00 is beyond the end"),
        (["--order", "newest"], 2, "newest"),
        (["--actor", "a\udcffb"], 2, "surrogate"),
    ],
    ids=lambda value: ascii(value),
)
def test_options_that_select_nothing_sensible_are_an_error(
    log_url: str, story: Story, command: list[str], options: list[str], code: int, words: str
) -> None:
    done = turnlog(log_url, "log", *(str(story.id) if each == "CONVERSATION" else each for each in command), *options)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_conversation_is_an_error(log_url: str) -> None:
    done = turnlog(log_url, "log", "show", str(UUID(int=7)))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: No conversation {UUID(int=7)}.\n"


@pytest.mark.parametrize("options", [["--before", "5"], ["--order", "desc"]], ids=" ".join)
def test_new_events_can_only_follow_the_newest(log_url: str, options: list[str]) -> None:
    done = turnlog(log_url, "log", "tail", "--follow", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--follow cannot be combined" in done.stderr


def test_follow_prints_new_events_as_they_are_notified_until_ctrl_c(log_url: str) -> None:
    command = [TURNLOG, "log", "tail", "-n", "1", "--follow", "--json", "--database-url", url(log_url)]
    with RunningCommand(command, clean_environment()) as running:
        eventually(lambda: running.lines)
        listening = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
        eventually(lambda: rows(log_url, listening))
        story = Story(title="New")
        record(log_url, [*story.events, *story.say("Hello")])
        eventually(lambda: len(running.lines) == 3)
        assert running.interrupt() == 0
    assert [json.loads(line)["position"] for line in running.lines] == [11, 12, 13]
    assert running.errors == ""


def test_follow_prints_only_what_the_options_select(log_url: str) -> None:
    command = [TURNLOG, "log", "tail", "--follow", "--json", "--type", "MessageAdded", "--owner", "bob"]
    with RunningCommand([*command, "--database-url", url(log_url)], clean_environment()) as running:
        eventually(lambda: running.lines)
        for owner in ("alice", "bob"):
            story = Story(owner=owner)
            record(log_url, [*story.events, *story.say("Hello")])
        eventually(lambda: len(running.lines) == 2)
        assert running.interrupt() == 0
    assert [json.loads(line)["position"] for line in running.lines] == [9, 15]


@pytest.mark.parametrize(
    "command",
    [
        ("log", "tail"),
        ("log", "show", "CONVERSATION"),
        ("replay", "--speed", "1000", "CONVERSATION"),
        ("log", "verify"),
        ("log", "checkpoint"),
        ("log", "prove", "1"),
        ("keys", "list"),
        ("projections", "status"),
    ],
    ids=" ".join,
)
def test_a_full_disk_is_an_error_in_one_line(
    log_url: str, story: Story, tmp_path: Path, command: tuple[str, ...]
) -> None:
    named = [str(story.id) if each == "CONVERSATION" else each for each in command]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [TURNLOG, *named, "--database-url", url(log_url)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(TURNLOG_DATA_DIR=str(tmp_path)),
            timeout=PATIENCE_S,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: The output cannot be written: No space left on device."
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["tail"], ["show", "CONVERSATION"]], ids=" ".join)
def test_output_that_ctrl_c_cut_short_does_not_look_complete(log_url: str, story: Story, command: list[str]) -> None:
    named = [str(story.id) if each == "CONVERSATION" else each for each in command]
    with psycopg.connect(log_url) as blocking:
        blocking.execute("LOCK TABLE turnlog.events")
        with RunningCommand([TURNLOG, "log", *named, "--database-url", url(log_url)], clean_environment()) as running:
            waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            eventually(lambda: rows(log_url, waiting))
            assert running.interrupt() == 1
    assert (running.output, running.errors.strip()) == ("", "Aborted!")


@pytest.mark.parametrize("columns", [60, 200])
def test_a_terminal_gets_colours_and_the_same_text(database_url: str, columns: int) -> None:
    prepare(database_url, "turnlog")
    events = one_of_each()
    record(database_url, events)
    command = [TURNLOG, "log", "tail", "-n", "100", "--database-url", url(database_url)]
    coloured = on_terminal(command, columns, environment=clean_environment())
    plain = on_terminal(command, columns, environment=clean_environment(NO_COLOR="1"))
    assert "\x1b" not in plain.written
    assert COLOUR.sub("", coloured.written) == plain.written
    assert len(set(COLOUR.findall(coloured.written))) > 4
    shown = " ".join(plain.screen)
    assert {event.TOPIC for event in events} == {name for name in EVENT_TYPES if f" {name} " in shown}


def test_neither_a_pipe_nor_a_dumb_terminal_gets_colours(log_url: str) -> None:
    assert "\x1b" not in turnlog(log_url, "log", "tail").stdout
    command = ["env", "TERM=dumb", TURNLOG, "log", "tail", "--database-url", url(log_url)]
    assert "\x1b" not in on_terminal(command, 120, environment=clean_environment()).written


def test_wide_and_combining_characters_fit_the_terminal(database_url: str) -> None:
    from rich.cells import cell_len

    prepare(database_url, "turnlog")
    titles = ["漢字かな" * 40, "🎉👍🏽" * 40, "e\u0301" * 200, "👨\u200d👩\u200d👧" * 40, "\u202eabc" * 60]
    record(database_url, [event for title in titles for event in Story(title=title).events])
    for columns in (40, 79, 80, 131, 200):
        seen = on_terminal(
            [TURNLOG, "log", "tail", "--database-url", url(database_url)], columns, environment=clean_environment()
        )
        assert max(map(cell_len, COLOUR.sub("", seen.written).replace("\r", "").split("\n"))) <= columns
        assert "\u202e" not in seen.written
