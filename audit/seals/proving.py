"""Signed checkpoints of a log, and proofs that an event is in it."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic_core import to_json

from audit.errors import LogDamagedError, NoSuchEventError
from audit.proofs.checkpoints import Checkpoint
from audit.proofs.event_digest import DigestedEvent
from audit.proofs.inclusion import inclusion_ranges, inclusion_root
from audit.proofs.merkle_tree import leaf_hash
from audit.proofs.proof_text import InclusionProof
from audit.proofs.range_hashes import RangeHashes
from audit.proofs.signed_notes import Signer, sign_note
from audit.seals.sealed_tree import READ_EVENTS, SealedTree, read_current_tree, read_digests
from eventlog.db.connection import Connection
from eventlog.db.statements import load_statements

_SQL = load_statements("audit.seals", "proving.sql")


async def sign_checkpoint(connection: Connection, private: Ed25519PrivateKey) -> str:
    """Return a signed checkpoint of all events of the log.

    Raises:
        LogDamagedError: the log is not whole, or is not as it was sealed.
    """
    return _signed(await read_current_tree(connection), private)


async def prove_event(connection: Connection, position: int, private: Ed25519PrivateKey) -> InclusionProof:
    """Return a proof that the event at a position is in the log.

    It has a checkpoint of all events. `extra` of the proof is the event as JSON, with its salt.

    Raises:
        NoSuchEventError: the log has no such position.
        LogDamagedError: the event does not match its digest, or the log is not whole, or is not as it was sealed.
    """
    current = await read_current_tree(connection)
    size = current.tree.size
    if not 1 <= position <= size:
        raise NoSuchEventError(f"The log has no event at position {position}. It ends at position {size}.")
    event, digest = await _read_event(connection, position)
    hashes = RangeHashes(inclusion_ranges(position - 1, size))
    for after in range(0, size, READ_EVENTS):
        hashes.extend(after, await read_digests(connection, after, min(after + READ_EVENTS, size)))
    proof = tuple(hashes.hashes())
    if inclusion_root(position - 1, size, leaf_hash(digest), proof) != current.tree.root():
        raise LogDamagedError("The log is not as it was sealed.")
    return InclusionProof(position - 1, proof, _signed(current, private), to_json(event.to_json()))


async def _read_event(connection: Connection, position: int) -> tuple[DigestedEvent, bytes]:
    cursor = await connection.execute(_SQL["read_event"], {"position": position}, binary=True)
    row = await cursor.fetchone()
    if row is None:
        raise LogDamagedError(f"The event at position {position} is missing.")
    *fields, digest = row
    event = DigestedEvent(*fields)
    try:
        matches = event.digest() == digest
    except ValueError:
        matches = False
    if not matches:
        raise LogDamagedError(f"The event at position {position} does not match its digest.")
    return event, digest


def _signed(current: SealedTree, private: Ed25519PrivateKey) -> str:
    tree = current.tree
    return sign_note(Checkpoint(current.origin, tree.size, tree.root()).text(), Signer(current.origin, private))
