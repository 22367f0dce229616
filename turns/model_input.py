"""What the model of a turn is asked: the context of its conversation, as of the turn."""

import asyncio
from time import monotonic
from uuid import UUID

from domain.events import TurnStarted
from eventlog.errors import StoreUnavailableError
from eventlog.log import Log
from projections.models.context import Context, ContextWindow
from projections.progress import Progress
from turns.frames.replay import PATIENCE_S, RETRY_INTERVAL_S
from turns.model.call import ModelRequest
from turns.model.errors import ModelError
from turns.model.gateway import ModelGateway
from turns.model.provider_rules import provider_rules

CONTEXT_WAIT_S = 5.0
DEFAULT_CONTEXT_TOKENS = 32_000


class ModelInput:
    """Makes the requests of turns; `max_context_tokens` holds where neither a client nor the model says otherwise."""

    def __init__(
        self, log: Log, context: Context, progress: Progress, gateway: ModelGateway, max_context_tokens: int | None
    ) -> None:
        self._log = log
        self._context = context
        self._progress = progress
        self._gateway = gateway
        self._max_context_tokens = max_context_tokens

    async def request(self, started: TurnStarted, version: int, position: int) -> ModelRequest:
        """Return what the model of a turn is asked by the event of a version, which is at a position of the log.

        Raises:
            CancelledError: the turn has ended already.
            ModelError: the store stayed away for 30 s, the context is stopped, or litellm could not be loaded.
        """
        deadline = monotonic() + PATIENCE_S
        while True:
            try:
                return await self._request(started, version, position)
            except StoreUnavailableError as error:
                if monotonic() > deadline:
                    detail = "The context of the conversation could not be read."
                    raise ModelError("model_unavailable", detail) from error
            await asyncio.sleep(RETRY_INTERVAL_S)

    async def _request(self, started: TurnStarted, version: int, position: int) -> ModelRequest:
        if await self._log.turn_end(started.originator_id, started.turn_id, version):
            raise asyncio.CancelledError  # it was ended elsewhere before this process began to listen for that
        if "context" in await self._progress.wait(position, CONTEXT_WAIT_S):
            await self._log.head()  # where the store is away, that is why
            raise ModelError("model_unavailable", "The context of the conversation is not up to date.")
        budget = started.max_context_tokens or await self._max_tokens(started.model, started.max_output_tokens)
        rules = provider_rules(started.model)
        window = await self._context.window(started.originator_id, budget, tools=started.tools, rules=rules)
        return ModelRequest(
            model=started.model,
            messages=window.messages,
            temperature=started.temperature,
            max_output_tokens=started.max_output_tokens,
            tools=started.tools,
        )

    async def window(
        self, conversation_id: UUID, model: str, max_tokens: int | None = None, last: int | None = None
    ) -> ContextWindow:
        """Return what `model` is sent of a conversation: at most `max_tokens`, and the `last` messages.

        Raises:
            ModelError: litellm could not be loaded.
            StoreUnavailableError: the store is away.
        """
        budget = max_tokens or await self._max_tokens(model)
        return await self._context.window(conversation_id, budget, last, rules=provider_rules(model))

    async def _max_tokens(self, model: str, max_output_tokens: int | None = None) -> int:
        """Return how many tokens `model` is sent at most where the client does not say.

        The model's table has no word on whether input and output share one limit, as they do for most: so the longest
        answer, but at most half of the limit, is left free.
        """
        if self._max_context_tokens:
            return self._max_context_tokens
        limit = await self._gateway.context_window(model)
        if limit is None:
            return DEFAULT_CONTEXT_TOKENS
        answer = max_output_tokens or await self._gateway.max_output_tokens(model) or 0
        return limit - min(answer, limit // 2)
