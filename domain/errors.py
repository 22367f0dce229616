"""The errors of the domain, one tree.

DomainError
├── ConversationNotFoundError
├── ConversationDeletedError
├── ConversationLockedError      a turn is active; carries its id
├── MessageNotFoundError
├── TurnNotFoundError
├── TurnNotActiveError
├── DeltaOutOfOrderError         streamed chunks skip a frame; carries the next frame
├── VersionMismatchError         the current version is not an expected one
├── WriteConflictError           every retry met another writer
├── InvalidContentError          a message breaks a rule; carries the path
├── UnsupportedImageError        the bytes of an image do not match its type
├── IdempotencyKeyReusedError    the key was used with another request
├── AgentNotFoundError
├── ConversationLimitReachedError  the agent allows no further conversation
└── LimitReachedError            the owner has as much as it may have; carries when to try again
"""

from uuid import UUID

ContentPath = tuple[str | int, ...]


class DomainError(Exception):
    """The root of the domain's errors."""


class ConversationNotFoundError(DomainError):
    """The owner has no conversation with this id."""

    def __init__(self, conversation_id: object) -> None:
        super().__init__(f"No conversation {conversation_id}.")


class ConversationDeletedError(DomainError):
    """The owner deleted the conversation."""

    def __init__(self, conversation_id: UUID) -> None:
        super().__init__(f"Conversation {conversation_id} was deleted.")


class ConversationLockedError(DomainError):
    """A turn is active. The conversation takes no other message until the turn ends."""

    def __init__(self, conversation_id: UUID, active_turn_id: UUID) -> None:
        super().__init__(f"Conversation {conversation_id} is locked by turn {active_turn_id}.")
        self.active_turn_id = active_turn_id


class MessageNotFoundError(DomainError):
    """The conversation has no such message, or it was deleted."""

    def __init__(self, message_id: object) -> None:
        super().__init__(f"No message {message_id} in this conversation.")


class TurnNotFoundError(DomainError):
    """The conversation has no such turn."""

    def __init__(self, turn_id: object) -> None:
        super().__init__(f"No turn {turn_id} in this conversation.")


class TurnNotActiveError(DomainError):
    """The turn is not active: nothing can be added to it, and it cannot be cancelled."""

    def __init__(self, turn_id: UUID) -> None:
        super().__init__(f"Turn {turn_id} is not active.")


class DeltaOutOfOrderError(DomainError):
    """Chunks from a client skip a frame. `next_seq` is the expected frame."""

    def __init__(self, turn_id: UUID, seq: int, next_seq: int) -> None:
        super().__init__(f"Frame {next_seq} of turn {turn_id} is to come next, not {seq}.")
        self.next_seq = next_seq


class VersionMismatchError(DomainError):
    """The conversation or the agent is not at a version that the caller expects.

    The version is None if there is no such agent.
    """

    def __init__(self, actual: int | None, kind: str = "conversation") -> None:
        found = "does not exist" if actual is None else f"is at version {actual}, which is not one that was expected"
        super().__init__(f"The {kind} {found}.")


class WriteConflictError(DomainError):
    """Another writer recorded the next version first, also at every retry."""

    def __init__(self, aggregate_id: UUID, kind: str = "Conversation") -> None:
        super().__init__(f"{kind} {aggregate_id} is being written by others; try again.")


class InvalidContentError(DomainError):
    """A message breaks a rule of content.

    `path` is the place of the fault: fields and indexes, such as `("content", 0, "text")` within one message and
    `("messages", 2, "content", 0, "text")` within several.
    """

    def __init__(self, message: str, path: ContentPath = ("content",)) -> None:
        super().__init__(message)
        self.path = path


class UnsupportedImageError(DomainError):
    """An image is no png, jpeg, gif or webp, or its bytes do not match `media_type`."""


class IdempotencyKeyReusedError(DomainError):
    """The idempotency key was used before with another request."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Idempotency-Key {key!r} was used with another request.")


class AgentNotFoundError(DomainError):
    """The owner has no agent with this label, and no agent with it is shared."""

    def __init__(self, label: object) -> None:
        super().__init__(f"No agent {label}.")


class ConversationLimitReachedError(DomainError):
    """The owner has as many conversations with an agent as the agent allows."""

    def __init__(self, label: str, limit: int) -> None:
        super().__init__(f"Agent {label} allows at most {limit} conversations.")


class LimitReachedError(DomainError):
    """The owner has as many requests, turns or streams as it may have.

    The client may try again after `retry_after_s`.
    """

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
