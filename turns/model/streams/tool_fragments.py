"""Assembles tool calls from the fragments in which providers stream them.

OpenAI numbers the calls of an answer, and sends id and name with the first fragment of each. Other servers give all
calls one number or none, repeat id and name with every fragment, or make up an id for each fragment. So a fragment
belongs to the call that its id, else its number, else its place identifies, unless it begins a new call.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from typing import Any, NoReturn, cast
from uuid import uuid4

from turns.model.errors import ModelError
from turns.model.gateway_types import ToolCall
from turns.model.streams.storable import repaired_json, repaired_text

MAX_CALLS = 1000
"""The most results that a client can send in one request."""

Key = int | str | tuple[str, int]
"""Identifies a call of an answer: its number, or its place in a chunk's list of calls."""


@dataclass(frozen=True, slots=True)
class ToolFragment:
    """A fragment of a tool call, with the fields that the provider sent.

    `index` is the provider's number of the call. `place` is its place in the chunk's list of calls, None if the list
    has a single one.
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

    def is_complete(self) -> bool:
        """Return whether the arguments received so far are an object."""
        last = next((piece for piece in reversed(self.arguments) if piece.strip()), "")
        return last.rstrip().endswith("}") and _input(self) is not None


class ToolFragments:
    """The tool calls of one answer, as far as they have been received.

    `known_names` distinguish a fragment of a name from a complete one.
    """

    def __init__(self, known_names: Iterable[str] = ()) -> None:
        self._known = frozenset(known_names)
        self._calls: list[_Call] = []
        self._at: dict[Key, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._last: _Call | None = None

    @property
    def begun(self) -> bool:
        """True once there is a call."""
        return bool(self._calls)

    def add(self, fragments: Iterable[ToolFragment]) -> None:
        """Add the fragments of one chunk.

        Raises:
            ModelError: there are more calls than a client can answer.
        """
        for fragment in fragments:
            call = self._continued_call(fragment) or self._begin(fragment)
            self._remember(call, fragment)
            if fragment.name and not call.name:
                call.name = repaired_text(fragment.name)
            elif fragment.name and self._extends_name(call, fragment.name):
                call.name += repaired_text(fragment.name)
            if fragment.extra_content:
                call.extra_content |= fragment.extra_content
            if not _repeats(call, fragment):
                call.arguments.append(fragment.arguments)

    def complete_calls(self, *, cut_off: bool) -> tuple[ToolCall, ...]:
        """Return the calls in the order in which they began.

        An answer that was `cut_off` may have incomplete ones.

        Raises:
            ModelError: a call's input is not a JSON object.
        """
        calls = ((call, _input(call)) for call in self._calls)
        complete = [
            ToolCall(call.id, call.name, data, repaired_json(call.extra_content) or None)
            for call, data in calls
            if data is not None and call.name
        ]
        if len(complete) < len(self._calls) and not cut_off:
            raise ModelError("model_error", "The model sent a tool call that cannot be read.")
        return tuple(complete)

    def _continued_call(self, fragment: ToolFragment) -> _Call | None:
        """Return the call that a fragment continues, None if it begins a call."""
        call = self._identified_call(fragment)
        if call is None or not fragment.name or not call.name:
            return call
        if self._extends_name(call, fragment.name):
            return call
        return call if fragment.name == call.name and self._continues(call, fragment) else None

    def _identified_call(self, fragment: ToolFragment) -> _Call | None:
        """Return the call that the fragment's id, number and place identify."""
        numbered = self._at.get(key) if (key := _key(fragment)) is not None else None
        if fragment.id and (known := self._by_id.get(fragment.id)) is not None:
            if numbered is not None and numbered.given_id == fragment.id:
                return numbered
            # Several calls may have one id. A name under a new number begins a call.
            return None if fragment.name and fragment.index is not None and numbered is None else known
        if numbered is None and fragment.index is None and fragment.place is not None and not fragment.name:
            numbered = self._calls[fragment.place] if fragment.place < len(self._calls) else None
        if fragment.name and (fragment.id or key is not None):
            return numbered
        return numbered or self._last

    def _extends_name(self, call: _Call, name: str) -> bool:
        if call.name in self._known or any(call.arguments):
            return False
        return any(known.startswith(call.name + name) for known in self._known)

    def _continues(self, call: _Call, fragment: ToolFragment) -> bool:
        """Return whether a fragment that repeats the name of a call still belongs to it."""
        begins_input = fragment.arguments.lstrip().startswith("{")
        has_input = any(piece.strip() for piece in call.arguments)
        if fragment.id and call.given_id and fragment.id != call.given_id:
            return has_input and bool(fragment.arguments) and not begins_input and not call.is_complete()
        if not begins_input or not has_input:
            return True
        return not call.is_complete() or (bool(fragment.id) and _repeats(call, fragment))

    def _begin(self, fragment: ToolFragment) -> _Call:
        if len(self._calls) >= MAX_CALLS:
            raise ModelError("model_error", "The model made too many tool calls.")
        call = _Call(self._new_id(repaired_text(fragment.id or "")), fragment.id)
        self._calls.append(call)
        return call

    def _remember(self, call: _Call, fragment: ToolFragment) -> None:
        """Remember the fields by which later fragments find the call."""
        self._last = call
        key = _key(fragment)
        if key is not None and (fragment.index is not None or fragment.name):
            self._at[key] = call
        if fragment.id:
            self._by_id[fragment.id] = call
            if call.given_id is None:
                call.given_id, call.id = fragment.id, self._new_id(repaired_text(fragment.id))

    def _new_id(self, given: str) -> str:
        """Return the given id if it is unique in the answer, else a new id."""
        known = {call.id for call in self._calls}
        return given if given and given not in known else f"call_{uuid4().hex}"


