"""The operations of the OpenAPI document, beyond what their routes declare.

The errors that follow from the parts of a route, such as an id in its path, are not repeated here.
"""

from collections.abc import Mapping
from typing import NamedTuple

from api.document import problem_responses as problems
from api.document.stream_schemas import CONVERSATION_FEED, FEED, TURN_STREAM
from api.http.problems import MODEL_ERROR, READ_MODEL_BEHIND, ProblemKind

_CONVERSATION = "/v1/conversations/{conversation_id}"
_TURN = f"{_CONVERSATION}/turns/{{turn_id}}"


class Operation(NamedTuple):
    """The part of an operation that its route does not declare.

    `problems` are errors of its function, `request_headers` and `answer_headers` those of this operation only, and
    `stream` the component of the events that it streams. `of_deleted` says that it also works on deleted conversations.
    """

    problems: tuple[ProblemKind, ...] = ()
    request_headers: tuple[str, ...] = ()
    answer_headers: tuple[str, ...] = ()
    stream: str | None = None
    of_deleted: bool = False


_BEGINS_TURN = Operation(
    (problems.CONVERSATION_LOCKED, problems.MESSAGE_NOT_FOUND, problems.UNSUPPORTED_IMAGE, MODEL_ERROR),
    stream=TURN_STREAM,
)
_ENDS_TURN = Operation((problems.TURN_NOT_ACTIVE,))
# Starts with an agent that limits them compete for its next number.
_STARTS_CONVERSATION = (problems.CONVERSATION_LIMIT_REACHED, problems.WRITE_CONFLICT)

OPERATIONS: Mapping[str, Operation] = {
    "GET /": Operation(answer_headers=("Vary",)),
    "GET /healthz": Operation(),
    "GET /readyz": Operation(),
    "GET /metrics": Operation(),
    "POST /v1/tokens": Operation(answer_headers=("Cache-Control",)),
    "GET /v1/conversations": Operation(),
    "POST /v1/conversations": Operation((problems.UNSUPPORTED_IMAGE, *_STARTS_CONVERSATION)),
    "DELETE /v1/conversations": Operation((problems.WRITE_CONFLICT, READ_MODEL_BEHIND)),
    f"GET {_CONVERSATION}": Operation(answer_headers=("ETag",)),
    f"PATCH {_CONVERSATION}": Operation(
        (problems.VERSION_MISMATCH,), request_headers=("If-Match",), answer_headers=("ETag",)
    ),
    f"DELETE {_CONVERSATION}": Operation((problems.VERSION_MISMATCH,), request_headers=("If-Match",)),
    f"GET {_CONVERSATION}/messages": Operation(),
    f"POST {_CONVERSATION}/messages": Operation(
        (problems.CONVERSATION_LOCKED, problems.MESSAGE_NOT_FOUND, problems.UNSUPPORTED_IMAGE)
    ),
    f"GET {_CONVERSATION}/messages/{{message_id}}": Operation(),
    f"DELETE {_CONVERSATION}/messages/{{message_id}}": Operation((problems.CONVERSATION_LOCKED,)),
    f"POST {_CONVERSATION}/messages/{{message_id}}/regenerate": Operation(
        (problems.CONVERSATION_LOCKED, MODEL_ERROR), stream=TURN_STREAM
    ),
    f"GET {_CONVERSATION}/context": Operation((MODEL_ERROR,)),
    f"GET {_CONVERSATION}/log": Operation(of_deleted=True),
    f"GET {_CONVERSATION}/events": Operation(stream=CONVERSATION_FEED, of_deleted=True),
    f"GET {_CONVERSATION}/turns": Operation(),
    f"POST {_CONVERSATION}/turns": _BEGINS_TURN,
    "POST /v1/turns": Operation(
        (problems.MESSAGE_NOT_FOUND, problems.UNSUPPORTED_IMAGE, MODEL_ERROR, *_STARTS_CONVERSATION),
        stream=TURN_STREAM,
    ),
    f"GET {_TURN}": Operation(),
    f"GET {_TURN}/stream": Operation(stream=TURN_STREAM),
    f"POST {_TURN}/cancel": _ENDS_TURN,
    f"POST {_TURN}/tool_results": Operation((problems.TURN_NOT_ACTIVE, MODEL_ERROR), stream=TURN_STREAM),
    f"POST {_TURN}/deltas": Operation((problems.TURN_NOT_ACTIVE, problems.DELTA_OUT_OF_ORDER)),
    f"POST {_TURN}/complete": _ENDS_TURN,
    f"POST {_TURN}/fail": _ENDS_TURN,
    "GET /v1/agents": Operation(),
    "GET /v1/agents/{agent_id}": Operation((problems.AGENT_NOT_FOUND,), answer_headers=("ETag",)),
    "PUT /v1/agents/{agent_id}": Operation(
        (problems.WRITE_CONFLICT, problems.VERSION_MISMATCH), request_headers=("If-Match",), answer_headers=("ETag",)
    ),
    "DELETE /v1/agents/{agent_id}": Operation(
        (problems.AGENT_NOT_FOUND, problems.WRITE_CONFLICT, problems.VERSION_MISMATCH), request_headers=("If-Match",)
    ),
    "GET /v1/events": Operation((problems.CONVERSATION_NOT_FOUND,), stream=FEED),
    "GET /v1/log": Operation(),
    "GET /v1/projections": Operation(),
    "GET /v1/projections/{name}": Operation((problems.PROJECTION_NOT_FOUND,)),
    "POST /v1/projections/{name}/rebuild": Operation((problems.PROJECTION_NOT_FOUND, problems.WRITE_CONFLICT)),
}
"""Every route of the API has a line here."""
