"""Looking up what a message answers, and how it was answered, for it to be answered again."""

from typing import NamedTuple
from uuid import UUID

from domain.decisions.turn_starts import Question, TurnSettings, settings_of
from domain.errors import InvalidContentError, MessageNotFoundError
from domain.events import MessageAdded, TurnStarted
from eventlog.log import LAST_VERSION, Log


class Answered(NamedTuple):
    """A question, where its answer begins, and the start of the turn that answered it (None: no turn did)."""

    question: Question
    from_version: int
    started: TurnStarted | None = None

    def settings(self, model: str | None, default_model: str) -> TurnSettings:
        """Return how the question is to be answered now: as before, but for the model that is asked for."""
        if self.started is None or not self.started.generate:
            return TurnSettings(model or default_model)
        before = settings_of(self.started)
        return before._replace(model=model or before.model)


class Answers:
    """Reads answers from the log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def of(self, conversation_id: UUID, message_id: UUID) -> Answered:
        """Return what a message answers, or if it is a user's, what answers it: all that follows.

        Raises:
            MessageNotFoundError: there is no such message, or it was superseded.
            InvalidContentError: it is neither a user's message nor the answer to one.
            StoreUnavailableError: the log does not answer.
        """
        message = await self._message(conversation_id, message_id)
        if message.role == "user":
            return Answered(_question(message), message.originator_version + 1, await self._started(message))
        if message.role != "assistant" or message.in_reply_to is None:
            raise _not_an_answer()
        asked = await self._message(conversation_id, message.in_reply_to)
        if asked.role != "user":
            raise _not_an_answer()
        started = await self._started(asked, message.originator_version)
        if started is None or started.turn_id != message.turn_id:
            return Answered(_question(asked), message.originator_version, started)
        # A turn that called tools answered in several messages: all of them.
        return Answered(_question(asked), started.originator_version, started)

    async def _started(self, question: MessageAdded, before_version: int = LAST_VERSION) -> TurnStarted | None:
        place = question.originator_version, before_version
        return await self._log.find_start(question.originator_id, question.message_id, *place)

    async def _message(self, conversation_id: UUID, message_id: UUID) -> MessageAdded:
        place = await self._log.find_message(conversation_id, message_id)
        if place is None or place.superseded:
            raise MessageNotFoundError(message_id)
        (recorded,) = await self._log.versions(conversation_id, [place.version])
        assert isinstance(recorded.event, MessageAdded)
        return recorded.event


def _not_an_answer() -> InvalidContentError:
    return InvalidContentError("must be a user's message, or the answer to one")


def _question(message: MessageAdded) -> Question:
    return Question(message.message_id, message.originator_version)
