"""Find the question that a message answers, to answer it again."""

from typing import NamedTuple
from uuid import UUID

from domain.decisions.turn_starts import Question, TurnSettings, settings_of
from domain.errors import InvalidContentError, MessageNotFoundError
from domain.events import MessageAdded, OpenSetting, TurnStarted
from eventlog.log import LAST_VERSION, Log


class AnsweredQuestion(NamedTuple):
    """A question, and how it was answered.

    The answer begins at `from_version`. `started` is the start of the turn that gave it, None if no turn did.
    """

    question: Question
    from_version: int
    started: TurnStarted | None = None

    def settings(self, model: str | None, default_model: str) -> TurnSettings:
        """Return the settings of the new turn: the old ones, with `model` if given.

        They are open to those of an agent if no turn gave the answer, or its client ran the model.
        """
        if self.started is None or not self.started.generate:
            left_open: tuple[OpenSetting, ...] = ("tools",) if model else ("model", "tools")
            return TurnSettings(model or default_model, left_open=left_open)
        before = settings_of(self.started)
        return before._replace(model=model or before.model)


async def find_answered_question(log: Log, conversation_id: UUID, message_id: UUID) -> AnsweredQuestion:
    """Return the question that a message answers.

    A user's message is a question itself, and all that follows is its answer.

    Raises:
        MessageNotFoundError: there is no such message, or it was superseded.
        InvalidContentError: it is neither a user's message nor the answer to one.
        StoreUnavailableError: the log does not answer.
    """
    message = await _message(log, conversation_id, message_id)
    if message.role == "user":
        return AnsweredQuestion(_question(message), message.originator_version + 1, await _turn_start(log, message))
    if message.role != "assistant" or message.in_reply_to is None:
        raise _not_an_answer()
    asked = await _message(log, conversation_id, message.in_reply_to)
    if asked.role != "user":
        raise _not_an_answer()
    started = await _turn_start(log, asked, message.originator_version)
    if started is None or started.turn_id != message.turn_id:
        return AnsweredQuestion(_question(asked), message.originator_version, started)
    # A turn that called tools answered in several messages, and all of them are answered again.
    return AnsweredQuestion(_question(asked), started.originator_version, started)


async def _turn_start(log: Log, question: MessageAdded, before_version: int = LAST_VERSION) -> TurnStarted | None:
    """Return the start of the last turn before a version that answers a question."""
    versions = question.originator_version, before_version
    return await log.find_start(question.originator_id, question.message_id, *versions)


async def _message(log: Log, conversation_id: UUID, message_id: UUID) -> MessageAdded:
    place = await log.find_message(conversation_id, message_id)
    if place is None or place.superseded:
        raise MessageNotFoundError(message_id)
    (recorded,) = await log.versions(conversation_id, [place.version])
    assert isinstance(recorded.event, MessageAdded)
    return recorded.event


def _not_an_answer() -> InvalidContentError:
    return InvalidContentError("must be a user's message, or the answer to one")


def _question(message: MessageAdded) -> Question:
    return Question(message.message_id, message.originator_version)
