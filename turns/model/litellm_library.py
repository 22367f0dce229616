"""litellm: the part of it in use, as types, and how it is loaded and configured.

Its import takes seconds of CPU, tries the network, and logs and prints a lot. So it is imported in a thread of its own
at first use, with its own files instead of the network, and with its loggers silenced. `litellm_transport` and
`demo_provider` import litellm at the top, so they are imported here, together with it.
"""

import asyncio
import importlib
import logging
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from commands.tokens import Tokenizer
from turns.model import demo_model

if TYPE_CHECKING:
    from turns.model.streams.litellm_transport import ProviderConnections

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
_THREAD_NAME: Final = "model library"


class LiteLLMStream(Protocol):
    """litellm's `CustomStreamWrapper`."""

    completion_stream: Any
    received_finish_reason: str | None
    intermittent_finish_reason: str | None
    chunks: list[Any]

    def __aiter__(self) -> AsyncIterator[Any]: ...
    async def __anext__(self) -> Any: ...
    async def aclose(self) -> None: ...


class LiteLLM(Protocol):
    """The litellm module, which is partly typed and is not imported for its types."""

    model_cost: dict[str, dict[str, Any]]
    provider_list: list[str]
    openai_compatible_providers: list[str]
    custom_provider_map: list[Any]
    Usage: Any
    aclient_session: Any

    async def acompletion(self, **arguments: Any) -> LiteLLMStream | None: ...
    def get_llm_provider(self, model: str) -> tuple[str, str, str | None, str | None]: ...
    def cost_per_token(self, **arguments: Any) -> tuple[float, float]: ...


class LiteLLMLibrary(NamedTuple):
    """The loaded litellm, and the connections for the requests of one gateway."""

    litellm: LiteLLM
    connections: "ProviderConnections"


async def open_library(tokenizer: Tokenizer) -> LiteLLMLibrary:
    """Load litellm, and lead its requests through connections of the gateway's own.

    A load that has begun goes on when this is cancelled or the event loop is closed.
    """
    opened: Future[LiteLLMLibrary] = Future()
    # Not in the loop's executor, because the end of the loop waits for that. And not in a daemon thread, because the
    # end of the interpreter can abort the process while such a thread runs extension code.
    threading.Thread(target=_open, args=(opened, tokenizer), name=_THREAD_NAME).start()
    return await asyncio.wrap_future(opened)


def is_loading() -> bool:
    """Return whether this process loads litellm now, even for a closed gateway."""
    return any(thread.name == _THREAD_NAME for thread in threading.enumerate())


def _open(opened: Future[LiteLLMLibrary], tokenizer: Tokenizer) -> None:
    opened.set_running_or_notify_cancel()
    try:
        litellm = load_litellm(tokenizer)
        from turns.model.streams.litellm_transport import SESSION, ProviderConnections

        litellm.aclient_session = SESSION
        opened.set_result(LiteLLMLibrary(litellm, ProviderConnections()))
    except BaseException as error:  # noqa: BLE001 - the caller raises it
        opened.set_exception(error)


def load_litellm(tokenizer: Tokenizer) -> LiteLLM:
    """Import litellm, configure it and make a first call.

    It takes seconds of CPU, so call it in a thread.
    """
    os.environ.update(_ENVIRONMENT)
    _set_log_levels()
    import litellm

    importlib.import_module("openai.resources")  # the OpenAI library would do it in the middle of its first call
    _set_log_levels()  # again, because the imports set some levels
    for name, value in _SETTINGS.items():
        setattr(litellm, name, value)
    tokenizer.load()
    module = cast("LiteLLM", litellm)
    try:
        _register_demo_model(module, tokenizer)
        asyncio.run(_call_demo_model(module))
    except Exception:
        # The other models work without the demo model.
        logger.warning("the demo model is not ready", exc_info=True)
    return module


def _set_log_levels() -> None:
    for name, level in _LOG_LEVELS.items():
        logging.getLogger(name).setLevel(level)


def _register_demo_model(litellm: LiteLLM, tokenizer: Tokenizer) -> None:
    from turns.model.demo_provider import DemoProvider

    others = [entry for entry in litellm.custom_provider_map if entry["provider"] != demo_model.PROVIDER]
    handler = DemoProvider(tokenizer)
    litellm.custom_provider_map = [*others, {"provider": demo_model.PROVIDER, "custom_handler": handler}]


async def _call_demo_model(litellm: LiteLLM) -> None:
    """Make the first call, which is slow, before a user waits for it."""
    messages = [{"role": "user", "content": "Hello"}]
    stream = await litellm.acompletion(model=demo_model.MODEL, messages=messages, stream=True)
    if stream is not None:
        await anext(stream)
        await stream.aclose()
