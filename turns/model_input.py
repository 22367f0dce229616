"""The input of a model: the context of its conversation, as of the turn."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from commands.agent_definitions import AgentDefinitions
from domain.agent import AgentDefined
from domain.events import TurnStarted
from eventlog.errors import StoreUnavailableError
from eventlog.log import Log
from eventlog.retry import equal_pauses, retry
from projections.models.context import Context
from projections.progress import Progress
from turns.context_budget import ContextBudget
from turns.frames.turn_recorder import RETRY_FOR_S, RETRY_INTERVAL_S
from turns.model.errors import ModelError
from turns.model.gateway_types import ModelRequest
from turns.model.provider_rules import provider_rules
from turns.model.sent_context import SentContext, sent_context

CONTEXT_WAIT_S = 5.0

T = TypeVar("T")


class ModelInput:
    """Builds what models are sent, within the client's or the server's token budget."""

    def __init__(
        self, log: Log, agents: AgentDefinitions, context: Context, progress: Progress, budget: ContextBudget
    ) -> None:
        self._log = log
        self._agents = agents
        self._context = context
        self._progress = progress
        self._budget = budget

    async def request(self, started: TurnStarted, version: int, position: int) -> ModelRequest:
        """Return the request of a turn.

        The turn started or resumed with the event of `version`, at `position` of the log.

        Raises:
            CancelledError: the turn has ended already.
            ModelError: the store stayed away for 30 s, the context is stopped, or litellm could not be loaded.
        """
        return await _patiently(lambda: self._request(started, version, position))

    async def tool_results_timeout_s(self, started: TurnStarted) -> float | None:
        """Return how long a turn may wait for tool results, None for ever.

        Raises:
            ModelError: the store stayed away for 30 s.
        """
        return await _patiently(lambda: self._agents.tool_results_timeout_s(started.agent))

    async def window(
        self,
        conversation_id: UUID,
        model: str,
        max_tokens: int | None = None,
        last: int | None = None,
        agent: AgentDefined | None = None,
        context: Context | None = None,
    ) -> SentContext:
        """Return what `model` is sent of a conversation, with an agent's prompt and tools.

        That is at most `max_tokens`, of the `last` messages. They are those of `context`, by default of now.

        Raises:
            ModelError: litellm could not be loaded.
            StoreUnavailableError: the store is away.
        """
        budget = max_tokens or await self._budget.tokens(model)
        return await sent_context(
            context or self._context,
            conversation_id,
            budget,
            last,
            tools=agent.tools if agent else (),
            rules=provider_rules(model),
            system_prompt=agent.system_prompt if agent else None,
        )

    async def _request(self, started: TurnStarted, version: int, position: int) -> ModelRequest:
        if await self._log.turn_end(started.originator_id, started.turn_id, version):
            # Another process ended it before this one subscribed to the conversation.
            raise asyncio.CancelledError
        if "context" in await self._progress.wait(position, CONTEXT_WAIT_S):
            await self._log.head()  # raises StoreUnavailableError if that is the reason
            raise ModelError("model_unavailable", "The context of the conversation is not up to date.")
        budget = started.max_context_tokens or await self._budget.tokens(started.model, started.max_output_tokens)
        rules = provider_rules(started.model)
        sent = await sent_context(
            self._context,
            started.originator_id,
            budget,
            tools=started.tools,
            rules=rules,
            system_prompt=await self._agents.system_prompt(started.agent) if started.agent else None,
        )
        return ModelRequest(
            model=started.model,
            messages=sent.messages,
            temperature=started.temperature,
            max_output_tokens=started.max_output_tokens,
            tools=started.tools,
        )


async def _patiently(read: Callable[[], Awaitable[T]]) -> T:
    pauses = equal_pauses(RETRY_INTERVAL_S, RETRY_FOR_S)
    try:
        return await retry(read, StoreUnavailableError, pauses)
    except StoreUnavailableError as error:
        raise ModelError("model_unavailable", "The context of the conversation could not be read.") from error
