"""`turnlog import` of conversations, against the same events by the writer alone."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from audit.imports.import_batches import BATCH_CONVERSATIONS
from benchmarks.audits.exports import MOST_ROUNDS, ExportRun, in_own_process
from benchmarks.machine import peak_mb
from benchmarks.measure import Measurement, Plan, Target
from benchmarks.workload.store import CALLER, dialogue
from benchmarks.workload.texts import turns
from cli.database_options import ExistingLog
from cli.imports.import_conversations import record_export
from commands.tokens import Tokenizer
from domain.content import plain_text
from domain.decisions.conversations import Draft, start_conversation
from eventlog.clock import new_id
from eventlog.mapper import NewRow, new_row
from eventlog.opening import open_log
from eventlog.writer import GroupCommitWriter
from projections.catalog import prepare

NAME = "conversation_imports"
BASELINE = "the same events by the writer alone, in the same groups, with rows made before the clock starts"
SCHEMA = "turnlog"
MESSAGES = 50
MOST_EVENTS = 200_000


class ConversationImports:
    """Imports of one file of conversations.

    Each is for another owner, by a process of its own.
    """

    def __init__(self, conninfo: str, conversations: int, path: Path) -> None:
        self._conninfo = conninfo
        self._path = path
        self._conversations = conversations
        self._owners = count(1)
        self.events = conversations * (MESSAGES + 1)
        self.runs: list[ExportRun] = []

    async def make(self) -> None:
        """Create the log, and write the file."""
        await asyncio.to_thread(prepare, self._conninfo, SCHEMA)
        messages = dialogue(turns(), 4 * MESSAGES)
        said = [{"role": message.role, "content": plain_text(message.content)} for message in messages]
        with self._path.open("w") as file:
            for number in range(self._conversations):
                first = number % 4 * MESSAGES
                conversation = {"id": f"c{number}", "messages": said[first : first + MESSAGES]}
                file.write(json.dumps(conversation) + "\n")

    async def imported(self, _: float) -> float:
        """Import the file for another owner and return events per second."""
        owner = f"owner-{next(self._owners)}"
        run = await in_own_process(partial(_import, self._conninfo, self._path, owner, self._conversations))
        self.runs.append(run)
        return self.events / run.seconds

    async def written(self, _: float) -> float:
        """Append the same events and return events per second."""
        rows = _rows()
        async with open_log(self._conninfo, SCHEMA, listening=False) as opened:
            start = perf_counter()
            for first in range(0, self._conversations, BATCH_CONVERSATIONS):
                number = min(BATCH_CONVERSATIONS, self._conversations - first)
                await asyncio.gather(*(_append(opened.writer, rows) for _ in range(number)))
            return self.events / (perf_counter() - start)


async def run(plan: Plan) -> list[Measurement]:
    """Return events per second of imports, and peak memory."""
    with TemporaryDirectory() as directory:
        conversations = min(plan.events, MOST_EVENTS) // (MESSAGES + 1)
        imports = ConversationImports(plan.conninfo, conversations, Path(directory) / "chats.jsonl")
        await imports.make()
        sides = {"writer": imports.written, "import": imports.imported}
        figures = await replace(plan, rounds=min(plan.rounds, MOST_ROUNDS)).interleave(sides)
    measure = f"{conversations:,} conversations of {MESSAGES} messages"
    peaks = [each.peak_mb for each in imports.runs]
    fast, memory = Target(50_000, of_ratio=False), Target(300, at_least=False, of_ratio=False)
    return [
        Measurement(NAME, measure, "events/s", figures["import"], BASELINE, figures["writer"], fast),
        Measurement(NAME, f"{measure}, peak memory", "MB", peaks, target=memory),
    ]


def _import(conninfo: str, path: Path, owner: str, conversations: int) -> ExportRun:
    existing = ExistingLog(conninfo, SCHEMA, read_only=False)
    start, used = perf_counter(), process_time()
    counts = record_export(existing, path, "openai", owner, dry_run=False)
    seconds = perf_counter() - start
    assert counts.conversations == conversations
    return ExportRun(seconds, process_time() - used, peak_mb())


def _rows() -> list[NewRow]:
    """Return the rows of one conversation."""
    tokenizer = Tokenizer()
    drafts = [
        Draft(new_id(), said.role, said.content, tokenizer.count(plain_text(said.content)), tokenizer.name)
        for said in dialogue(turns(), MESSAGES)
    ]
    return list(map(new_row, start_conversation(new_id(), CALLER.origin(), messages=drafts)))


async def _append(writer: GroupCommitWriter, rows: Sequence[NewRow]) -> None:
    id_ = new_id()
    await writer.append([row._replace(aggregate_id=id_) for row in rows])
