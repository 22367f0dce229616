"""Each event has its own salt, and a run of deltas derives its salts from one."""

from hashlib import sha256

from domain.events import ConversationEvent
from eventlog.mapper import NewRow, new_row
from eventlog.salts import SALT_BYTES, Salts, derived_salt
from tests.support.histories.builders import Story


def rows_of(events: list[ConversationEvent]) -> list[NewRow]:
    return [new_row(event) for event in events]


def streaming(deltas: int) -> Story:
    story = Story()
    story.ask()
    for number in range(deltas):
        story.stream(f"chunk {number}")
    return story


def test_no_two_events_have_one_salt() -> None:
    salts = Salts()
    made = [salts.next(row) for _ in range(20) for row in rows_of(streaming(5).events)]
    assert {len(salt) for salt in made} == {SALT_BYTES}
    assert len(set(made)) == len(made)


def test_the_salts_of_a_run_of_deltas_follow_from_its_first() -> None:
    salts = Salts()
    rows = rows_of(streaming(4).events)
    made = {row.version: salts.next(row) for row in rows}
    first, *later = [row.version for row in rows if row.type == "StreamDelta"]
    assert [made[version] for version in later] == [derived_salt(made[first], version) for version in later]
    assert derived_salt(b"s" * 16, 258) == sha256(b"s" * 16 + b"\x00\x00\x01\x02").digest()[:16]


def test_another_event_of_the_conversation_begins_a_new_run() -> None:
    salts = Salts()
    rows = rows_of(streaming(2).events)
    before, delta = rows[-2:]
    first = salts.next(before)
    assert salts.next(delta) == derived_salt(first, delta.version)
    salts.next(delta._replace(type="ConversationUpdated"))
    assert salts.next(delta) != derived_salt(first, delta.version)


def test_events_of_another_process_in_between_begin_a_new_run() -> None:
    salts = Salts()
    row = rows_of(streaming(1).events)[-1]
    first = salts.next(row)
    # The other process has ended the turn and begun the next one.
    later = row._replace(version=row.version + 4)
    salt = salts.next(later)
    assert salt != derived_salt(first, later.version)
    after = later._replace(version=later.version + 1)
    assert salts.next(after) == derived_salt(salt, after.version)


def test_runs_of_several_conversations_do_not_mix_and_the_oldest_is_forgotten() -> None:
    salts = Salts(max_runs=2)
    rows = [rows_of(streaming(1).events)[-1] for _ in range(3)]
    firsts = [salts.next(row) for row in rows]
    assert len(set(firsts)) == 3
    later = [row._replace(version=row.version + 1) for row in rows]
    for row, first in zip(later[1:], firsts[1:], strict=True):
        assert salts.next(row) == derived_salt(first, row.version)
    assert salts.next(later[0]) != derived_salt(firsts[0], later[0].version)
