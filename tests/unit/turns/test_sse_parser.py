"""Parsing server-sent events by the rules of the WHATWG, and somewhat leniently."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turns.model.errors import ModelError
from turns.model.streams.sse_parser import MAX_ANSWER_SIZE, EventParser, ServerEvent, event_bytes, parsed

A, B = b'{"a": 1}', b'{"b": 2}'
BOTH = [ServerEvent(b"", A), ServerEvent(b"", B)]


def events_of(*pieces: bytes) -> list[ServerEvent]:
    parser = EventParser()
    return [*(event for piece in pieces for event in parser.feed(piece)), *parser.end()]


@pytest.mark.parametrize(
    "stream",
    [
        b"data: %b\n\ndata: %b\n\n",
        b"data:%b\n\ndata:%b\n\n",
        b"data: %b\r\n\r\ndata: %b\r\n\r\n",
        b"data: %b\r\rdata: %b\r\r",
        b"data: %b\n\r\ndata: %b\r\n\r",
        b"\xef\xbb\xbfdata: %b\n\ndata: %b\n\n",
        b"\xef\xbb\xbf\n\ndata: %b\n\ndata: %b\n\n",
        b": comment\n\ndata: %b\n\n: comment\n\ndata: %b\n\n",
        b": comment\ndata: %b\n: comment\n\n:\n\ndata: %b\n\n",
        b"retry: 3000\n\ndata: %b\n\nid: 2\ndata: %b\n\n",
        b"data: %b\n\n\n\n\ndata: %b\n\n",
        b"data: %b  \n\ndata:   %b\n\n",
        b"data\n\ndata: %b\n\ndata:\n\ndata: \n\ndata: %b\n\n",
        b"unknown: field\ndata: %b\n\nno colon\ndata: %b\n\n",
        b"data: %b\n\ndata: %b",
        b"data: %b\n\ndata: %b\n",
        b"data: %b\ndata: %b\n",
        b"data: %b\ndata: %b\n\n",
    ],
)
def test_every_framing_gives_the_same_two_events(stream: bytes) -> None:
    whole = stream % (A, B)
    assert events_of(whole) == BOTH
    assert events_of(*(whole[at : at + 1] for at in range(len(whole)))) == BOTH


def test_the_data_lines_of_an_event_are_joined() -> None:
    assert events_of(b'data: {"a":\ndata: [1,\ndata: 2]}\n\n') == [ServerEvent(b"", b'{"a":\n[1,\n2]}')]


def test_an_event_has_its_own_name_only() -> None:
    stream = b"event: ping\n\nevent: a\ndata: %b\n\ndata: %b\n\n" % (A, B)
    assert events_of(stream) == [ServerEvent(b"ping", b""), ServerEvent(b"a", A), ServerEvent(b"", B)]


def test_the_start_of_an_event_completes_the_one_before_it() -> None:
    parser = EventParser()
    assert parser.feed(b"data: %b\ndata: %b\n" % (A, B)) == BOTH[:1]


@pytest.mark.parametrize("body", [b'{"error":\n  {"code": 429}\n}', b'\xef\xbb\xbf\n {"error": {"code": 429}}\n'])
def test_a_json_document_instead_of_a_stream_is_one_event(body: bytes) -> None:
    (event,) = events_of(body)
    assert parsed(event.data) == {"error": {"code": 429}}


def test_lines_of_json_are_events() -> None:
    assert events_of(b"%b\n%b\n" % (A, B)) == BOTH


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"data: 1", b"data", b":", b"event: x", b"\xef\xbb\xbf"])),
    st.data(),
)
def test_the_events_do_not_depend_on_how_the_bytes_are_split(parts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)))) | {0, len(whole)})
    assert events_of(*(whole[begin:end] for begin, end in pairwise(cuts))) == events_of(whole)


@given(st.text(), st.sampled_from([b"", b"message_start"]))
def test_a_rewritten_event_is_a_single_line_with_the_same_text(text: str, name: bytes) -> None:
    data = json.dumps({"text": text}, ensure_ascii=False).encode("utf-8", "surrogatepass").decode(errors="replace")
    written = event_bytes(ServerEvent(name, data.encode()))
    *names, line = written.decode().splitlines()[:-1]
    assert names == ([f"event: {name.decode()}"] if name else [])
    assert json.loads(line.removeprefix("data: ")) == json.loads(data)


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 100, b"data: {\n", b": comment"])
def test_an_endless_event_is_not_buffered(stream: bytes) -> None:
    parser = EventParser()
    parser.feed(stream)
    with pytest.raises(ModelError, match="too large"):
        parser.feed(b"x" * MAX_ANSWER_SIZE)


def test_a_piece_may_hold_any_number_of_events() -> None:
    parser = EventParser()
    parser.feed(b"data: ")
    piece = b'"%b"\n\ndata: ' % (b"x" * (MAX_ANSWER_SIZE // 8))
    assert sum(len(parser.feed(piece)) for _ in range(20)) == 20


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'"\\ud83d"', "\ud83d"),
        (b'"\xff"', "\ufffd"),
        (b'"a\tb"', "a\tb"),
        (b'"\xe2\x80\xa8"', "\u2028"),
    ],
)
def test_text_that_strict_json_refuses_is_accepted(data: bytes, text: str) -> None:
    assert parsed(b'{"text": %b}' % data) == {"text": text}
