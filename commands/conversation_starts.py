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

DecideStart = Callable[[AgentDefined | None], Awaitable[Events]]
"""Returns the first events of a conversation with an agent, again after each conflict."""


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
        self, owner_id: str, label: str | None, decide: DecideStart, idempotency: Idempotency | None
    ) -> Committed:
        """Record the first events of a conversation, with the agent of a label or none.

        Raises:
            ConversationLimitReachedError: the owner has as many conversations with the agent as it allows.
            WriteConflictError: other processes took the next number at every retry.
            IdempotencyKeyTakenError: another command recorded the key first.
            StoreUnavailableError: the database does not answer, or the conversations cannot be counted now.
        """
        agent = await self.agents.find(owner_id, label) if label is not None else None
        if agent is None or agent.max_conversations is None:
            return await self._executor.start(await decide(agent), idempotency)
        # A start that is refused, or cannot be counted, does not wait for those before it.
        await self._check_limit(owner_id, agent)
        return await self._record_numbered(owner_id, agent.agent_id, decide, idempotency)

    async def _record_numbered(
        self, owner_id: str, label: str, decide: DecideStart, idempotency: Idempotency | None
    ) -> Committed:
        async def attempt() -> Committed:
            # The number is read first. A start that is recorded between this and the append takes the next number, so
            # the append is refused. All earlier ones are counted, against the limit that holds after them.
            number = await self._executor.log.last_agent_number(owner_id, label)
            agent = await self.agents.find(owner_id, label)
            await self._check_limit(owner_id, agent)
            return await self._executor.start(numbered(await decide(agent), number + 1), idempotency)

        # The starts of this process wait for each other, so that only those of other processes conflict.
        counted_id = agent_aggregate_id(owner_id, label)
        async with self._locks.hold(counted_id):
            try:
                return await retry(attempt, VersionTakenError, self._conflict_pauses_s)
            except VersionTakenError:
                raise WriteConflictError(counted_id, "Agent") from None

    async def _check_limit(self, owner_id: str, agent: AgentDefined | None) -> None:
        if agent is None or agent.max_conversations is None:
            return  # changed since the first look
        limit, head = agent.max_conversations, await self._executor.log.head()
        if await self._count_live(head, owner_id, agent.agent_id, limit) >= limit:
            raise ConversationLimitReachedError(agent.agent_id, limit)
