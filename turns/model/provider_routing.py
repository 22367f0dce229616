"""The server of a model call: its name, key and address as litellm's arguments."""

from typing import Any, Final

from pydantic import SecretStr

from domain.tools import ToolDefinition
from turns.model import demo_model
from turns.model.errors import ModelError
from turns.model.gateway_types import ModelRequest
from turns.model.litellm_library import LiteLLM

_NO_KEY: Final = "none"
"""Sent to a server that needs no key. OpenAI's key from the environment must not go to it."""

_OPENAI: Final = frozenset({"openai", "custom_openai", "aiohttp_openai", "text-completion-openai"})
"""Providers for which litellm takes OpenAI's key from the environment."""

TAKES_HTTP_HANDLER: Final = frozenset(
    {
        "a2a", "anthropic", "azure_ai", "bedrock", "bedrock_mantle", "cometapi", "compactifai", "databricks",
        "datarobot", "deepseek", "edenai", "fireworks_ai", "gemini", "groq", "heroku", "hosted_vllm",
        "huggingface", "langflow", "langgraph", "lemonade", "minimax", "mistral", "nadir", "ollama",
        "ollama_chat", "opencode_go", "openrouter", "ovhcloud", "snowflake", "together_ai", "vertex_ai",
        "vertex_ai_beta", "xai",
    }
)  # fmt: skip
"""Providers for which litellm accepts an HTTP client as an argument.

litellm sends the requests for all other OpenAI-compatible providers through the OpenAI library.
"""

_NO_PROVIDER: Final = "No provider is known for this model name."


class ProviderRouting:
    """Makes litellm's arguments, with the operator's server and key if they are set.

    `api_base` is the address of an OpenAI-compatible server.
    """

    def __init__(self, api_base: str | None, api_key: SecretStr | None) -> None:
        self._api_base = api_base
        self._api_key = api_key

    def arguments(self, litellm: LiteLLM, request: ModelRequest) -> dict[str, Any]:
        """Return the arguments of `litellm.acompletion` for a request.

        litellm's own retries and cache are off.

        Raises:
            ModelError: no provider is known for the model's name.
        """
        optional = {
            "temperature": request.temperature,
            "max_tokens": request.max_output_tokens,
            "tools": [_tool(tool) for tool in request.tools] or None,
        }
        return {
            "messages": request.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "num_retries": 0,
            "max_retries": 0,
            "caching": False,
            "_skip_mcp_handler": True,  # otherwise any tool makes litellm import its proxy, which is not installed
            **self._destination(litellm, request.model),
            **{name: value for name, value in optional.items() if value is not None},
        }

    def takes_handler(self, litellm: LiteLLM, name: str) -> bool:
        """Return whether litellm takes an HTTP client for a model of this name."""
        provider, slash, _ = name.partition("/")
        if not slash or provider not in litellm.provider_list:
            _, provider, _, _ = litellm.get_llm_provider(name)
        return provider in TAKES_HTTP_HANDLER

    def _destination(self, litellm: LiteLLM, model: str) -> dict[str, Any]:
        provider, slash, _ = model.partition("/")
        if model == demo_model.MODEL:
            return {"model": model}
        if provider == demo_model.PROVIDER:
            raise ModelError("model_error", _NO_PROVIDER)
        key = self._api_key.get_secret_value() if self._api_key else None
        if self._api_base is None:
            _known_provider(litellm, model)
            return {"model": model, "api_key": key}
        name = model if slash and provider in litellm.provider_list else f"openai/{model}"
        return {"model": name, "api_base": self._api_base, "api_key": key or _key_from_environment(litellm, name)}


def _key_from_environment(litellm: LiteLLM, name: str) -> str | None:
    """Return the key for the operator's server if none is set.

    None means that litellm takes the key from the provider's own variable, and from no other.
    """
    provider, _, _ = name.partition("/")
    if provider in _OPENAI:
        return _NO_KEY
    if provider in TAKES_HTTP_HANDLER or provider not in litellm.openai_compatible_providers:
        return None
    # Without a key in the provider's own variable, litellm would send OpenAI's.
    _, _, own_key, _ = _known_provider(litellm, name)
    return own_key or _NO_KEY


def _known_provider(litellm: LiteLLM, model: str) -> tuple[str, str, str | None, str | None]:
    """Return litellm's name, provider, key and address of a model."""
    try:
        return litellm.get_llm_provider(model)
    except Exception:  # noqa: BLE001  litellm's errors share no class of their own
        raise ModelError("model_error", _NO_PROVIDER) from None


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": function}
