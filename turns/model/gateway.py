"""Every model behind one streaming call, with attempts, time-outs, usage and cost."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextvars import Context
from typing import Any

from pydantic import SecretStr

from commands.tokens import Tokenizer
from turns.model.errors import ModelError
from turns.model.gateway_types import UNOBSERVED, ModelChunk, ModelEnd, ModelObserver, ModelRequest, ModelTimeouts
from turns.model.litellm_library import LiteLLM, LiteLLMLibrary, open_library
from turns.model.prices import PriceTable
from turns.model.provider_routing import ProviderRouting
from turns.model.provider_usage import estimated_usage, reported_usage
from turns.model.retries import Retries
from turns.model.streams.answer import StreamedAnswer
from turns.model.streams.deadlines import Deadlines
from turns.model.streams.provider_streams import OpenAIStream, ProviderStream, TranslatedStream

logger = logging.getLogger(__name__)


class ModelGateway:
    """Calls models. Use one for a process and event loop, and `aclose` it at the end.

    `api_base` is the server of every model except the demo model. A model whose name begins with a provider is called
    in that provider's protocol, any other in OpenAI's. Without `api_key`, litellm takes each provider's own variable
    from the environment. `max_attempts` counts the first attempt too.
    `observer` is told of every call.
    """

    def __init__(
        self,
        *,
        api_base: str | None,
        api_key: SecretStr | None,
        timeouts: ModelTimeouts,
        max_attempts: int = 3,
        observer: ModelObserver = UNOBSERVED,
    ) -> None:
        self._routing = ProviderRouting(api_base, api_key)
        self._timeouts = timeouts
        self._max_attempts = max_attempts
        self._observer = observer
        self._tokenizer = Tokenizer()
        self._loading: asyncio.Task[LiteLLMLibrary] | None = None

    async def warm_up(self) -> None:
        """Load litellm before the first turn needs it. A failure is only logged."""
        try:
            await self._library()
        except ModelError:
            logger.warning("the model library is not ready; the next turn will try to load it again", exc_info=True)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk | ModelEnd, None]:
        """Stream the model's answer in the provider's own chunks.

        The last item is the `ModelEnd`. Closing the iterator closes the connection to the provider.

        Raises:
            ModelError: the model could not be called, or its answer broke off.
        """
        call = self._observer.begin(request.model, request.temperature, request.max_output_tokens)
        try:
            library = await self._library()
            answer, pieces = await self._open(library, request)
            call.first_chunk()
            try:
                while pieces is not None:
                    for piece in pieces:
                        yield piece
                    pieces = await answer.read()
                end = await self._end(library.litellm, request, answer)
            finally:
                await answer.aclose()
        except BaseException as error:
            call.failed(error)
            raise
        call.ended(end)
        yield end

    @property
    def library_failed(self) -> bool:
        """Whether the last load of the model library failed. The next turn loads it again."""
        return self._loading is not None and _has_failed(self._loading)

    async def context_window(self, model: str) -> int | None:
        """Return the most input tokens of `model` by litellm's table.

        None means that the table does not know the model.

        Raises:
            ModelError: litellm could not be loaded.
        """
        return PriceTable((await self._library()).litellm).context_window(model)

    async def max_output_tokens(self, model: str) -> int | None:
        """Return the tokens of the longest answer of `model`, by the same table.

        Raises:
            ModelError: litellm could not be loaded.
        """
        return PriceTable((await self._library()).litellm).max_output_tokens(model)

    async def aclose(self) -> None:
        """Close the connections that this gateway keeps open to providers, and no others."""
        if self._loading is None:
            return
        self._loading.cancel()  # has no effect on a finished task
        if not _has_failed(self._loading) and self._loading.done():
            await self._loading.result().connections.aclose()

    async def _library(self) -> LiteLLMLibrary:
        """Return the loaded library. Concurrent calls wait for the same load."""
        if self._loading is None or _has_failed(self._loading):
            loading = open_library(self._tokenizer)
            self._loading = asyncio.create_task(loading, name="load-model-library", context=Context())
        try:
            return await asyncio.shield(self._loading)
        except Exception as error:
            raise ModelError("model_unavailable", "The model library could not be loaded.") from error

    async def _open(
        self, library: LiteLLMLibrary, request: ModelRequest
    ) -> tuple[StreamedAnswer, list[ModelChunk] | None]:
        """Return an answer and its first chunks, after as many attempts as it takes."""
        arguments = self._routing.arguments(library.litellm, request)
        retries = Retries(self._max_attempts)
        began = asyncio.get_running_loop().time()
        while True:
            try:
                return await self._attempt(library, request, arguments, Deadlines(self._timeouts, began))
            except ModelError as error:
                delay_s = retries.delay_after(error)
                logger.warning(
                    "model %r: %s (%s), tried again: %s", request.model, error, error.cause, delay_s is not None
                )
                if delay_s is None:
                    raise
            await asyncio.sleep(delay_s)

    async def _attempt(
        self, library: LiteLLMLibrary, request: ModelRequest, arguments: dict[str, Any], deadlines: Deadlines
    ) -> tuple[StreamedAnswer, list[ModelChunk] | None]:
        source = await deadlines.limit(self._call(library, arguments))
        try:
            answer = StreamedAnswer(source, deadlines, [tool.name for tool in request.tools])
            return answer, await answer.read()
        except BaseException:
            await source.aclose()
            raise

    async def _call(self, library: LiteLLMLibrary, arguments: dict[str, Any]) -> ProviderStream:
        from turns.model.streams.litellm_transport import HANDLER, ProviderCall

        call = ProviderCall(library.connections)
        if self._routing.takes_handler(library.litellm, arguments["model"]):
            arguments = {**arguments, "client": HANDLER}
        try:
            with call.active():
                stream = await library.litellm.acompletion(**arguments, timeout=self._timeouts.total_s)
        except BaseException:
            await call.aclose()
            raise
        if call.answer is not None:
            return OpenAIStream(call.answer)
        if stream is None:  # litellm's result when a provider answers 422 twice
            raise ModelError("model_error", "The provider refused the request as invalid.")
        return TranslatedStream(stream, call)

    async def _end(self, litellm: LiteLLM, request: ModelRequest, answer: StreamedAnswer) -> ModelEnd:
        calls = answer.calls()
        usage = reported_usage(answer.usage_reports)
        if usage is None:
            usage = await asyncio.to_thread(estimated_usage, self._tokenizer, request, answer.text)
        cost_usd = PriceTable(litellm).cost_usd(request.model, usage)
        return ModelEnd(answer.finish_reason, usage.model_copy(update={"cost_usd": cost_usd}), calls)


def _has_failed(task: asyncio.Task[LiteLLMLibrary]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
