"""Scripted answers of a model: streams of steps, and refusals.

    Script(["a", "b"], delay_s=0.03)                            # a pause before each chunk
    Script([Reasoning("Hm"), "Yes"], usage=None)                # reasoning; a provider that sends no usage
    Script([ToolFragment(0, "call_1", "add", '{"a":'), ToolFragment(0, arguments="1}")], finish_reason="tool_calls")
    Script(["a", Hang()])   Script(["a", BreakOff()])           # falls silent; closes the socket
    Script(["a"], finish_reason=None)                           # ends without a finish
    Script(["a", Raw("{not json")])                             # any line of data
    Script([Wire(b""), Hang()])                                 # any bytes of the body; with none only the headers
    Refusal(429, "rate_limit_exceeded", headers={"Retry-After": "1"})   # any HTTP error; some are named below

The status line goes out with the first step that sends anything, as a real server's does: `Script([Hang()])` hangs
before it. `BreakOff(reset=True)` resets the connection where a closed one would be an ordinary end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Reasoning(NamedTuple):
    """A chunk of reasoning, sent as `reasoning_content`."""

    text: str


@dataclass(frozen=True)
class ToolFragment:
    """A fragment of a tool call.

    The first fragment of a call has its id and name.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Raw(NamedTuple):
    """One literal `data:` line, which may hold broken JSON."""

    data: str


class Wire(NamedTuple):
    """Literal bytes of the body, written at once."""

    data: bytes


class Pause(NamedTuple):
    """Silence for some seconds."""

    seconds: float


class Hang(NamedTuple):
    """Silence until the client leaves or the server stops."""


class BreakOff(NamedTuple):
    """An immediate close of the socket within the answer, or a reset."""

    reset: bool = False


Step = str | Reasoning | ToolFragment | Raw | Wire | Pause | Hang | BreakOff


def usage(input_tokens: int, output_tokens: int, *, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """Return a usage block in OpenAI's format."""
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


USAGE = usage(11, 7)


@dataclass(frozen=True)
class Script:
    """One streamed answer: its steps in order, its finish, its usage and `[DONE]`.

    The usage is sent if the request asks for it.
    """

    chunks: Sequence[Step] = ("Hello", " there")
    delay_s: float = 0.0
    finish_reason: str | None = "stop"
    usage: Mapping[str, Any] | None = field(default_factory=lambda: USAGE)
    done: bool = True
    media_type: str = "text/event-stream"
    keep_alive: bool = False


@dataclass(frozen=True)
class Refusal:
    """An HTTP error in OpenAI's shape, instead of a stream."""

    status: int
    code: str
    message: str = "The request was refused."
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


CONTEXT_TOO_LONG = Refusal(
    400, "context_length_exceeded", "This model's maximum context length is 8192 tokens, your messages have 9001."
)
CONTENT_FILTERED = Refusal(400, "content_policy_violation", "Your request was rejected by our safety system.")
BAD_REQUEST = Refusal(400, "invalid_value", "Invalid value for 'messages'.")
BAD_KEY = Refusal(401, "invalid_api_key", "Incorrect API key provided.")
UNKNOWN_MODEL = Refusal(404, "model_not_found", "The model does not exist.")
RATE_LIMITED = Refusal(429, "rate_limit_exceeded", "Rate limit reached.", {"Retry-After": "0"})
SERVER_ERROR = Refusal(500, "server_error", "The server had an error.")
OVERLOADED = Refusal(503, "overloaded", "The engine is overloaded.")
