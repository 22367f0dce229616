"""Commands on conversations and messages that need no model.

Each method is one command.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from pydantic_core import to_json

from commands.conversation_starts import ConversationStarts
from commands.executor import CommandExecutor, Committed
from commands.tokens import Tokenizer
from domain.agent import AgentDefined
from domain.content import (
    BLOCKS_OF_ROLE,
    Content,
    ContentBlock,
    ContextBlock,
    ReasoningBlock,
    Role,
    TextBlock,
    ToolResultBlock,
)
from domain.conversation import Conversation
from domain.decisions import conversations
from domain.decisions.conversations import Draft, Events, Origin
from domain.errors import ContentPath, MessageNotFoundError
from domain.values import JsonObject
from eventlog.clock import new_id, now
from eventlog.image_store import ImageStore
from eventlog.writer import Idempotency

LARGE_CONTENT_CHARS = 50_000


class Caller(NamedTuple):
    """The owner of the conversations that a command means, and its actor.

    The owner is such as `alice`, the actor such as `user:alice` or `service:billing`.
    """

    owner_id: str
    actor: str
    request_id: str | None = None
    idempotency: Idempotency | None = None

    def origin(self) -> Origin:
        """Return the origin of a decision made now."""
        return Origin(self.owner_id, self.actor, now(), self.request_id)


class ClientMessage(NamedTuple):
    """A message as a client sends it, without an id."""

    role: Role
    content: Content
    in_reply_to: UUID | None = None


class Commands:
    """The commands on conversations and messages.

    Each may raise the domain's errors, IdempotencyKeyTakenError and StoreUnavailableError.
    """

    def __init__(
        self, executor: CommandExecutor, tokenizer: Tokenizer, images: ImageStore, starts: ConversationStarts
    ) -> None:
        self.executor = executor
        self.starts = starts
        self._tokenizer = tokenizer
        self._images = images

    async def start(
        self,
        caller: Caller,
        *,
        agent_id: str | None = None,
        title: str | None = None,
        metadata: JsonObject | None = None,
        messages: Sequence[ClientMessage] = (),
    ) -> Committed:
        """Start a conversation with its first messages.

        Raises:
            ConversationLimitReachedError: the agent allows no further conversation.
        """
        drafts = [await self.draft(message, ("messages", index)) for index, message in enumerate(messages)]
        conversation_id = new_id()

        async def decide(_: AgentDefined | None) -> Events:
            return conversations.start_conversation(
                conversation_id, caller.origin(), agent_id=agent_id, title=title, metadata=metadata, messages=drafts
            )

        return await self.starts.record(caller.owner_id, agent_id, decide, caller.idempotency)

    async def update(
        self,
        caller: Caller,
        conversation_id: UUID,
        changes: dict[str, Any],
        expected_versions: Collection[int] | None = None,
    ) -> Committed:
        """Change the title, the metadata, or both."""

        def decide(state: Conversation) -> Events:
            return conversations.update_conversation(state, caller.origin(), changes, expected_versions)

        return await self.executor.execute(conversation_id, decide, caller.idempotency, owner_id=caller.owner_id)

    async def delete(
        self, caller: Caller, conversation_id: UUID, expected_versions: Collection[int] | None = None
    ) -> Committed:
        """Delete a conversation."""

        def decide(state: Conversation) -> Events:
            return conversations.delete_conversation(state, caller.origin(), expected_versions)

        return await self.executor.execute(conversation_id, decide, caller.idempotency, owner_id=caller.owner_id)

    async def add_message(self, caller: Caller, conversation_id: UUID, message: ClientMessage) -> Committed:
        """Add a message without a model."""
        draft = await self.draft(message)

        def decide(state: Conversation) -> Events:
            closing_id = new_id() if state.open_calls else draft.id  # without open calls it is not used
            return conversations.add_message(state, caller.origin(), draft, closing_id)

        async def decide_reply(state: Conversation) -> Events:
            if not await self.executor.log.find_message(conversation_id, draft.in_reply_to or draft.id):
                raise MessageNotFoundError(draft.in_reply_to)
            return decide(state)

        decision = decide if draft.in_reply_to is None else decide_reply
        return await self.executor.execute(conversation_id, decision, caller.idempotency, owner_id=caller.owner_id)

    async def delete_message(self, caller: Caller, conversation_id: UUID, message_id: UUID) -> Committed:
        """Delete a message."""

        async def decide(state: Conversation) -> Events:
            place = await self.executor.log.find_message(conversation_id, message_id)
            return conversations.delete_message(state, caller.origin(), message_id, place)

        return await self.executor.execute(conversation_id, decide, caller.idempotency, owner_id=caller.owner_id)

    async def draft(self, message: ClientMessage, path: ContentPath = ()) -> Draft:
        """Return the message with a new id, its images stored and its tokens counted.

        `path` is the path of the message among several.
        """
        content = message.content
        if "image" in BLOCKS_OF_ROLE[message.role]:
            content = await self._images.store(content, path)
        count = await count_tokens(self._tokenizer, content)
        return Draft(new_id(), message.role, content, count, self._tokenizer.name, message.in_reply_to)


async def count_tokens(tokenizer: Tokenizer, content: Sequence[ContentBlock]) -> int:
    """Return the number of tokens in `content`. Images count zero."""
    texts = [_text(block) for block in content]
    # One MiB takes up to 0.3 s. In a thread the event loop goes on between the slices of the text.
    if sum(map(len, texts)) > LARGE_CONTENT_CHARS:
        return await asyncio.to_thread(_count, tokenizer, texts)
    return _count(tokenizer, texts)


def _count(tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    return sum(map(tokenizer.count, texts))


def _text(block: ContentBlock) -> str:
    if isinstance(block, TextBlock | ReasoningBlock):
        return block.text
    if isinstance(block, ToolResultBlock):
        return block.content
    if isinstance(block, ContextBlock):
        return to_json(block.data).decode()
    return to_json(block.input).decode() if block.type == "tool_use" else ""
