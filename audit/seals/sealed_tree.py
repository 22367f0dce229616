"""The Merkle tree of a log as it is stored, and the digests that it grows from."""

from typing import NamedTuple
from uuid import UUID

from audit.errors import LogDamagedError
from audit.proofs.merkle_tree import HASH_BYTES, MerkleTree
from eventlog.db.connection import Connection
from eventlog.db.statements import load_statements
from eventlog.log import read_head

READ_EVENTS = 8192

_SQL = load_statements("audit.seals", "sealed_tree.sql")


class TreeHead(NamedTuple):
    """The root of the tree over the first `size` events of a log."""

    size: int
    root: bytes


class SealedTree(NamedTuple):
    """The name of a log in checkpoints, and its tree as far as it is sealed."""

    origin: str
    tree: MerkleTree


def _origin(log_id: UUID) -> str:
    """Return the name of a log in checkpoints."""
    return f"turnlog/{log_id}"


async def read_tree(connection: Connection) -> SealedTree:
    """Return the stored tree.

    Raises:
        LogDamagedError: it does not have the root of the last sealed head.
    """
    cursor = await connection.execute(_SQL["read_tree"], binary=True)
    row = await cursor.fetchone()
    if row is None:
        raise LogDamagedError("The sealed tree is missing.")
    log_id, size, subtrees, root = row
    try:
        tree = MerkleTree.load(size, subtrees)
    except ValueError:
        raise LogDamagedError("The sealed tree is damaged.") from None
    if size and tree.root() != root:
        raise LogDamagedError(f"The sealed tree of {size} events is not that of their sealed head.")
    return SealedTree(_origin(log_id), tree)


async def read_origin(connection: Connection) -> str:
    """Return the name of the log in checkpoints.

    Raises:
        LogDamagedError: the sealed tree is missing.
    """
    cursor = await connection.execute(_SQL["read_log_id"], binary=True)
    row = await cursor.fetchone()
    if row is None:
        raise LogDamagedError("The sealed tree is missing.")
    return _origin(row[0])


async def read_heads(connection: Connection) -> list[TreeHead]:
    """Return all sealed heads, the smallest first."""
    cursor = await connection.execute(_SQL["read_heads"], binary=True)
    return [TreeHead(*row) for row in await cursor.fetchall()]


async def read_digests(connection: Connection, after: int, upto: int) -> list[bytes]:
    """Return the digests of the events after one position and up to another, in order.

    Raises:
        LogDamagedError: events are missing, or digests have a wrong length.
    """
    cursor = await connection.execute(_SQL["read_digests"], {"after": after, "upto": upto}, binary=True)
    row = await cursor.fetchone()
    assert row is not None
    count, digests = row
    if count != upto - after or len(digests) != count * HASH_BYTES:
        raise LogDamagedError(f"The events after position {after} up to {upto} are not whole.")
    return split_digests(digests)


def split_digests(digests: bytes) -> list[bytes]:
    """Return the digests that stand one after the other in one value."""
    return [digests[at : at + HASH_BYTES] for at in range(0, len(digests), HASH_BYTES)]


async def read_current_tree(connection: Connection) -> SealedTree:
    """Return the tree over all events of the log.

    Raises:
        LogDamagedError: the log is not whole, or is not as it was sealed.
    """
    sealed, head = await read_tree(connection), await read_head(connection)
    tree = sealed.tree
    if tree.size > head:
        raise LogDamagedError(f"The log ends at position {head}, but {tree.size} events are sealed.")
    while tree.size < head:
        tree.extend(await read_digests(connection, tree.size, min(tree.size + READ_EVENTS, head)))
    return sealed


async def add_head(connection: Connection, before: int, tree: MerkleTree) -> bool:
    """Store a tree and its head. Return whether `before` events were sealed until now."""
    parameters = {"before": before, "size": tree.size, "subtrees": tree.state, "root": tree.root()}
    cursor = await connection.execute(_SQL["add_head"], parameters)
    return await cursor.fetchone() is not None
