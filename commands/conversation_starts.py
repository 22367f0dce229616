"""The starts of conversations, and the limit that an agent sets to their number."""

from collections.abc import Awaitable, Callable, Sequence

from commands.agent_definitions import AgentDefinitions
from commands.executor import CONFLICT_PAUSES_S, CommandExecutor, Committed, LockTable
from domain.agent import AgentDefined, agent_aggregate_id
from domain.decisions.conversations import Events, numbered
from domain.errors import ConversationLimitReachedError, WriteConflictError
from eventlog.errors import StoreUnavailableError, VersionTakenError
from eventlog.retry import retry
from eventlog.writer import Idempotency

CountLive = Callable[[int, str, str, int], Awaitable[int]]
"""Counts an owner's live conversations with a label, at a position or later.

The arguments are the position, the owner, the label, and the number from which on the exact one does not matter.
"""


async def _no_read_models(position: int, owner_id: str, label: str, at_most: int) -> int:
    raise StoreUnavailableError("Conversations are counted in the listing, which is not read here.")


class ConversationStarts:
    """Records the starts of conversations.

    A start with an agent that limits them takes the next number of its owner and label. The database accepts a number
    once, so of several starts that were decided on the same count only one is recorded. The others count again.
    """

    def __init__(
        self,
        executor: CommandExecutor,
        agents: AgentDefinitions,
        count_live: CountLive = _no_read_models,
        conflict_pauses_s: Sequence[float] = CONFLICT_PAUSES_S,
    ) -> None:
        self.agents = agents
        self._executor = executor
        self._count_live = count_live
        self._conflict_pauses_s = conflict_pauses_s
        self._locks = LockTable()

    async def record(
        self, owner_id: str, agent: AgentDefined | None, events: Events, idempotency: Idempotency | None
    ) -> Committed:
        """Record the first events of a conversation with an agent, or with none.

        Raises:
            ConversationLimitReachedError: the owner has as many conversations with the agent as it allows.
            WriteConflictError: other processes took the next number at every retry.
            IdempotencyKeyTakenError: another command recorded the key first.
            StoreUnavailableError: the database does not answer, or the conversations cannot be counted now.
        """
        if agent is None or agent.max_conversations is None:
            return await self._executor.start(events, idempotency)
        label, limit = agent.agent_id, agent.max_conversations

        async def attempt() -> Committed:
            # The number is read first. A start that is recorded between this and the append takes the next number, so
            # the append is refused. All earlier ones are counted.
            number = await self._executor.log.last_agent_number(owner_id, label)
            head = await self._executor.log.head()
            if await self._count_live(head, owner_id, label, limit) >= limit:
                raise ConversationLimitReachedError(label, limit)
            return await self._executor.start(numbered(events, number + 1), idempotency)

        # The starts of this process wait for each other, so that only those of other processes conflict.
        async with self._locks.hold(agent_aggregate_id(owner_id, label)):
            try:
                return await retry(attempt, VersionTakenError, self._conflict_pauses_s)
            except VersionTakenError:
                raise WriteConflictError(events[0].originator_id) from None
