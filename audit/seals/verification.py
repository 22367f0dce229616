"""Verifies a log: positions, digests, sealed heads and a checkpoint."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import NamedTuple

from audit.errors import LogDamagedError, OtherLogError
from audit.proofs.checkpoints import Checkpoint
from audit.proofs.merkle_tree import MerkleTree
from audit.seals.sealed_tree import read_heads, read_origin, read_tree, split_digests
from eventlog.db.connection import Connection, translated_errors
from eventlog.db.database import Database
from eventlog.db.statements import load_statements

SECTION_EVENTS = 8192

Report = Callable[[int, int], None]
"""Takes the number of verified events and the number of all."""

_SQL = load_statements("audit.seals", "verification.sql")
_HEAD, _CHECKPOINT = "The sealed head", "The checkpoint"


class Finding(NamedTuple):
    """The first position of a log that is not as it was recorded, and why."""

    position: int
    reason: str


class Verified(NamedTuple):
    """The result of a verification.

    `events`, `erased` and `heads` count what was verified before the finding, or all without one. `root` is that of the
    tree over these events.
    """

    origin: str
    events: int
    erased: int
    heads: int
    root: bytes
    finding: Finding | None


class _Section(NamedTuple):
    """The answer of PostgreSQL about one section of the log."""

    after: int
    digests: Sequence[bytes]
    erased: int
    finding: Finding | None


class _Expected(NamedTuple):
    """A root that the tree must have at a size."""

    size: int
    root: bytes
    source: str


async def verify_log(
    database: Database,
    workers: int,
    checkpoint: Checkpoint | None = None,
    report: Report = lambda verified, events: None,
    section_events: int = SECTION_EVENTS,
) -> Verified:
    """Verify the events up to the head that the log has now, on `workers` connections.

    Appends go on meanwhile. The events are checked in order, and the first finding ends the verification.

    Raises:
        OtherLogError: the checkpoint is that of another log.
        LogDamagedError: the head or the sealed tree is missing or damaged, and no finding has a position.
        StoreUnavailableError: the database does not answer.
    """
    async with _connections(database, workers) as connections:
        with translated_errors():
            origin = await read_origin(connections[0])
            if checkpoint is not None and checkpoint.origin != origin:
                raise OtherLogError(f"This is a checkpoint of {checkpoint.origin}, but this log is {origin}.")
            # The heads are read before the log's head, so that none of them can be ahead of it.
            expected, damage = await _expected(connections[0], checkpoint)
            bounds = await _bounds(connections[0])
            run = _Run(origin, bounds.last, iter(expected), report)
            if bounds.before is not None:
                return run.result(Finding(bounds.before, "the log begins at position 1."))
            sections = _check_sections(connections, bounds.last, section_events)
            async with aclosing(sections):
                async for section in sections:
                    if finding := run.take(section):
                        return run.result(finding)
            findings = [found for found in (bounds.finding_after(), run.missing()) if found is not None]
            finding = min(findings, key=lambda found: found.position, default=None)
            # Only now: a finding with a position tells more.
            if damage is not None and finding is None:
                raise damage
            return run.result(finding)


class _Run:
    """The verification of sections in order, and the tree over them."""

    def __init__(self, origin: str, last: int, expected: Iterator[_Expected], report: Report) -> None:
        self._origin = origin
        self._last = last
        self._expected = expected
        self._next = next(expected, None)
        self._report = report
        self._tree = MerkleTree()
        self._erased = self._heads = self._sealed = 0

    def take(self, section: _Section) -> Finding | None:
        """Take the next section and return the finding that ends the verification."""
        taken, end = 0, section.after + len(section.digests)
        while self._next is not None and self._next.size <= end:
            upto = self._next.size - section.after
            self._tree.extend(section.digests[taken:upto])
            taken = upto
            if finding := self._check(self._next):
                return finding
            self._next = next(self._expected, None)
        self._tree.extend(section.digests[taken:])
        self._erased += section.erased
        self._report(self._tree.size, self._last)
        return section.finding

    def missing(self) -> Finding | None:
        """Return the finding that the log has ended too early."""
        if self._next is None:
            return None
        return Finding(self._last + 1, f"the event is missing. {self._next.source} covers {self._next.size} events.")

    def result(self, finding: Finding | None) -> Verified:
        """Return the result up to here."""
        return Verified(self._origin, self._tree.size, self._erased, self._heads, self._tree.root(), finding)

    def _check(self, expected: _Expected) -> Finding | None:
        if self._tree.root() != expected.root:
            # All digests match their events, so at least one of them was computed again. The leaves are not kept a
            # second time, so the first of them can only be narrowed down to what the last matching head does not cover.
            first = self._sealed + 1 if expected.source == _HEAD else 1
            source = f"the one that {expected.source.lower()} of {expected.size} events covers"
            return Finding(first, f"this event, or a later one up to {expected.size}, is not {source}.")
        if expected.source == _HEAD:
            self._heads += 1
            self._sealed = expected.size
        return None


class _Bounds(NamedTuple):
    """The position of a log's head, and the first positions before and after the log."""

    last: int
    before: int | None
    after: int | None

    def finding_after(self) -> Finding | None:
        """Return the finding about events after the head."""
        return None if self.after is None else Finding(self.after, f"the log ends at position {self.last}.")


