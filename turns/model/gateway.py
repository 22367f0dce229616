"""Every model behind one streaming call.

litellm takes seconds of CPU to import, tries the network while it does, and logs and prints a lot: it is loaded in a
thread at first use (or by `warm_up`), told to use its own files, and silenced. The two modules that cannot be imported
without it, `model_http` and `demo_provider`, are imported together with it.
"""

import asyncio
import importlib
import logging
import os
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from pydantic import SecretStr

from commands.tokens import Tokenizer
from turns.model import demo
from turns.model.answer import Answer
from turns.model.call import ModelChunk, ModelEnd, ModelRequest, ModelTimeouts
from turns.model.errors import ModelError
from turns.model.litellm_types import LiteLLM
from turns.model.prices import PriceTable
from turns.model.retries import Retries
from turns.model.route import Router
from turns.model.streams.deadline import Clock
from turns.model.streams.provider_streams import OpenAIStream, ProviderStream, TranslatedStream
from turns.model.usage import estimated_usage, reported_usage

if TYPE_CHECKING:
    from turns.model.streams.transport import ProviderConnections

logger = logging.getLogger(__name__)

_ENVIRONMENT: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_MODE": "PRODUCTION",  # otherwise it reads any .env file it finds
}
_SETTINGS: Final[dict[str, Any]] = {
    "suppress_debug_info": True,
    "set_verbose": False,
    "turn_off_message_logging": True,
    "redact_messages_in_exceptions": True,
    "drop_params": True,  # a parameter that a model does not know is left out instead of refused
    "disable_token_counter": True,  # a provider's missing usage is estimated here, not there
    "REPEATED_STREAMING_CHUNK_LIMIT": 2**31,  # a model may repeat itself; the time-outs end a loop
}
_LOG_LEVELS: Final = {
    "LiteLLM": logging.CRITICAL + 1,
    "LiteLLM Proxy": logging.CRITICAL + 1,
    "LiteLLM Router": logging.CRITICAL + 1,
    "openai": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
}
"""Loggers that write prompts, keys or a line for each request."""


class _Library(NamedTuple):
    """litellm, and the connections by which it asks for one gateway."""

    litellm: LiteLLM
    connections: "ProviderConnections"