def _key(fragment: ToolFragment) -> Key | None:
    if fragment.index is not None:
        return fragment.index
    return None if fragment.place is None else ("place", fragment.place)


def _repeats(call: _Call, fragment: ToolFragment) -> bool:
    """Return whether a fragment repeats an input that is complete already."""
    text = fragment.arguments.strip()
    return (
        text.startswith("{") and text.endswith("}") and bool(fragment.name) and text == "".join(call.arguments).strip()
    )


def _input(call: _Call) -> dict[str, Any] | None:
    """Return the input of a call, None if it is not an object."""
    try:
        return repaired_json(_object(_value_of(call.arguments)))
    except (ValueError, RecursionError):
        return None


def _value_of(pieces: list[str]) -> object:
    text = "".join(pieces).strip()
    try:
        return _parsed(text) if text else {}
    except ValueError:
        half, rest = text[: len(text) // 2].strip(), text[len(text) // 2 :].strip()
        if half == rest:
            return _parsed(half)  # some servers send the complete arguments again at the end
        filled = [piece for piece in pieces if piece.strip()]
        grows = all(later.startswith(earlier) for earlier, later in pairwise(filled))
        if len(filled) < 2 or not grows:
            raise
        return _parsed(filled[-1])  # some servers repeat all earlier arguments in each fragment


def _object(value: object) -> dict[str, Any]:
    """Return the object that a value means.

    Servers write an object without fields in many ways.

    Raises:
        ValueError: the value does not mean an object.
    """
    if isinstance(value, str) and value.strip():
        value = _parsed(value)  # some servers encode JSON twice
    if value is None or value in ("", []):
        return {}
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return cast("dict[str, Any]", value)


def _parsed(text: str) -> object:
    """Parse JSON in which strings may contain control characters.

    Raises:
        ValueError: the text is not JSON, or has a number that cannot be stored.
    """
    return json.loads(text, strict=False, parse_constant=_refuse_constant, parse_float=_finite)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    if not isfinite(value := float(number)):
        raise ValueError("the number is too large")
    return value
