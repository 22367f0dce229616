"""Puts tool calls together from the pieces in which providers stream them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

from turns.model_call import ToolCall
from turns.model_errors import ModelError
from turns.storable import storable_json, storable_text

MAX_CALLS = 1000
"""As many as a client can answer in one request."""


@dataclass(frozen=True, slots=True)
class ToolFragment:
    """A piece of a call: what it adds to the call at `index` of the answer, as far as the provider says it."""

    index: int | float | str
    id: str | None
    name: str | None
    arguments: str | None


@dataclass(slots=True)
class _Call:
    id: str
    given_id: str | None
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])


class ToolFragments:
    """The tool calls of one answer, as far as they have come."""

    def __init__(self) -> None:
        """No call has begun."""
        self._calls: list[_Call] = []
        self._at: dict[int | float | str, _Call] = {}

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
            self._call_of(fragment).arguments.append(fragment.arguments or "")

    def whole(self, *, cut_off: bool) -> tuple[ToolCall, ...]:
        """The calls in the order they began. Of an answer `cut_off` by its length, those that are complete.

        Raises:
            ModelError: a call's input is no JSON object.
        """
        calls = ((call, _input(call)) for call in self._calls)
        whole = [ToolCall(call.id, call.name, data) for call, data in calls if data is not None]
        if len(whole) < len(self._calls) and not cut_off:
            raise ModelError("model_error", "The model sent a tool call that cannot be read.")
        return tuple(whole)

    def _call_of(self, fragment: ToolFragment) -> _Call:
        """The call a fragment belongs to. Some servers give parallel calls one index, so a new id is a new call."""
        call = self._at.get(fragment.index)
        if call is None or (fragment.id and fragment.id != call.given_id):
            if len(self._calls) >= MAX_CALLS:
                raise ModelError("model_error", "The model made too many tool calls.")
            call = _Call(self._new_id(storable_text(fragment.id or "")), fragment.id)
            self._at[fragment.index] = call
            self._calls.append(call)
        call.name = call.name or storable_text(fragment.name or "")
        return call

    def _new_id(self, given: str) -> str:
        """Return the given id if it is the only one of its kind here: results could not be told apart."""
        known = {call.id for call in self._calls}
        return given if given and given not in known else f"call_{uuid4().hex}"


def _input(call: _Call) -> dict[str, Any] | None:
    text = "".join(call.arguments).strip()
    try:
        data: object = storable_json(json.loads(text)) if text else {}
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", data) if isinstance(data, dict) and call.name else None
