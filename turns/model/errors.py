"""The error of a failed model call, translated from litellm's and providers'.

Neither code nor detail contains text of the provider, of the prompt or of a key. Providers tend to repeat all three.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, cast, get_args

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
    """A model call failed. `detail` is a sentence of ours that any reader may see.

    `cause` is the original class and HTTP status, for logs. `retry_after_s` is the provider's Retry-After.
    """

    def __init__(
        self, code: ModelErrorCode, detail: str, *, cause: str = "", retry_after_s: float | None = None
    ) -> None:
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
"""Meanings of litellm's error classes. They are listed by name because this module must not import litellm."""

_BY_PROVIDER_CODE: Final = {
    "contextlengthexceeded": _TOO_LONG,
    "stringabovemaxlength": _TOO_LONG,
    "requesttoolarge": _TOO_LONG,
    "contentfilter": _FILTERED,
    "contentpolicyviolation": _FILTERED,
    "ratelimitexceeded": _RATE_LIMITED,
    "ratelimiterror": _RATE_LIMITED,
    "ratelimited": _RATE_LIMITED,
    "ratelimit": _RATE_LIMITED,
    "toomanyrequests": _RATE_LIMITED,
    "resourceexhausted": _RATE_LIMITED,
    "insufficientquota": _RATE_LIMITED,
    "throttlingexception": _RATE_LIMITED,
    "invalidapikey": _KEY_REFUSED,
    "authenticationerror": _KEY_REFUSED,
    "unauthenticated": _KEY_REFUSED,
    "unauthorized": _KEY_REFUSED,
    "permissionerror": _NOT_ALLOWED,
    "permissiondenied": _NOT_ALLOWED,
    "permissiondeniederror": _NOT_ALLOWED,
    "forbidden": _NOT_ALLOWED,
    "paymentrequired": _UNPAID,
    "insufficientcredits": _UNPAID,
    "insufficientbalance": _UNPAID,
    "modelnotfound": _NO_MODEL,
    "notfounderror": _NO_MODEL,
    "servererror": _DOWN,
    "internalservererror": _DOWN,
    "internalerror": _DOWN,
    "badgateway": _DOWN,
    "serviceunavailable": _DOWN,
    "serviceunavailableerror": _DOWN,
    "unavailable": _DOWN,
    "overloaded": _DOWN,
    "overloadederror": _DOWN,
    "engineoverloaded": _DOWN,
    "engineoverloadederror": _DOWN,
    "timeout": _TOO_SLOW,
    "timeouterror": _TOO_SLOW,
    "deadlineexceeded": _TOO_SLOW,
    "gatewaytimeout": _TOO_SLOW,
}
"""Meanings of providers' error codes, which are compared in lower case, by letters and digits only."""

_BY_PHRASE: Final = (
    (
        re.compile(r"context.?(length|window|size)|prompt is too long|input is too long|too many (input )?tokens"),
        _TOO_LONG,
    ),
    (re.compile(r"rate.?limit|too many requests|quota"), _RATE_LIMITED),
    (re.compile(r"content.?(filter|policy|management)|safety system"), _FILTERED),
    (re.compile(r"overloaded|temporarily unavailable|no (available )?capacity|at capacity"), _DOWN),
)
"""Meanings of phrases in an error's message, in lower case. They count if no code and no status does."""

_BY_CAUSE: Final = {
    "TimeoutException": _TOO_SLOW,
    "TransportError": _DISCONNECTED,
    "APIConnectionError": _DISCONNECTED,
    "ConnectionError": _DISCONNECTED,
    "JSONDecodeError": _UNREADABLE,
    "AttributeError": _UNREADABLE,
    "TypeError": _UNREADABLE,
    "ValidationError": _UNREADABLE,
    "UnicodeDecodeError": _UNREADABLE,
    "DecodingError": _UNREADABLE,
    "RecursionError": _UNREADABLE,
}
"""Meanings of the exceptions that litellm wraps. It wraps all that it does not know in a connection error."""

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
_ERROR_FIELDS: Final = ("code", "type", "status", "status_code", "error_code", "http_code", "message", "msg")
"""Fields in which an error in a stream is described, the most specific first."""

_MAX_CAUSES = 6
"""How many links of a chain of causes are examined."""


def model_error_from(error: BaseException) -> ModelError:
    """Return the `ModelError` for an exception that litellm raised."""
    head = getattr(error, "original_exception", None) or error
    chain = _causes(head)
    meaning = (
        _first(_BY_CLASS, _class_names(head))
        or _first(_BY_PROVIDER_CODE, [_letters(getattr(link, "code", "")) for link in chain])
        or _first(_BY_CAUSE, [name for link in chain if not _is_litellms(link) for name in _class_names(link)])
        or _by_status(head)
    )
    cause = f"{type(chain[-1]).__name__} {getattr(head, 'status_code', '')}".strip()
    return ModelError(*meaning, cause=cause, retry_after_s=_retry_after_s(head))


def error_in_stream(report: object) -> ModelError:
    """Return the `ModelError` for an error that a provider sent in place of a chunk."""
    values = list(_described(report))
    statuses = [status for value in values if (status := _status(value)) is not None]
    text = " ".join(value for value in values if isinstance(value, str)).lower()
    by_phrase = next((meaning for phrase, meaning in _BY_PHRASE if phrase.search(text)), None)
    by_status = _of_status(statuses[0]) if statuses else None
    meaning = (
        _first(_BY_PROVIDER_CODE, [_letters(value) for value in values])
        or (by_status if by_status is not _REFUSED else by_phrase)
        or by_status
        or by_phrase
        or _FAILED
    )
    return ModelError(*meaning, cause=f"error in the stream {' '.join(map(str, statuses))}".strip())


def reports_error(chunk: Mapping[str, object]) -> bool:
    """Return whether an object without choices reports an error."""
    kinds = (chunk.get("object"), chunk.get("type"))
    statuses = (chunk.get(name) for name in ("code", "status", "status_code", "error_code"))
    return "error" in kinds or bool(chunk.get("errors")) or any(_status(status) is not None for status in statuses)


def _described(report: object, depth: int = 3) -> Iterator[object]:
    """Yield the codes, statuses and messages of an error, the most specific first.

    Those of an error inside it follow.
    """
    if isinstance(report, str | int):
        yield report
    elif isinstance(report, list) and report and depth:
        yield from _described(cast("list[object]", report)[0], depth - 1)
    elif isinstance(report, Mapping) and depth:
        fields = cast("Mapping[str, object]", report)
        yield from (fields[name] for name in _ERROR_FIELDS if isinstance(fields.get(name), str | int))
        for name in ("error", "errors", "detail"):
            yield from _described(fields.get(name), depth - 1)


def _status(value: object) -> int | None:
    """Return `value` as an HTTP status of an error, None if it is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and 400 <= value < 600 else None


def _letters(code: object) -> str:
    return re.sub("[^a-z0-9]", "", str(code).lower())


def _causes(error: BaseException) -> list[BaseException]:
    chain = [error]
    while len(chain) < _MAX_CAUSES and (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
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
    return _of_status(status)


def _of_status(status: int) -> _Meaning:
    return _BY_STATUS.get(status, _DOWN if status >= 500 else _FAILED)


def _retry_after_s(error: BaseException) -> float | None:
    headers: Mapping[str, str] = getattr(error, "litellm_response_headers", None) or {}
    try:
        seconds = float(headers.get("retry-after", ""))
        return seconds if seconds >= 0 else None
    except ValueError:
        return None