class ModelGateway:
    """Calls models. One for a process and event loop; `aclose` it at the end."""

    def __init__(
        self, *, api_base: str | None, api_key: SecretStr | None, timeouts: ModelTimeouts, max_attempts: int = 3
    ) -> None:
        """`api_base` is an OpenAI-compatible server, which then gets every model whose name has no provider.

        `max_attempts` counts the first one; `api_key` None leaves keys to litellm, which takes each provider's own
        variable from the environment.
        """
        self._router = Router(api_base, api_key)
        self._timeouts = timeouts
        self._max_attempts = max_attempts
        self._tokenizer = Tokenizer()
        self._loading: asyncio.Task[_Library] | None = None

    async def warm_up(self) -> None:
        """Load litellm in the background, so that the first turn does not wait for it; a failure is only logged."""
        try:
            await self._library()
        except ModelError:
            logger.warning("the model library is not ready; the next turn will try to load it again", exc_info=True)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk | ModelEnd, None]:
        """The model's answer in the provider's own chunks; the last item is the `ModelEnd`.

        Closing the iterator closes the connection to the provider.

        Raises:
            ModelError: the model could not be asked, or its answer broke off.
        """
        library = await self._library()
        answer, pieces = await self._open(library, request)
        try:
            while pieces is not None:
                for piece in pieces:
                    yield piece
                pieces = await answer.read()
            yield await self._end(library.litellm, request, answer)
        finally:
            await answer.aclose()

    async def context_window(self, model: str) -> int | None:
        """The most input tokens that `model` takes, by litellm's own table; None where it does not know the model.

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
        self._loading.cancel()  # of no effect on a finished one
        if not _has_failed(self._loading) and self._loading.done():
            await self._loading.result().connections.aclose()

    async def _library(self) -> _Library:
        """The loaded library; whoever asks while it loads waits for the one load."""
        if self._loading is None or _has_failed(self._loading):
            self._loading = asyncio.create_task(asyncio.to_thread(_open_library, self._tokenizer))
        try:
            return await asyncio.shield(self._loading)
        except Exception as error:
            raise ModelError("model_unavailable", "The model library could not be loaded.") from error

    async def _open(self, library: _Library, request: ModelRequest) -> tuple[Answer, list[ModelChunk] | None]:
        """An answer and its first chunks, after as many attempts as it takes and as are allowed."""
        arguments = self._router.arguments(library.litellm, request)
        retries = Retries(self._max_attempts)
        began = asyncio.get_running_loop().time()
        while True:
            try:
                return await self._attempt(library, request, arguments, Clock(self._timeouts, began))
            except ModelError as error:
                delay_s = retries.delay_after(error)
                logger.warning(
                    "model %r: %s (%s), tried again: %s", request.model, error, error.cause, delay_s is not None
                )
                if delay_s is None:
                    raise
            await asyncio.sleep(delay_s)

    async def _attempt(
        self, library: _Library, request: ModelRequest, arguments: dict[str, Any], clock: Clock
    ) -> tuple[Answer, list[ModelChunk] | None]:
        source = None
        try:
            source = await clock.limit(self._ask(library, arguments))
            answer = Answer(source, clock, [tool.name for tool in request.tools])
            return answer, await answer.read()
        except BaseException:
            clock.stop()
            if source is not None:
                await source.aclose()
            raise

    async def _ask(self, library: _Library, arguments: dict[str, Any]) -> ProviderStream:
        from turns.model.streams.transport import HANDLER, ProviderCall

        call = ProviderCall(library.connections)
        if self._router.takes_handler(library.litellm, arguments["model"]):
            arguments = {**arguments, "client": HANDLER}
        try:
            with call.active():
                stream = await library.litellm.acompletion(**arguments, timeout=self._timeouts.total_s)
        except BaseException:
            await call.aclose()
            raise
        if call.answer is not None:
            return OpenAIStream(call.answer)
        if stream is None:  # so litellm answers when a provider says 422 twice
            raise ModelError("model_error", "The provider refused the request as invalid.")
        return TranslatedStream(stream, call)

    async def _end(self, litellm: LiteLLM, request: ModelRequest, answer: Answer) -> ModelEnd:
        calls = answer.calls()
        usage = reported_usage(answer.reports)
        if usage is None:
            usage = await asyncio.to_thread(estimated_usage, self._tokenizer, request, answer.text)
        cost_usd = PriceTable(litellm).cost_usd(request.model, usage)
        return ModelEnd(answer.finish_reason, usage.model_copy(update={"cost_usd": cost_usd}), calls)


def _has_failed(task: asyncio.Task[_Library]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _open_library(tokenizer: Tokenizer) -> _Library:
    litellm = _load_litellm(tokenizer)
    from turns.model.streams.transport import SESSION, ProviderConnections

    litellm.aclient_session = SESSION
    return _Library(litellm, ProviderConnections())


def _load_litellm(tokenizer: Tokenizer) -> LiteLLM:
    """Import litellm, configure it and make a first call, slow too: seconds of CPU, so not on an event loop."""
    os.environ.update(_ENVIRONMENT)
    _quieten()
    import litellm

    importlib.import_module("openai.resources")  # the OpenAI library would do it in the middle of its first call
    _quieten()  # again, because the imports set some levels
    for name, value in _SETTINGS.items():
        setattr(litellm, name, value)
    tokenizer.load()
    module = cast("LiteLLM", litellm)
    try:
        _register_demo(module, tokenizer)
        asyncio.run(_first_call(module))
    except Exception:
        # The other models are asked without the demo.
        logger.warning("the demo model is not ready", exc_info=True)
    return module


def _quieten() -> None:
    for name, level in _LOG_LEVELS.items():
        logging.getLogger(name).setLevel(level)


def _register_demo(litellm: LiteLLM, tokenizer: Tokenizer) -> None:
    from turns.model.demo_provider import DemoProvider

    others = [entry for entry in litellm.custom_provider_map if entry["provider"] != demo.PROVIDER]
    handler = DemoProvider(tokenizer)
    litellm.custom_provider_map = [*others, {"provider": demo.PROVIDER, "custom_handler": handler}]


async def _first_call(litellm: LiteLLM) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    stream = await litellm.acompletion(model=demo.MODEL, messages=messages, stream=True)
    if stream is not None:
        await anext(stream)
        await stream.aclose()
