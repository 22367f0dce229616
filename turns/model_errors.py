"""Why a model call failed: one error with a stable code, and the table that brings litellm's errors to it.

Neither code nor detail ever holds words of the provider, of the prompt or of a key: providers like to repeat all three.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args

ModelErrorCode = Literal[
    "model_error",
    "model_timeout",
    "model_rate_limited",
    "model_auth",
    "model_unavailable",
    "context_too_long",
    "content_filtered",
]
MODEL_ERROR_CODES: Final[tuple[ModelErrorCode, ...]] = get_args(ModelErrorCode)


class ModelError(Exception):
    """A model call that failed; `detail` is a sentence of ours, fit for any reader."""

    def __init__(
        self, code: ModelErrorCode, detail: str, *, cause: str = "", retry_after_s: float | None = None
    ) -> None:
        """`cause` names the class and HTTP status behind it, for the log; `retry_after_s` is the provider's wish."""
        super().__init__(f"{code}: {detail}")
        self.code: Final = code
        self.detail: Final = detail
        self.cause: Final = cause
        self.retry_after_s: Final = retry_after_s


class _Meaning(NamedTuple):
    code: ModelErrorCode
    detail: str


_KEY_REFUSED = _Meaning("model_auth", "The provider did not accept the API key.")
_NOT_ALLOWED = _Meaning("model_auth", "The API key may not use this model.")
_UNPAID = _Meaning("model_auth", "The provider asks for payment before it answers.")
_RATE_LIMITED = _Meaning("model_rate_limited", "The provider's rate limit or quota is used up.")
_TOO_SLOW = _Meaning("model_timeout", "The provider did not answer in time.")
_TOO_LONG = _Meaning("context_too_long", "The context is too long for this model.")
_FILTERED = _Meaning("content_filtered", "The provider's content filter refused the request.")
_NO_MODEL = _Meaning("model_error", "The provider does not know this model.")
_REFUSED = _Meaning("model_error", "The provider refused the request as invalid.")
_UNREADABLE = _Meaning("model_error", "The provider sent an answer that cannot be read.")
_NOT_INSTALLED = _Meaning("model_error", "This model's provider needs a package that is not installed.")
_FAILED = _Meaning("model_error", "The provider reported an error.")
_DOWN = _Meaning("model_unavailable", "The provider is overloaded or down.")
_DISCONNECTED = _Meaning("model_unavailable", "The connection to the provider failed.")

_BY_CLASS: Final = {
    "AuthenticationError": _KEY_REFUSED,
    "PermissionDeniedError": _NOT_ALLOWED,
    "PaymentRequiredError": _UNPAID,
    "RateLimitError": _RATE_LIMITED,
    "Timeout": _TOO_SLOW,
    "ContextWindowExceededError": _TOO_LONG,
    "ContentPolicyViolationError": _FILTERED,
    "NotFoundError": _NO_MODEL,
    "ImportError": _NOT_INSTALLED,
}
"""litellm's classes that say enough by themselves. By name, because litellm must not be imported to name them."""

_BY_PROVIDER_CODE: Final = {
    "context_length_exceeded": _TOO_LONG,
    "content_filter": _FILTERED,
    "content_policy_violation": _FILTERED,
    "rate_limit_exceeded": _RATE_LIMITED,
    "insufficient_quota": _RATE_LIMITED,
    "server_error": _DOWN,
}

_BY_CAUSE: Final = {
    "TransportError": _DISCONNECTED,
    "APIConnectionError": _DISCONNECTED,
    "ConnectionError": _DISCONNECTED,
    "JSONDecodeError": _UNREADABLE,
    "AttributeError": _UNREADABLE,
    "TypeError": _UNREADABLE,
    "ValidationError": _UNREADABLE,
    "UnicodeDecodeError": _UNREADABLE,
}
"""What litellm wrapped, where its own class says nothing: it calls everything it does not know a connection error."""

_BY_STATUS: Final = {
    400: _REFUSED,
    401: _KEY_REFUSED,
    402: _UNPAID,
    403: _NOT_ALLOWED,
    404: _NO_MODEL,
    408: _TOO_SLOW,
    413: _TOO_LONG,
    422: _REFUSED,
    429: _RATE_LIMITED,
    504: _TOO_SLOW,
}
_BOTTOM = 6
"""How far down a chain of causes is looked."""


def model_error_from(error: BaseException) -> ModelError:
    """The `ModelError` that an error out of litellm stands for."""
    head = getattr(error, "original_exception", None) or error
    chain = _causes(head)
    meaning = (
        _first(_BY_CLASS, _class_names(head))
        or _first(_BY_PROVIDER_CODE, [str(getattr(link, "code", "")) for link in chain])
        or _first(_BY_CAUSE, [name for link in chain if not _is_litellms(link) for name in _class_names(link)])
        or _by_status(head)
    )
    cause = f"{type(chain[-1]).__name__} {getattr(head, 'status_code', '')}".strip()
    return ModelError(*meaning, cause=cause, retry_after_s=_retry_after_s(head))


def _causes(error: BaseException) -> list[BaseException]:
    chain = [error]
    while len(chain) < _BOTTOM and (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    return chain


def _class_names(error: BaseException) -> list[str]:
    return [kind.__name__ for kind in type(error).__mro__]


def _is_litellms(error: BaseException) -> bool:
    return type(error).__module__.startswith("litellm.")


def _first(table: dict[str, _Meaning], keys: list[str]) -> _Meaning | None:
    return next((table[key] for key in keys if key in table), None)


def _by_status(error: BaseException) -> _Meaning:
    status = getattr(error, "status_code", None)
    if type(error).__name__ == "APIConnectionError" or not isinstance(status, int):
        return _FAILED
    return _BY_STATUS.get(status, _DOWN if status >= 500 else _FAILED)


def _retry_after_s(error: BaseException) -> float | None:
    headers: Mapping[str, str] = getattr(error, "litellm_response_headers", None) or {}
    try:
        seconds = float(headers.get("retry-after", ""))
        return seconds if seconds >= 0 else None
    except ValueError:
        return None
