"""Every recipe of docs/reading-the-log.md gives the promised result in psql."""

import os
import re
import subprocess
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.utils import Environment

from commands.commands import Caller, ClientMessage
from domain.content import ImageBlock, TextBlock
from domain.decisions import conversations, running_turns, turn_starts
from domain.decisions.conversations import Draft, Origin
from domain.decisions.running_turns import ModelAnswer
from domain.decisions.turn_starts import TurnIds, TurnSettings
from domain.model_usage import Usage
from eventlog.library.application import ConversationApplication
from postgres.programs import find_programs
from projections.catalog import PROJECTIONS, find_projection, install
from tests.support.store import PATIENCE_S, opened, rows

TEXT = (Path(__file__).parents[3] / "docs" / "reading-the-log.md").read_text()
EXAMPLE_ID = "01a1fcdb-2f79-7502-8e7f-3aecd04c02a9"
AT = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
ORIGIN = Origin("local", "user:local", AT)
RECIPES = {
    heading: re.findall(r"```sql\n(.*?)```", body, re.DOTALL)
    for heading, body in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    if "```sql" in body
}


class RecordedLog:
    """A log with a completed and a failed turn, and psql on it."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        install(database_url)
        environment = {"PERSISTENCE_MODULE": "eventlog.library", "TURNLOG_DATABASE_URL": database_url}
        with ConversationApplication(Environment("", environment)) as application:
            self.conversation_id = record(application)

    def rows(self, heading: str, index: int = 0) -> list[list[str]]:
        recipe = RECIPES[heading][index].replace(EXAMPLE_ID, str(self.conversation_id))
        done = subprocess.run(
            [find_programs() / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", self.database_url],
            input=recipe,
            env=os.environ | {"PGOPTIONS": options()},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return [line.split("|") for line in done.stdout.splitlines()]

    def tamper(self, statement: str) -> None:
        """Run a statement as a superuser with the trigger disabled."""
        with psycopg.connect(self.database_url, options="-c search_path=turnlog", autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(statement.encode())


def record(application: ConversationApplication) -> UUID:
    conversation_id = uuid4()
    usage = Usage.model_validate({"input_tokens": 7, "output_tokens": 5, "cost_usd": "0.0012"})
    answer = ModelAnswer((TextBlock(text="Hello."),), 2, "o200k_base", usage, "stop", 120.0, 300.0)
    nothing = ModelAnswer((), 0, "o200k_base")
    application.start(conversations.start_conversation(conversation_id, ORIGIN, title="Recipes"))
    turn_id = start_turn(application, conversation_id)
    application.execute(conversation_id, lambda state: running_turns.complete_turn(state, ORIGIN, turn_id, answer))
    broken_id = start_turn(application, conversation_id)
    failure = {"reason": "model_timeout", "detail": "The provider did not answer in time."}
    application.execute(
        conversation_id, lambda state: running_turns.fail_turn(state, ORIGIN, broken_id, nothing, **failure)
    )
    return conversation_id


def start_turn(application: ConversationApplication, conversation_id: UUID) -> UUID:
    turn_id, draft = uuid4(), Draft(uuid4(), "user", (TextBlock(text="Hi!"),), 2, "o200k_base")
    ids, settings = TurnIds(turn_id, uuid4(), uuid4()), TurnSettings("gpt-4o")
    application.execute(conversation_id, lambda state: turn_starts.start_turn(state, ORIGIN, draft, settings, ids))
    return turn_id


def options() -> str:
    found = re.search(r"^export PGOPTIONS='(.*)'$", TEXT, re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture
def log(database_url: str) -> RecordedLog:
    return RecordedLog(database_url)


def test_every_recipe_has_a_test() -> None:
    code = Path(__file__).read_text()
    assert [heading for heading in RECIPES if f'rows("{heading}"' not in code] == []


def test_the_socket_is_in_the_directory_that_the_pid_file_names(postgres: str) -> None:
    found = re.search(r"PGHOST=\$\((.*?)\)", TEXT)
    assert found
    directory, socket = rows(
        postgres, "SELECT current_setting('data_directory'), current_setting('unix_socket_directories')"
    )[0]
    command = found[1].replace("~/.local/share/turnlog/postgres", directory)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == socket.strip('"')


def test_the_last_events_are_listed_newest_first(log: RecordedLog) -> None:
    rows = log.rows("The last events")
    assert [row[0] for row in rows] == [str(position) for position in range(8, 0, -1)]
    assert rows[0][4] == "TurnFailed"


def test_a_conversation_and_its_messages(log: RecordedLog) -> None:
    assert [row[0] for row in log.rows("One conversation")] == [str(version) for version in range(1, 9)]
    assert [row[1:] for row in log.rows("The messages of a conversation")] == [
        ["user", "Hi!"],
        ["assistant", "Hello."],
        ["user", "Hi!"],
    ]


def test_tokens_latency_and_failures(log: RecordedLog) -> None:
    assert log.rows("Tokens and cost per day") == [["2026-03-01", "1", "7", "5", "0.0012"]]
    assert log.rows("Time to the first token") == [["gpt-4o", "1", "120", "120"]]
    assert [row[:2] for row in log.rows("Why turns failed")] == [["model_timeout", "1"]]


async def test_cost_by_model_and_day(log: RecordedLog) -> None:
    async with opened(log.database_url) as store, store.projecting(find_projection("usage")) as progress:
        assert await progress.wait(8, PATIENCE_S) == []
    assert log.rows("Cost by model and day") == [["2026-03-01", "gpt-4o", "2", "7", "5", "0.0012"]]


def test_a_changed_event_no_longer_matches_its_digest(log: RecordedLog) -> None:
    assert log.rows("Check the digests") == []
    log.tamper("UPDATE events SET data = jsonb_set(data, '{title}', '\"Forged\"') WHERE position = 1")
    assert log.rows("Check the digests") == [["1", str(log.conversation_id), "1"]]


async def test_the_images_of_a_conversation_match_their_hashes(log: RecordedLog) -> None:
    image = ImageBlock(media_type="image/gif", data=b64encode(b"GIF89a").decode())
    async with opened(log.database_url, listening=False) as store:
        started = await store.commands.start(
            Caller("local", "user:local"), messages=[ClientMessage("user", (TextBlock(text="Look:"), image))]
        )
    log.conversation_id = started.state.id
    assert log.rows("The images of a conversation") == [["2", "image/gif", "6", sha256(b"GIF89a").hexdigest()]]
    assert [log.rows("Check the images", index) for index in range(2)] == [[], []]
    log.tamper("UPDATE images SET data = 'GIF87a'")
    assert log.rows("Check the images", 0) == [[sha256(b"GIF89a").hexdigest()]]
    log.tamper("DELETE FROM images")
    assert log.rows("Check the images", 1) == [["10", sha256(b"GIF89a").hexdigest()]]


def test_a_removed_event_leaves_a_gap(log: RecordedLog) -> None:
    heading = "Check that nothing is missing"
    assert [log.rows("Check that nothing is missing", index) for index in range(2)] == [[], []]
    log.tamper("DELETE FROM events WHERE position IN (3, 8)")
    assert log.rows(heading, 0) == [["3"], ["8"]]
    assert log.rows(heading, 1) == [[str(log.conversation_id), "6", "7"]]


def test_read_models_and_sizes(log: RecordedLog) -> None:
    models = log.rows("How far the read models are")
    versions = {projection.name: str(projection.version) for projection in PROJECTIONS}
    assert [row[:4] for row in models] == [[name, versions[name], "0", "8"] for name in sorted(versions)]
    assert {"events", "head", "listing_v3_1"} <= {row[0] for row in log.rows("How large it is")}
