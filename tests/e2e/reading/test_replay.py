"""`turnlog replay` on a terminal, in a pipe, and ended by Ctrl-C."""

import asyncio
import re
import sysconfig
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from projections.catalog import prepare
from tests.support.command_line import Finished, clean_environment, run_here
from tests.support.histories.agents import AgentStory
from tests.support.histories.builders import BEGINNING, Story
from tests.support.rebuilding import url
from tests.support.servers.running_command import RunningCommand
from tests.support.servers.terminal import Seen, on_terminal
from tests.support.store import opened
from tests.support.waiting import eventually

TURNLOG = str(Path(sysconfig.get_path("scripts")) / "turnlog")
FAST = ["--speed", "1000"]
EVIL = "a\x1b[2J\x1b]0;owned\x07\u202egnp.exe\r\nb 漢字 👍"
SGR = re.compile(r"\x1b\[(?:[0-9]|3[0-7])m")
PLAYED = """\
Conversation {id}
  2026-01-02 03:04:06Z  of alice, started by user:alice
  Numbers
user  2026-01-02 03:04:07Z  user:alice
  How many?
assistant  2026-01-02 03:04:07Z  turnlog/demo
  Let me see.
  → count({{"n":0}})
  waits for tool results
tool  2026-01-02 03:04:10Z  user:alice
  ← 42
assistant  2026-01-02 03:04:10Z  turnlog/demo
  42
  completed (stop)
  2026-01-02 03:04:13Z  user:alice replaced 3 messages
  ~~assistant: Let me see.~~
  ~~tool: [tool_result]~~
  ~~assistant: 42~~
assistant  2026-01-02 03:04:13Z  turnlog/demo
  Four
  cancelled by user:alice
"""


def arguments(conninfo: str, conversation: UUID, *options: str) -> list[str]:
    return ["replay", str(conversation), "--database-url", url(conninfo), *options]


def replay(conninfo: str, conversation: UUID, *options: str) -> Finished:
    return run_here(*arguments(conninfo, conversation, *options))


def on_a_terminal(conninfo: str, conversation: UUID, *options: str, columns: int = 100) -> Seen:
    return on_terminal(
        [TURNLOG, *arguments(conninfo, conversation, *options)], columns, environment=clean_environment()
    )


def record(conninfo: str, *stories: Story | AgentStory) -> None:
    async def work() -> None:
        async with opened(conninfo, listening=False) as store:
            await store.append([event for story in stories for event in story.events])

    prepare(conninfo, "turnlog")
    asyncio.run(work())


@pytest.fixture
def story() -> Story:
    """A conversation with a tool call, a replaced answer and a cancelled one."""
    story = Story(title="Numbers")
    story.ask("How many?")
    story.stream("Let me", " see.")
    story.call_tools("count", words="Let me see.")
    story.give_results("42")
    story.stream("42")
    story.complete("42")
    story.ask_again(next(message for message in story.messages() if message.role == "user"))
    story.stream("Fo", "ur")
    story.cancel("Four")
    return story


@pytest.fixture
def log_url(database_url: str, story: Story) -> str:
    record(database_url, story)
    return database_url


def test_a_pipe_gets_the_conversation_as_it_happened(log_url: str, story: Story) -> None:
    done = replay(log_url, story.id, *FAST)
    assert (done.returncode, done.stdout, done.stderr) == (0, PLAYED.format(id=story.id), "")


def test_a_terminal_gets_the_same_text_in_colours(log_url: str, story: Story) -> None:
    seen = on_a_terminal(log_url, story.id, *FAST)
    assert seen.code == 0
    # A struck line needs no marks where it can be struck.
    expected = PLAYED.format(id=story.id).replace("~~", "")
    assert "\n".join(seen.screen) == expected
    assert "\x1b[2m\x1b[9massistant: Let me see.\x1b[0m" in seen.written
    assert "\x1b" not in SGR.sub("", seen.written)


@pytest.mark.parametrize("columns", [20, 40, 79, 80, 200])
def test_the_text_fits_the_terminal_and_moves_no_cursor(database_url: str, columns: int) -> None:
    from rich.cells import cell_len

    story = Story(title=EVIL)
    story.ask(f"{EVIL} {'漢字かな🎉' * 30} {'long ' * 40}")
    story.stream(*[EVIL, *("e\u0301漢" * 40), "👨\u200d👩\u200d👧" * 20])
    story.fail(detail=EVIL)
    record(database_url, story)
    written = on_a_terminal(database_url, story.id, *FAST, columns=columns).written
    text = SGR.sub("", written).replace("\r\n", "\n")
    assert not set(text) & set("\x1b\x07\r\u202e")
    assert max(map(cell_len, text.split("\n"))) <= columns
    assert "\\x1b[2J\\x1b]0" in "".join(line.removeprefix("  ") for line in text.split("\n"))


