"""The messages of an export as a tree, put into the order of the neutral model."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import NamedTuple

from audit.imports.errors import ImportFormatError, at, shown
from audit.imports.imported_conversation import ImportedMessage
from audit.imports.source_parts import SourcePart
from audit.imports.tool_pairs import OpenCalls, by_role, paired
from domain.content import Role

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SourceNode:
    """A message of an export.

    One without parts is left out, and what follows it joins what was before it.

    `children` is the order in which the source shows the messages that follow. It may be empty or incomplete.
    """

    id: str
    parent: str | None
    role: Role = "user"
    parts: tuple[SourcePart, ...] = ()
    model: str | None = None
    said_at: datetime | None = None
    children: tuple[str, ...] = ()


class _Before(NamedTuple):
    """The last message that was kept before a node, and the calls open there."""

    source_id: str | None
    open_calls: OpenCalls


def imported_messages(nodes: Sequence[SourceNode], current: str | None) -> tuple[ImportedMessage, ...]:
    """Return the messages of a tree, parents first and the current branch last.

    `current` is the last message that the source shows. None stands for the newest one that nothing follows.

    Raises:
        ImportFormatError: an id is there twice, a parent is missing, parents form a circle, or a block breaks a rule.
    """
    by_id = _by_id(nodes)
    branch = _branch(by_id, _newest(nodes) if current is None else _known(by_id, current))
    ordered = _ordered(nodes, branch)
    if len(ordered) < len(nodes):
        reached = {node.id for node in ordered}
        lost = next(node for node in nodes if node.id not in reached)
        raise ImportFormatError(f"the parents of message {shown(lost.id)} form a circle")
    messages: list[ImportedMessage] = []
    before: dict[str | None, _Before] = {None: _Before(None, ())}
    for node in ordered:
        with at(f"message {shown(node.id)}"):
            made, before[node.id] = _messages_of(node, before[node.parent], by_id, is_current=node.id in branch)
        messages.extend(made)
    return tuple(messages)


def _by_id(nodes: Sequence[SourceNode]) -> dict[str, SourceNode]:
    by_id: dict[str, SourceNode] = {}
    for node in nodes:
        if node.id in by_id:
            raise ImportFormatError(f"message {shown(node.id)} is there twice")
        by_id[node.id] = node
    for node in nodes:
        if node.parent is not None and node.parent not in by_id:
            raise ImportFormatError(f"the parent {shown(node.parent)} of message {shown(node.id)} is missing")
    return by_id


def _known(by_id: dict[str, SourceNode], current: str) -> str:
    if current not in by_id:
        raise ImportFormatError(f"the current message {shown(current)} is missing")
    return current


def _newest(nodes: Sequence[SourceNode]) -> str | None:
    """Return the newest message that nothing follows, of several the last in the file."""
    parents = {node.parent for node in nodes}
    leaves = [(node.said_at or _LONG_AGO, place, node.id) for place, node in enumerate(nodes) if node.id not in parents]
    return max(leaves)[2] if leaves else None


def _branch(by_id: dict[str, SourceNode], last: str | None) -> set[str]:
    """Return the ids from a message up to the first one."""
    branch: set[str] = set()
    while last is not None and last not in branch:
        branch.add(last)
        last = by_id[last].parent
    return branch


def _ordered(nodes: Sequence[SourceNode], branch: set[str]) -> list[SourceNode]:
    """Return the nodes below the first ones, depth first, `branch` behind the others."""
    following = _following(nodes, branch)
    ordered: list[SourceNode] = []
    waiting = list(reversed(following.get(None, [])))
    while waiting:
        node = waiting.pop()
        ordered.append(node)
        waiting.extend(reversed(following.get(node.id, [])))
    return ordered


def _following(nodes: Sequence[SourceNode], branch: set[str]) -> dict[str | None, list[SourceNode]]:
    following: dict[str | None, list[SourceNode]] = {}
    for node in nodes:
        following.setdefault(node.parent, []).append(node)
    children: dict[str | None, tuple[str, ...]] = {node.id: node.children for node in nodes}
    return {
        parent: siblings if len(siblings) == 1 else _sorted(siblings, children.get(parent, ()), branch)
        for parent, siblings in following.items()
    }


def _sorted(siblings: list[SourceNode], shown_order: Sequence[str], branch: set[str]) -> list[SourceNode]:
    """Return siblings in their parent's order, and then in that of the file."""
    places = {child: place for place, child in enumerate(shown_order)}
    return sorted(siblings, key=lambda node: (node.id in branch, places.get(node.id, len(places))))


def _messages_of(
    node: SourceNode, before: _Before, taken: Container[str], *, is_current: bool
) -> tuple[list[ImportedMessage], _Before]:
    """Return the messages that a node becomes, and what is before the next nodes."""
    if not node.parts:
        return [], before
    # A user who goes on talking does not wait for results any more.
    open_calls = () if node.role == "user" else before.open_calls
    blocks, open_calls = paired(node.parts, node.id, open_calls)
    parent = before.source_id
    messages: list[ImportedMessage] = []
    for source_id, (role, content) in zip(_ids(node.id, taken), by_role(blocks, node.role), strict=False):
        messages.append(
            ImportedMessage(
                source_id=source_id,
                parent=parent,
                role=role,
                content=content,
                model=node.model if role == "assistant" else None,
                said_at=node.said_at,
                is_current=is_current,
            )
        )
        parent = source_id
    return messages, _Before(parent, open_calls)


def _ids(source_id: str, taken: Container[str]) -> Iterator[str]:
    """Yield the ids of messages that were one: its own, then its own with a number."""
    yield source_id
    yield from (numbered for number in count(2) if (numbered := f"{source_id}#{number}") not in taken)
