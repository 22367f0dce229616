"""What every decision checks before it grants a wish: whose conversation it is, and in what state."""

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


def check_access(state: Conversation, actor: str) -> None:
    """Hold the conversation against who asks: it is theirs, and not deleted.

    Raises:
        ConversationNotFoundError: it is another's.
        ConversationDeletedError: its owner deleted it.
    """
    if state.owner_id != actor:
        raise ConversationNotFoundError(state.id)
    if state.deleted:
        raise ConversationDeletedError(state.id)


def check_version(state: Conversation, expected: Collection[int] | None) -> None:
    """Check that the conversation is at one of the versions that the caller expects, None for any.

    Raises:
        VersionMismatchError: it has changed since.
    """
    if expected is not None and state.visible_version not in expected:
        raise VersionMismatchError(state.visible_version)


def check_unlocked(state: Conversation) -> None:
    """Refuse while a turn runs, or is about to; one that waits for tool results makes room for what a user says.

    Raises:
        ConversationLockedError: one does.
    """
    if (turn_id := state.locked_by) is not None:
        raise ConversationLockedError(state.id, turn_id)


def check_idle(state: Conversation) -> None:
    """Refuse while a turn runs, waits for tool results, or is about to start.

    Raises:
        ConversationLockedError: one does.
    """
    if state.turn is not None:
        raise ConversationLockedError(state.id, state.turn.id)
    check_unlocked(state)


def check_next(state: Conversation, turn_id: UUID) -> None:
    """Refuse to start a queued turn that is not the next one, or while another is active.

    Raises:
        TurnNotActiveError: it was cancelled, or has started already.
        ConversationLockedError: others come before it.
    """
    if turn_id not in {turn.id for turn in state.queue}:
        raise TurnNotActiveError(turn_id)
    before = state.turn.id if state.turn is not None else state.queue[0].id
    if before != turn_id:
        raise ConversationLockedError(state.id, before)


def check_active(state: Conversation, turn_id: UUID) -> ActiveTurn:
    """Return the active turn if it is this one, whether it runs or waits.

    Raises:
        TurnNotActiveError: the turn has ended, or never was.
    """
    if state.turn is None or state.turn.id != turn_id:
        raise TurnNotActiveError(turn_id)
    return state.turn


def check_running(state: Conversation, turn_id: UUID) -> ActiveTurn:
    """Return the active turn if it is this one, and its model is speaking.

    Raises:
        TurnNotActiveError: the turn has ended, or never was, or waits for tool results.
    """
    turn = check_active(state, turn_id)
    if turn.waiting:
        raise TurnNotActiveError(turn_id)
    return turn


def check_client_turn(state: Conversation, turn_id: UUID) -> ActiveTurn:
    """Return the active turn if it is this one and its client runs the model.

    Raises:
        TurnNotActiveError: the turn has ended, or never was, or the server runs it.
    """
    turn = check_active(state, turn_id)
    if turn.generate:
        raise TurnNotActiveError(turn_id)
    return turn
