"""Lines of an export are read with the exact text of their data."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.exports.errors import ExportDamagedError
from audit.exports.jsonl_events import parse_line, read_jsonl

ENVELOPE: dict[str, Any] = {
    "position": 7,
    "recorded_at": "2026-01-02T03:04:05.678901+00:00",
    "aggregate": "conversation",
    "aggregate_id": "01a1fcdb-2f79-7502-8e7f-3aecd04c02a9",
    "version": 3,
    "type": "MessageAdded",
    "actor": "user:alice",
    "request_id": None,
    "salt": "ab" * 16,
    "digest": "cd" * 32,
}


def line(data: str = '{"a": 1.10}', **changes: Any) -> bytes:
    envelope = json.dumps(ENVELOPE | changes, ensure_ascii=False, separators=(",", ":"))
    return f'{envelope[:-1]},"data":{data}}}\n'.encode()


def test_a_line_is_read() -> None:
    event = parse_line(line())
    assert (event.position, event.version, event.recorded_us) == (7, 3, 820_638_245_678_901)
    assert (event.data, event.salt, event.digest) == (b'{"a": 1.10}', b"\xab" * 16, b"\xcd" * 32)
    assert (event.request_id, event.content_hash, event.idempotency_key) == (None, None, None)


@given(st.text(st.characters(exclude_categories=("Cs",))), st.text(st.characters(exclude_categories=("Cs",))))
def test_no_text_is_taken_for_the_data(actor: str, said: str) -> None:
    data = json.dumps({"data": said, "more": {',"data":': actor}})
    for text in (actor, f'{actor},"data":{said}'):
        event = parse_line(line(data, actor=text, request_id=said))
        assert (event.actor, event.request_id, event.data) == (text.encode(), said.encode(), data.encode())


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\n",
        b"[]\n",
        b'{"position":1}\n',
        line()[:-1],
        line()[:-5] + b"\n",
        line().replace(b'"aggregate":', b'"aggregat":'),
        line(recorded_at="2026-01-02T03:04:05"),
        line(recorded_at=5),
        line(aggregate_id="7"),
        line(actor=None),
        line(type=5),
        line(digest="xy"),
        line(salt=5),
        b"\xff" + line(),
        line().replace(b"alice", b"al\xffce"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, broken: bytes) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(line() + (broken or b"\n"))
    with pytest.raises(ExportDamagedError, match=r"^events\.jsonl, line 2: this is no event of an export\.$"):
        list(read_jsonl(file))
