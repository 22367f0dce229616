"""Reads of the past, against the same reads of now."""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple
from uuid import UUID

from benchmarks.measure import Measurement, Plan, Target
from benchmarks.workload.callers import Work, call_ms
from benchmarks.workload.generator import BEGINNING, GeneratedEvent, made_id, write_log
from benchmarks.workload.scripts import Script, scripts
from eventlog.db.database import Database
from eventlog.log import Log
from projections.as_of.past_history import PastHistory
from projections.as_of.past_listing import PastListing
from projections.as_of.past_reads import PastReads
from projections.catalog import PROJECTIONS, install
from projections.models.context import Context
from projections.models.history import History
from projections.models.listing import Listing
from projections.models.listing_filter import ListingFilter
from projections.rebuild.builder import BuildStep, open_builder
from projections.rebuild.rebuild import rebuild
from turns.model.sent_context import sent_context

NAME = "as_of"
OWNER, OTHER = "local", "other"
CONVERSATIONS, TURNS = 1_000, 5
LONG_EVENTS = 10_000
PAGE, MESSAGES, TOKENS = 20, 50, 8_000
CALLS = 200
WORKERS = 2


class Readers(NamedTuple):
    """The readers of now, or of a position."""

    listing: Listing | PastListing
    history: History | PastHistory
    context: Context


class MadeLog:
    """A log of one owner's conversations, and then of two long ones of another owner.

    The first of the long ones was streamed, the second recorded by a client. All follow each other, so that times grow
    with positions.
    """

    def __init__(self, conversations: int = CONVERSATIONS, long_events: int = LONG_EVENTS) -> None:
        self._conversations = conversations
        self._long_events = long_events
        self._random = Random(1)
        self._at_us = 0
        self.streamed = self.recorded = ""

    def events(self) -> Iterator[GeneratedEvent]:
        """Yield the events in log order."""
        made = scripts(self._random)
        for _ in range(self._conversations):
            turns = self._random.choices(made.completed, k=TURNS)
            yield from self._conversation(self._next_id(), OWNER, [self._random.choice(made.beginnings), *turns])
        self.streamed, self.recorded = self._next_id(), self._next_id()
        for id_, kind in ((self.streamed, made.completed), (self.recorded, made.recorded)):
            yield from self._conversation(id_, OTHER, self._enough(made.beginnings[0], kind))

    def time_at(self, part: float) -> timedelta:
        """Return the time since the beginning at a part of the log."""
        return timedelta(microseconds=self._at_us * part)

    def _next_id(self) -> str:
        self._at_us += 1_000
        return made_id(self._random, self._at_us)

    def _enough(self, beginning: Script, kind: list[Script]) -> list[Script]:
        """Return scripts of a kind for a long conversation."""
        chosen = [beginning]
        while sum(map(len, chosen)) < self._long_events:
            chosen.append(self._random.choice(kind))
        return chosen

    def _conversation(self, id_: str, owner: str, chosen: list[Script]) -> Iterator[GeneratedEvent]:
        version = 0
        for script in chosen:
            ids = {name: made_id(self._random, self._at_us) for name in ("turn", "question", "answer")}
            ids |= {"owner": owner, "deleted": "", "asked": str(version + 1)}
            for step in script:
                self._at_us, version = self._at_us + 1 + step.after_us, version + 1
                yield GeneratedEvent(self._at_us, id_, version, step.type, step.template % ids, f"user:{owner}")


async def run(plan: Plan) -> list[Measurement]:
    """Return the times of each read of the past, and of the same read of now."""
    made = MadeLog()
    await make(plan.conninfo, made)
    database = Database(plan.conninfo)
    await database.open()
    try:
        log = Log(database)
        head, past = await log.head(), PastReads(database, log)
        now = Readers(Listing(database), History(database), Context(database, log))
        then = Readers(past.listing(head), past.history(head), past.context(head))
        lines = [
            await _measured(plan, f"{name}, {LONG_EVENTS:,} events, {kind}", work, _work(now, UUID(id_))[name], 50)
            for kind, id_ in (("streamed", made.streamed), ("recorded by a client", made.recorded))
            for name, work in _work(then, UUID(id_)).items()
        ]
        listing = f"first page of {CONVERSATIONS:,} conversations"
        lines.append(await _measured(plan, listing, _page(then), _page(now), 300))
        moments = [BEGINNING + made.time_at(part) for part in (0.1, 0.5, 0.9)]
        found = await plan.interleave({"time": lambda seconds: call_ms(seconds, CALLS, _search(log, moments))})
        search = f"positions of {len(moments)} times in {head:,} events"
        return [*lines, Measurement(NAME, search, "ms", found["time"])]
    finally:
        await database.close()


async def make(conninfo: str, made: MadeLog) -> None:
    """Write a log, and build all read models."""
    await asyncio.to_thread(write_log, conninfo, "turnlog", made.events())
    await asyncio.to_thread(install, conninfo)
    async with open_builder(conninfo, "turnlog", WORKERS, _ignore) as builder:
        await rebuild(builder, PROJECTIONS)


async def _measured(plan: Plan, measure: str, then: Work, now: Work, at_most_ms: float) -> Measurement:
    figures = await plan.interleave(
        {
            "then": lambda seconds: call_ms(seconds, CALLS, then),
            "now": lambda seconds: call_ms(seconds, CALLS, now),
        }
    )
    target = Target(at_most_ms, at_least=False, of_ratio=False)
    return Measurement(NAME, measure, "ms", figures["then"], "the same of now", figures["now"], target)


def _work(readers: Readers, id_: UUID) -> dict[str, Work]:
    """Return the reads of one conversation, by name."""

    async def conversation() -> None:
        assert await readers.listing.get(id_) is not None

    async def messages() -> None:
        page = await readers.history.page(id_, descending=False, superseded=False, beyond=None, limit=MESSAGES)
        assert len(page) == MESSAGES

    async def context() -> None:
        assert (await sent_context(readers.context, id_, TOKENS)).messages

    return {"conversation": conversation, f"{MESSAGES} messages": messages, f"context of {TOKENS:,} tokens": context}


def _page(readers: Readers) -> Work:
    async def page() -> None:
        assert len(await readers.listing.page(OWNER, ListingFilter(), None, PAGE)) == PAGE

    return page


def _search(log: Log, moments: list[datetime]) -> Work:
    async def search() -> None:
        for moment in moments:
            assert await log.position_of(moment) > 0

    return search


def _ignore(step: BuildStep) -> None:
    pass
