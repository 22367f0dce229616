"""The errors of the domain, one tree.

DomainError
├── ConversationNotFoundError
├── ConversationDeletedError
├── ConversationLockedError      a turn runs; carries its id
├── MessageNotFoundError
├── TurnNotFoundError
├── TurnNotActiveError
├── DeltaOutOfOrderError         chunks that a client streams leave out some before them
├── VersionMismatchError         an expected version was not the current one
├── WriteConflictError           another writer won, again and again
├── InvalidContentError          what was said breaks a rule; carries where
├── UnsupportedImageError        an image whose bytes are not what they claim
└── IdempotencyKeyReusedError    the key came before with another body
"""

from uuid import UUID

ContentPath = tuple[str | int, ...]


class DomainError(Exception):
    """The root of every refusal the domain can utter."""


class ConversationNotFoundError(DomainError):
    """No conversation of this owner has this id."""

    def __init__(self, conversation_id: object) -> None:
        super().__init__(f"No conversation {conversation_id}.")


class ConversationDeletedError(DomainError):
    """The conversation existed and was deleted by its owner."""

    def __init__(self, conversation_id: UUID) -> None:
        super().__init__(f"Conversation {conversation_id} was deleted.")


class ConversationLockedError(DomainError):
    """A turn is active, and the conversation takes no other message until it ends."""

    def __init__(self, conversation_id: UUID, active_turn_id: UUID) -> None:
        super().__init__(f"Conversation {conversation_id} is locked by turn {active_turn_id}.")
        self.active_turn_id = active_turn_id


class MessageNotFoundError(DomainError):
    """The conversation holds no such message, or holds it no longer."""

    def __init__(self, message_id: object) -> None:
        super().__init__(f"No message {message_id} in this conversation.")


class TurnNotFoundError(DomainError):
    """The conversation never had such a turn."""

    def __init__(self, turn_id: object) -> None:
        super().__init__(f"No turn {turn_id} in this conversation.")


class TurnNotActiveError(DomainError):
    """The turn has ended, so nothing can be added to it or stopped."""

    def __init__(self, turn_id: UUID) -> None:
        super().__init__(f"Turn {turn_id} is not active.")


class DeltaOutOfOrderError(DomainError):
    """Chunks that a client streams leave out some before them; carries the frame that is to come next."""

    def __init__(self, turn_id: UUID, seq: int, next_seq: int) -> None:
        super().__init__(f"Frame {next_seq} of turn {turn_id} is to come next, not {seq}.")
        self.next_seq = next_seq


class VersionMismatchError(DomainError):
    """The caller expected another version of the conversation."""

    def __init__(self, actual: int) -> None:
        super().__init__(f"The conversation is at version {actual}, which is not one that was expected.")


class WriteConflictError(DomainError):
    """Another writer took the version; raised only after every retry lost too."""

    def __init__(self, conversation_id: UUID) -> None:
        super().__init__(f"Conversation {conversation_id} is being written by others; try again.")


class InvalidContentError(DomainError):
    """A message breaks a rule of content.

    `path` is the place of the fault: fields and indexes, such as `("content", 0, "text")` within one message and
    `("messages", 2, "content", 0, "text")` within several.
    """

    def __init__(self, message: str, path: ContentPath = ("content",)) -> None:
        super().__init__(message)
        self.path = path


class UnsupportedImageError(DomainError):
    """An image is not a png, jpeg, gif or webp, or its bytes are not what `media_type` says."""


class IdempotencyKeyReusedError(DomainError):
    """The idempotency key was used before, with another request."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Idempotency-Key {key!r} was used with another request.")
