"""The conversations of a JSON file, one at a time."""

import math
from collections.abc import Callable, Iterator
from itertools import chain, count
from typing import Any

import ijson

from audit.imports.checked_bytes import MAX_CONVERSATION_BYTES, CheckedBytes, Readable
from audit.imports.errors import ImportFormatError, at, shown

MAX_NESTING = 256
MAX_VALUES = 2_000_000
"""The keys and values of one conversation. Each takes up to 100 times its bytes in memory."""

Container = dict[str, Any] | list[Any]

_OUT_OF_RANGE = "a number is out of range"
_EMPTY = "empty, or not JSON"
_CUT_OFF = "the file ends here, in the middle of the JSON"
_CONTAINERS: dict[str, Callable[[], Container]] = {"start_map": dict, "start_array": list}
_END = object()

Event = tuple[str, Any]
"""An event of ijson: its name, and the key or the value."""


def json_values(
    file: Readable, max_bytes: int = MAX_CONVERSATION_BYTES, max_values: int = MAX_VALUES
) -> Iterator[tuple[int, Any]]:
    """Yield the values of a file that are conversations, with their numbers from 1.

    They are the elements of an array, the elements of `conversations` of an object, or objects one after another, such
    as one on each line.

    Raises:
        ImportFormatError: the file is not JSON in UTF-8, is cut off, has half a surrogate pair, a number out of range
            or a key twice in one object, is nested too deep, or a conversation has more than about
            `max_bytes` or `max_values`.
    """
    source = CheckedBytes(file, max_bytes)
    events = _events(source, max_values)
    beginning = next(events, None)
    if beginning is None:
        raise ImportFormatError(_EMPTY)
    values = _values(chain([beginning], events), source)
    for number in count(1):
        with at(f"conversation {number}"):
            value = next(values, _END)
        if value is _END:
            return
        yield number, value


def _events(source: CheckedBytes, max_values: int) -> Iterator[Event]:
    """Yield the events of a parser, whose errors become import errors."""
    begun = False
    try:
        # Several values are the lines of JSON Lines. Without use_float an integer of thousands of digits, which Python
        # refuses to convert, ends the process in the C backend.
        events: Iterator[Event] = ijson.basic_parse(source, multiple_values=True, use_float=True)
        for event in events:
            begun = True
            source.values += 1
            if source.values > max_values:
                raise ImportFormatError(f"more than {max_values:,} values")
            yield event
    except ijson.JSONError as error:
        raise ImportFormatError(_fault(error, source, begun=begun)) from error
    except (ValueError, OverflowError) as error:
        raise ImportFormatError(_OUT_OF_RANGE) from error


def _fault(error: ijson.JSONError, source: CheckedBytes, *, begun: bool) -> str:
    """Return the fault that the parser found, in one line without what people said."""
    reason: object = error.args[0] if error.args else ""
    text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
    if "overflow" in text.partition("\n")[0]:
        return _OUT_OF_RANGE
    if source.ended:
        return _CUT_OFF if begun else _EMPTY
    return "not JSON"


def _values(events: Iterator[Event], source: CheckedBytes) -> Iterator[Any]:
    for event, value in events:
        if event == "start_array":
            yield from _elements(events, source)
        elif event == "start_map":
            yield from _object(events, source)
        else:
            yield value
        source.next_conversation()


def _elements(events: Iterator[Event], source: CheckedBytes) -> Iterator[Any]:
    """Yield the elements of an array that has begun."""
    for event in events:
        if event[0] == "end_array":
            return
        source.next_conversation()
        yield _built(event, events)


def _object(events: Iterator[Event], source: CheckedBytes) -> Iterator[Any]:
    """Yield an object that has begun, or the elements of its `conversations`."""
    members: dict[str, Any] = {}
    holds_conversations = False
    for event, key in events:
        if event == "end_map":
            break
        beginning = next(events)
        if key == "conversations" and beginning[0] == "start_array":
            holds_conversations = True
            yield from _elements(events, source)
        else:
            _check_new(key, members)
            members[key] = _built(beginning, events)
    if not holds_conversations:
        yield members


def _built(beginning: Event, events: Iterator[Event]) -> Any:
    """Return the value that begins with an event."""
    # A loop and no recursion, so that no nesting in a file exhausts the stack.
    built: list[Any] = []
    open_containers: list[Container] = [built]
    key = ""
    event, value = beginning
    while True:
        container = open_containers[-1]
        if event == "map_key":
            assert isinstance(container, dict)
            _check_new(value, container)
            key = value
        elif event in ("end_map", "end_array"):
            open_containers.pop()
        else:
            new: Any = _CONTAINERS[event]() if event in _CONTAINERS else _scalar(value)
            if isinstance(container, dict):
                container[key] = new
            else:
                container.append(new)
            if event in _CONTAINERS:
                _check_nesting(open_containers)
                open_containers.append(new)
        if len(open_containers) == 1:
            return built[0]
        event, value = next(events)


def _check_new(key: str, members: dict[str, Any]) -> None:
    if key in members:
        raise ImportFormatError(f"the key {shown(key)} is there twice in one object")


def _check_nesting(open_containers: list[Container]) -> None:
    if len(open_containers) > MAX_NESTING:
        raise ImportFormatError(f"nested deeper than {MAX_NESTING} levels")


def _scalar(value: Any) -> Any:
    """Return a value that is no container, which JSON must be able to hold."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ImportFormatError(_OUT_OF_RANGE)
    return value
