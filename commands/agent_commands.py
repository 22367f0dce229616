"""Commands on agents: define or replace, delete."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple
from uuid import UUID

from commands.commands import Caller
from commands.executor import CONFLICT_PAUSES_S
from domain.agent import Agent, AgentSettings, agent_aggregate_id, evolve_agent
from domain.decisions import agents
from domain.decisions.agents import AgentEvents
from domain.errors import WriteConflictError
from eventlog.errors import VersionTakenError
from eventlog.log import Log
from eventlog.mapper import new_row
from eventlog.retry import retry
from eventlog.writer import Appender

Decision = Callable[[Agent | None], AgentEvents]


class CommittedAgent(NamedTuple):
    """The result of a command on an agent: the states before and after it.

    `position` is that of the last event, or None without events.
    """

    before: Agent | None
    agent: Agent
    position: int | None

    @property
    def created(self) -> bool:
        """Whether the agent did not exist before."""
        return self.before is None or self.before.definition is None


class AgentCommands:
    """The commands on agents.

    Each may raise WriteConflictError and StoreUnavailableError. The agent belongs to the
    caller's owner unless it is `shared`.
    """

    def __init__(self, log: Log, writer: Appender, conflict_pauses_s: Sequence[float] = CONFLICT_PAUSES_S) -> None:
        self._log = log
        self._writer = writer
        self._conflict_pauses_s = conflict_pauses_s

    async def define(
        self,
        caller: Caller,
        label: str,
        settings: AgentSettings,
        expected_versions: Collection[int] | None = None,
        *,
        shared: bool = False,
    ) -> CommittedAgent:
        """Define an agent, or replace its settings.

        Settings that it has already are not recorded again.

        Raises:
            VersionMismatchError: the agent is at none of `expected_versions`, or does not exist.
        """
        owner_id = None if shared else caller.owner_id

        def decide(state: Agent | None) -> AgentEvents:
            return agents.define_agent(state, caller.origin(), owner_id, label, settings, expected_versions)

        return await self._execute(agent_aggregate_id(owner_id, label), decide)

    async def delete(
        self, caller: Caller, label: str, expected_versions: Collection[int] | None = None, *, shared: bool = False
    ) -> CommittedAgent:
        """Delete an agent.

        Raises:
            AgentNotFoundError: there is no such agent.
            VersionMismatchError: it is at none of `expected_versions`.
        """

        def decide(state: Agent | None) -> AgentEvents:
            return agents.delete_agent(state, caller.origin(), label, expected_versions)

        owner_id = None if shared else caller.owner_id
        return await self._execute(agent_aggregate_id(owner_id, label), decide)

    async def _execute(self, agent_id: UUID, decide: Decision) -> CommittedAgent:
        """Record what `decide` returns, and decide again after a conflict."""

        # The state is read for each command. Commands on agents are few.
        async def attempt() -> CommittedAgent:
            generation = self._writer.generation
            before = (await self._log.agents([agent_id])).get(agent_id)
            events = decide(before)
            if not events:
                assert before is not None
                return CommittedAgent(before, before, None)
            position = await self._writer.append(list(map(new_row, events)), events=events, generation=generation)
            (event,) = events
            return CommittedAgent(before, evolve_agent(before, event), position)

        try:
            return await retry(attempt, VersionTakenError, self._conflict_pauses_s)
        except VersionTakenError:
            raise WriteConflictError(agent_id, "Agent") from None
