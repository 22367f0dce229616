"""Puts tool calls together from the pieces in which providers stream them.

OpenAI numbers the calls of an answer, and gives id and name with the first piece of each. Other servers number them all
alike or not at all, repeat id and name with every piece, or make up an id for each. So a piece belongs to the call that
its id, else its number, else its place says, unless it opens a call of its own.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from typing import Any, NoReturn, cast
from uuid import uuid4

from turns.model.call import ToolCall
from turns.model.errors import ModelError
from turns.model.streams.storable import storable_json, storable_text

MAX_CALLS = 1000
"""As many as a client can answer in one request."""

Key = int | str | tuple[str, int]
"""What tells calls of one answer apart: a number, or a place in a chunk's list of calls."""


@dataclass(frozen=True, slots=True)
class ToolFragment:
    """A piece of a call: what it adds to a call of the answer, as far as the provider says it.

    `index` is the provider's number of the call, `place` the one in the chunk's list if that holds several.
    """

    index: int | str | None = None
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    extra_content: dict[str, Any] | None = None
    place: int | None = None


@dataclass(slots=True, eq=False)
class _Call:
    id: str
    given_id: str | None
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])
    extra_content: dict[str, Any] = field(default_factory=dict[str, Any])

    def is_whole(self) -> bool:
        """Return whether the arguments are an object already."""
        last = next((piece for piece in reversed(self.arguments) if piece.strip()), "")
        return last.rstrip().endswith("}") and _input(self) is not None


