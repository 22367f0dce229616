"""Checks that decisions share: owner, version and lock of a conversation."""

from collections.abc import Collection
from uuid import UUID

from domain.conversation import ActiveTurn, Conversation
from domain.errors import (
    ConversationDeletedError,
    ConversationLockedError,
    ConversationNotFoundError,
    TurnNotActiveError,
    VersionMismatchError,
)


def check_access(state: Conversation, owner_id: str) -> None:
    """Check that the conversation is this owner's and not deleted.

    Raises:
        ConversationNotFoundError: another owner has it.
        ConversationDeletedError: its owner deleted it.
    """
    if state.owner_id != owner_id:
        raise ConversationNotFoundError(state.id)
    if state.deleted:
        raise ConversationDeletedError(state.id)


def check_version(state: Conversation, expected: Collection[int] | None) -> None:
    """Check that the conversation is at one of the `expected` versions.

    None allows any.

    Raises:
        VersionMismatchError: it is at another version.
    """
    if expected is not None and state.visible_version not in expected:
        raise VersionMismatchError(state.visible_version)


def check_unlocked(state: Conversation) -> None:
    """Check that no turn runs or is queued.

    A turn that waits for tool results is allowed.

    Raises:
        ConversationLockedError: a turn runs or is queued.
    """
    if (turn_id := state.locked_by) is not None:
        raise ConversationLockedError(state.id, turn_id)


def check_idle(state: Conversation) -> None:
    """Check that no turn runs, waits for tool results, or is queued.

    Raises:
        ConversationLockedError: there is such a turn.
    """
    if state.turn is not None:
        raise ConversationLockedError(state.id, state.turn.id)
    check_unlocked(state)


def check_next(state: Conversation, turn_id: UUID) -> None:
    """Check that a queued turn is the next to start and that no other is active.

    Raises:
        TurnNotActiveError: the turn was cancelled, or has started already.
        ConversationLockedError: another turn comes first.
    """
    if turn_id not in {turn.id for turn in state.queue}:
        raise TurnNotActiveError(turn_id)
    before = state.turn.id if state.turn is not None else state.queue[0].id
    if before != turn_id:
        raise ConversationLockedError(state.id, before)


def check_active(state: Conversation, turn_id: UUID) -> ActiveTurn:
    """Return the active turn, which must be this one. It may run or wait.

    Raises:
        TurnNotActiveError: the turn has ended, or does not exist.
    """
    if state.turn is None or state.turn.id != turn_id:
        raise TurnNotActiveError(turn_id)
    return state.turn


def check_running(state: Conversation, turn_id: UUID) -> ActiveTurn:
    """Return the active turn, which must be this one and run.

    Raises:
        TurnNotActiveError: the turn has ended, does not exist, or waits for tool results.
    """
    turn = check_active(state, turn_id)
    if turn.waiting:
        raise TurnNotActiveError(turn_id)
    return turn


def check_client_turn(state: Conversation, turn_id: UUID) -> ActiveTurn:
    """Return the active turn, which must be this one and run by its client.

    Raises:
        TurnNotActiveError: the turn has ended, does not exist, or is run by the server.
    """
    turn = check_active(state, turn_id)
    if turn.generate:
        raise TurnNotActiveError(turn_id)
    return turn