async def _expected(
    connection: Connection, checkpoint: Checkpoint | None
) -> tuple[list[_Expected], LogDamagedError | None]:
    """Return the roots that the tree must have, and the fault of the sealed tree.

    The smallest tree comes first.
    """
    damage = None
    try:
        await read_tree(connection)
    except LogDamagedError as error:
        damage = error
    wanted = [_Expected(size, root, _HEAD) for size, root in await read_heads(connection)]
    if checkpoint is not None:
        wanted.append(_Expected(checkpoint.size, checkpoint.root, _CHECKPOINT))
    # Of a head and a checkpoint of one size the head comes first, because it narrows a finding down.
    return sorted(wanted, key=lambda each: (each.size, each.source == _CHECKPOINT)), damage


async def _bounds(connection: Connection) -> _Bounds:
    cursor = await connection.execute(_SQL["read_bounds"], binary=True)
    row = await cursor.fetchone()
    if row is None:
        raise LogDamagedError("The head of the log is missing.")
    return _Bounds(*row)


async def _check_sections(
    connections: Sequence[Connection], last: int, section_events: int
) -> AsyncGenerator[_Section]:
    """Yield the sections of the log in order, after an empty one.

    Each connection checks one section at a time.
    """
    yield _Section(0, (), 0, None)
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in connections:
        idle.put_nowait(connection)

    async def check(after: int) -> _Section:
        connection = await idle.get()
        try:
            return await _check_section(connection, after, min(after + section_events, last))
        finally:
            idle.put_nowait(connection)

    running: deque[asyncio.Task[_Section]] = deque()
    try:
        for after in range(0, last, section_events):
            running.append(asyncio.create_task(check(after)))
            # One section more than connections waits, so that none is idle while this one is taken.
            if len(running) > len(connections):
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _check_section(connection: Connection, after: int, upto: int) -> _Section:
    parameters = {"after": after, "upto": upto}
    cursor = await connection.execute(_SQL["check_section"], parameters, binary=True)
    row = await cursor.fetchone()
    assert row is not None
    count, positions, digests, bad, erased = row
    findings: list[Finding] = []
    if bad is not None:
        findings.append(Finding(bad, "the event does not match its digest."))
    # With one event too many and one too few, only the number of positions differs.
    if (count, positions) != (upto - after, upto - after):
        cursor = await connection.execute(_SQL["find_misnumbered"], parameters, binary=True)
        if misnumbered := await cursor.fetchone():
            position, number = misnumbered
            findings.append(Finding(position, "several events have it." if number else "the event is missing."))
    if findings:
        first = min(findings)
        # Digests after the finding belong to no tree. Those before it do.
        return _Section(after, split_digests(digests)[: first.position - after - 1], erased, first)
    return _Section(after, split_digests(digests), erased, None)


@asynccontextmanager
async def _connections(database: Database, number: int) -> AsyncGenerator[list[Connection]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(await database.connect()) for _ in range(number)]