class ToolFragments:
    """The tool calls of one answer, as far as they have come."""

    def __init__(self, known_names: Iterable[str] = ()) -> None:
        """No call has begun. The known names tell a piece of a name from a whole one."""
        self._known = frozenset(known_names)
        self._calls: list[_Call] = []
        self._at: dict[Key, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._last: _Call | None = None

    @property
    def begun(self) -> bool:
        """Whether there is any call."""
        return bool(self._calls)

    def add(self, fragments: Iterable[ToolFragment]) -> None:
        """Take the fragments of one chunk.

        Raises:
            ModelError: there are more calls than anybody can answer.
        """
        for fragment in fragments:
            call = self._call_continued(fragment) or self._begin(fragment)
            self._note(call, fragment)
            if fragment.name and not call.name:
                call.name = storable_text(fragment.name)
            elif fragment.name and self._is_piece_of_name(call, fragment.name):
                call.name += storable_text(fragment.name)
            if fragment.extra_content:
                call.extra_content |= fragment.extra_content
            if not _repeats(call, fragment):
                call.arguments.append(fragment.arguments)

    def complete_calls(self, *, cut_off: bool) -> tuple[ToolCall, ...]:
        """Return the calls in the order they began. Of an answer `cut_off` by its length, those that are complete.

        Raises:
            ModelError: a call's input is no JSON object.
        """
        calls = ((call, _input(call)) for call in self._calls)
        whole = [
            ToolCall(call.id, call.name, data, storable_json(call.extra_content) or None)
            for call, data in calls
            if data is not None and call.name
        ]
        if len(whole) < len(self._calls) and not cut_off:
            raise ModelError("model_error", "The model sent a tool call that cannot be read.")
        return tuple(whole)

    def _call_continued(self, fragment: ToolFragment) -> _Call | None:
        """Return the call that a fragment goes on with, None for one that opens a call."""
        call = self._call_meant(fragment)
        if call is None or not fragment.name or not call.name:
            return call
        if self._is_piece_of_name(call, fragment.name):
            return call
        return call if fragment.name == call.name and self._goes_on(call, fragment) else None

    def _call_meant(self, fragment: ToolFragment) -> _Call | None:
        """Return the call that id, number and place point to, whatever the fragment says of it."""
        numbered = self._at.get(key) if (key := _key(fragment)) is not None else None
        if fragment.id and (known := self._by_id.get(fragment.id)) is not None:
            if numbered is not None and numbered.given_id == fragment.id:
                return numbered
            # Several calls may have one id; a name under a new number begins one.
            return None if fragment.name and fragment.index is not None and numbered is None else known
        if numbered is None and fragment.index is None and fragment.place is not None and not fragment.name:
            numbered = self._calls[fragment.place] if fragment.place < len(self._calls) else None
        if fragment.name and (fragment.id or key is not None):
            return numbered
        return numbered or self._last

    def _is_piece_of_name(self, call: _Call, name: str) -> bool:
        if call.name in self._known or any(call.arguments):
            return False
        return any(known.startswith(call.name + name) for known in self._known)

    def _goes_on(self, call: _Call, fragment: ToolFragment) -> bool:
        """Return whether a fragment that repeats the name of a call belongs to it all the same."""
        opens_input = fragment.arguments.lstrip().startswith("{")
        has_input = any(piece.strip() for piece in call.arguments)
        if fragment.id and call.given_id and fragment.id != call.given_id:
            return has_input and bool(fragment.arguments) and not opens_input and not call.is_whole()
        if not opens_input or not has_input:
            return True
        return not call.is_whole() or (bool(fragment.id) and _repeats(call, fragment))

    def _begin(self, fragment: ToolFragment) -> _Call:
        if len(self._calls) >= MAX_CALLS:
            raise ModelError("model_error", "The model made too many tool calls.")
        call = _Call(self._new_id(storable_text(fragment.id or "")), fragment.id)
        self._calls.append(call)
        return call

    def _note(self, call: _Call, fragment: ToolFragment) -> None:
        """Remember by what a call can be found."""
        self._last = call
        key = _key(fragment)
        if key is not None and (fragment.index is not None or fragment.name):
            self._at[key] = call
        if fragment.id:
            self._by_id[fragment.id] = call
            if call.given_id is None:
                call.given_id, call.id = fragment.id, self._new_id(storable_text(fragment.id))

    def _new_id(self, given: str) -> str:
        """Return the given id if it is the only one of its kind here: results could not be told apart."""
        known = {call.id for call in self._calls}
        return given if given and given not in known else f"call_{uuid4().hex}"


def _key(fragment: ToolFragment) -> Key | None:
    if fragment.index is not None:
        return fragment.index
    return None if fragment.place is None else ("place", fragment.place)


def _repeats(call: _Call, fragment: ToolFragment) -> bool:
    """Return whether a fragment gives an input once more that is there already."""
    text = fragment.arguments.strip()
    return (
        text.startswith("{") and text.endswith("}") and bool(fragment.name) and text == "".join(call.arguments).strip()
    )


def _input(call: _Call) -> dict[str, Any] | None:
    """Return the input of a call, None if it is no object."""
    try:
        return storable_json(_object(_value_of(call.arguments)))
    except (ValueError, RecursionError):
        return None


def _value_of(pieces: list[str]) -> object:
    text = "".join(pieces).strip()
    try:
        return _parsed(text) if text else {}
    except ValueError:
        half, rest = text[: len(text) // 2].strip(), text[len(text) // 2 :].strip()
        if half == rest:
            return _parsed(half)  # some servers send the whole at the end once more
        whole = [piece for piece in pieces if piece.strip()]
        grows = all(later.startswith(earlier) for earlier, later in pairwise(whole))
        if len(whole) < 2 or not grows:
            raise
        return _parsed(whole[-1])  # some servers send with each piece all that they sent before


def _object(value: object) -> dict[str, Any]:
    """Return the object that a value stands for; servers write an object without fields in many ways.

    Raises:
        ValueError: it stands for none.
    """
    if isinstance(value, str) and value.strip():
        value = _parsed(value)  # some servers write JSON twice over
    if value is None or value in ("", []):
        return {}
    if not isinstance(value, dict):
        raise ValueError("no object")
    return cast("dict[str, Any]", value)


def _parsed(text: str) -> object:
    """Parse JSON in which strings may hold control characters, and all numbers can be stored.

    Raises:
        ValueError: it is no JSON.
    """
    return json.loads(text, strict=False, parse_constant=_refuse, parse_float=_finite)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _finite(number: str) -> float:
    if not isfinite(value := float(number)):
        raise ValueError("the number is too large")
    return value
