"""Tool calls and results of an export, in the form that Turnlog has for them.

A result is a message of the role `tool`, which names the id of a call that was made before it. Some programs keep calls
and results in one message, some know no ids, and some record results whose calls they do not show.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from audit.imports.imported_conversation import ImportedBlock
from audit.imports.source_parts import SourceCall, SourcePart, SourceResult, result_text
from domain.content import Role, ToolResultBlock, ToolUseBlock

UNNAMED = "tool"
"""The name of a tool that the source does not name."""

_ROLE_OF_BLOCK: dict[str, Role] = {"tool_use": "assistant", "reasoning": "assistant", "tool_result": "tool"}


class CallWithoutResult(NamedTuple):
    """A call that has no result yet, and the message that made it."""

    id: str
    name: str
    source_id: str


OpenCalls = tuple[CallWithoutResult, ...]


def paired(parts: Sequence[SourcePart], source_id: str, before: OpenCalls) -> tuple[list[ImportedBlock], OpenCalls]:
    """Return the blocks of a message, and the calls that are open after it.

    `before` are the open calls of the messages before. A result without a call gets one, with an empty input.
    """
    blocks: list[ImportedBlock] = []
    open_calls = list(before)
    for number, part in enumerate(parts, start=1):
        if isinstance(part, SourceCall):
            call = CallWithoutResult(part.id or f"{source_id}:{number}", part.name or UNNAMED, source_id)
            open_calls.append(call)
            blocks.append(ToolUseBlock(id=call.id, name=call.name, input=part.input))
        elif isinstance(part, SourceResult):
            call = _call_of(part, open_calls)
            if call is None:
                call = CallWithoutResult(part.call_id or f"{source_id}:{number}", part.name or UNNAMED, source_id)
                blocks.append(ToolUseBlock(id=call.id, name=call.name, input={}))
            else:
                open_calls.remove(call)
            blocks.append(ToolResultBlock(tool_use_id=call.id, content=result_text(part.text), is_error=part.is_error))
        else:
            blocks.append(part)
    return blocks, tuple(open_calls)


def _call_of(result: SourceResult, open_calls: Sequence[CallWithoutResult]) -> CallWithoutResult | None:
    """Return the open call of a result, or None.

    Without an id it is a call of the tool, or else of any, in the newest message that made one: the first there.
    """
    if result.call_id is not None:
        return next((call for call in reversed(open_calls) if call.id == result.call_id), None)
    candidates = [call for call in open_calls if call.name == result.name] or open_calls
    return next((call for call in candidates if call.source_id == candidates[-1].source_id), None)


def by_role(blocks: Sequence[ImportedBlock], role: Role) -> list[tuple[Role, tuple[ImportedBlock, ...]]]:
    """Return the blocks of one message as the messages that Turnlog has for them.

    Calls and reasoning are an assistant's, results are of the role `tool`, and all else is of the message's own role.
    """
    # A message of the role `tool` holds results only. Images that a tool made are shown as the assistant's.
    own: Role = "assistant" if role == "tool" else role

    def role_of(block: ImportedBlock) -> Role:
        return _ROLE_OF_BLOCK.get(block.type, own)

    return [(group, tuple(members)) for group, members in groupby(blocks, role_of)]