@pytest.mark.parametrize("as_of", ["6", "2026-01-02T03:04:09Z"])
def test_as_of_ends_the_conversation_there(log_url: str, story: Story, as_of: str) -> None:
    lines = PLAYED.format(id=story.id).splitlines()
    expected = lines[:9] if as_of == "6" else lines[:7]
    assert replay(log_url, story.id, *FAST, "--as-of", as_of).stdout.splitlines() == expected


def test_as_of_a_time_is_the_last_event_in_log_order_by_then(database_url: str) -> None:
    """The clock was ahead at the first message. Reads over HTTP show it as well."""
    story = Story()
    for words in ("First", "Second", "Third"):
        story.say(words)
    ahead, at = story.events[1].timestamp + timedelta(hours=1), story.events[2].timestamp
    story.events[1] = story.events[1].model_copy(update={"timestamp": ahead})
    record(database_url, story)
    done = replay(database_url, story.id, *FAST, "--as-of", at.isoformat())
    said = {f"  {words}" for words in ("First", "Second", "Third")}
    assert [line for line in done.stdout.splitlines() if line in said] == ["  First", "  Second"]


def test_what_is_before_the_start_is_shown_at_once(database_url: str) -> None:
    # Nothing takes time after the start. A pause before it would last for years.
    story = Story()
    story.ask("Why?")
    story.stream("Because.")
    story.complete("Because.")
    late = [event.model_copy(update={"timestamp": event.timestamp + timedelta(days=9)}) for event in story.events[3:]]
    story.events[3:] = late
    record(database_url, story)
    for start in ("5", "2026-01-11T03:04:09Z", f"{9 * 24 * 3600 + 2.5}s"):
        done = replay(database_url, story.id, "--from", start, "--speed", "0.0000001")
        assert (done.returncode, done.stdout.splitlines()[-2:]) == (0, ["  Because.", "  completed (stop)"])


def test_ctrl_c_ends_a_pause_cleanly(database_url: str) -> None:
    story = Story()
    story.ask("Why?")
    story.stream("Be")
    story.complete("Because.")
    tomorrow = timedelta(days=1)
    story.events[4:] = [
        event.model_copy(update={"timestamp": event.timestamp + tomorrow}) for event in story.events[4:]
    ]
    record(database_url, story)
    with RunningCommand([TURNLOG, *arguments(database_url, story.id)], clean_environment()) as running:
        eventually(lambda: running.output.endswith("  Be"))
        assert running.interrupt() == 0
    assert running.output.endswith("turnlog/demo\n  Be\n")
    assert running.errors == ""


def test_a_long_pause_between_turns_is_shown_and_cut(database_url: str) -> None:
    first = Story()
    first.say("Hello")
    first.events[1:] = [first.events[1].model_copy(update={"timestamp": BEGINNING + timedelta(hours=2, minutes=13)})]
    record(database_url, first)
    assert "\n  … 2 h 12 min later\nuser" in replay(database_url, first.id, *FAST).stdout


def test_an_agent_is_no_conversation(database_url: str) -> None:
    agent = AgentStory()
    agent.define()
    record(database_url, agent)
    done = replay(database_url, agent.events[0].originator_id)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: No conversation {agent.events[0].originator_id}.\n"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--as-of", "19"], 1, "19 is beyond the end of the log"),
        (["--as-of", "2999-01-01T00:00:00Z"], 1, "is beyond the end of the log"),
        (["--as-of", "2026-01-01T00:00:00Z"], 1, "The conversation began later, at position 1."),
        (["--as-of", "0"], 1, "The conversation began later"),
        (["--as-of", "noon"], 2, "--as-of noon: must be a log position or a time"),
        (["--from", "19"], 1, "19 is beyond the end of the log"),
        (["--from", "1h"], 1, "The conversation ended after 9 s."),
        (["--from", "soon"], 2, "--from soon: must be"),
        (["--speed", "0"], 2, "--speed: must be more than 0."),
        (["--speed", "nan"], 2, "--speed"),
        (["--speed", "inf"], 2, "--speed"),
        (["--max-pause", "-1"], 2, "--max-pause: must be a number of seconds."),
        (["--max-pause", "inf"], 2, "--max-pause"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_played_is_an_error(
    log_url: str, story: Story, options: list[str], code: int, words: str
) -> None:
    done = replay(log_url, story.id, *options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert words in done.stderr
