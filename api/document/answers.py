"""The answers of an operation: successes, and the problems of its route."""

from collections.abc import Mapping
from http import HTTPStatus

from api.auth.access import Access
from api.document import problem_responses as problems
from api.document.headers import Schema, answer_headers
from api.document.operations import Operation
from api.document.problem_responses import ProblemResponses
from api.document.stream_schemas import stream_content
from api.http.problems import (
    BAD_REQUEST,
    FORBIDDEN,
    HEADERS_TOO_LARGE,
    INTERNAL,
    INVALID_AS_OF,
    INVALID_CURSOR,
    NOT_FOUND,
    PAYLOAD_TOO_LARGE,
    READ_MODEL_BEHIND,
    REQUEST_TIMEOUT,
    SERVER_BUSY,
    UNSUPPORTED_ENCODING,
    VALIDATION_FAILED,
    ProblemKind,
)
from api.http.request import METHODS_WITH_BODY
from api.http.route import LIMITED_PATHS, READ_METHODS, JSONRoute

_NOT_FOUND: Mapping[str, ProblemKind] = {
    "conversation_id": problems.CONVERSATION_NOT_FOUND,
    "message_id": problems.MESSAGE_NOT_FOUND,
    "turn_id": problems.TURN_NOT_FOUND,
}


def complete_answers(
    operation: Schema, route: JSONRoute, described: Operation, body: Schema, responses: ProblemResponses
) -> None:
    """Complete the answers of an operation, and add its problems.

    `body` is the schema of its request body, if any.
    """
    _complete_successes(operation["responses"], route, described, body)
    for status, refused in responses.by_status(_problems(route, described)).items():
        _add_problem(operation["responses"], status, refused, responses)


def _complete_successes(answers: dict[str, Schema], route: JSONRoute, described: Operation, body: Schema) -> None:
    answers.pop(str(VALIDATION_FAILED.status), None)
    fields = body.get("properties", {})
    if "generate" in fields:
        whole = answers["201"]["content"]["application/json"]
        whole["schema"] = {"anyOf": [whole["schema"], {"$ref": "#/components/schemas/TurnResource"}]}
    if described.stream and (route.streams or "stream" in fields):
        answer = answers.setdefault("200", {})
        kept: Schema = {} if route.streams else answer.get("content", {})
        answer["content"] = {**kept, **stream_content(described.stream)}
    for status, answer in answers.items():
        answer["description"] = HTTPStatus(int(status)).phrase
        always, sometimes = _answer_headers(route, described, answer)
        if status.startswith("2") and (headers := answer_headers(always, sometimes)):
            answer["headers"] = headers


def _answer_headers(route: JSONRoute, described: Operation, answer: Schema) -> tuple[list[str], list[str]]:
    """Return the headers that an answer always has, and those that it may have."""
    writes = route.needs in (Access.WRITES, Access.WRITES_AGENTS)
    always = [*described.answer_headers, *(["Turnlog-Position"] if writes else [])]
    sometimes = ["Turnlog-Behind"] if writes else ["Turnlog-Position"] if _takes(route, "as_of") else []
    of_stream = ["Cache-Control", "X-Accel-Buffering"]
    media_types = set(answer.get("content", {}))
    if media_types == {"text/event-stream"}:
        always += of_stream
    elif "text/event-stream" in media_types:
        sometimes += of_stream
    return always, sometimes


def _problems(route: JSONRoute, described: Operation) -> set[ProblemKind]:
    methods, path, needs, signature = route.methods or set[str](), route.path, route.needs, route.signature
    writes = needs is Access.WRITES
    of_conversation = "conversation_id" in signature.ids
    named = {kind for name, kind in _NOT_FOUND.items() if name in signature.ids}
    sets: list[tuple[bool, set[ProblemKind]]] = [
        (True, {BAD_REQUEST, FORBIDDEN, REQUEST_TIMEOUT, VALIDATION_FAILED, HEADERS_TOO_LARGE, INTERNAL}),
        (True, {problems.STORE_UNAVAILABLE, *described.problems, *named}),
        (needs is not Access.PUBLIC, {problems.UNAUTHENTICATED, problems.IDENTITY_PROVIDER_UNAVAILABLE}),
        (path.startswith(LIMITED_PATHS), {problems.RATE_LIMITED}),
        (methods <= METHODS_WITH_BODY, {PAYLOAD_TOO_LARGE, UNSUPPORTED_ENCODING, SERVER_BUSY}),
        (methods <= READ_METHODS and needs is not Access.PUBLIC, {READ_MODEL_BEHIND}),
        (methods == {"POST"} and writes, {problems.IDEMPOTENCY_KEY_REUSED}),
        ("{" in path, {NOT_FOUND}),
        (of_conversation and not described.of_deleted, {problems.CONVERSATION_DELETED}),
        (of_conversation and writes, {problems.WRITE_CONFLICT}),
        (_takes(route, "cursor"), {INVALID_CURSOR}),
        (_takes(route, "as_of"), {INVALID_AS_OF}),
    ]
    return {kind for applies, kinds in sets if applies for kind in kinds}


def _takes(route: JSONRoute, parameter: str) -> bool:
    """Return whether a route takes a query parameter."""
    query = route.signature.query
    return query is not None and parameter in query[1].model_fields


def _add_problem(answers: dict[str, Schema], status: str, refused: Schema, responses: ProblemResponses) -> None:
    if status not in answers:
        answers[status] = refused
        return
    # The route answers this status also without a problem, so both contents stand side by side.
    problem = responses.components[refused["$ref"].rpartition("/")[2]]
    answers[status] = {**problem, "content": {**answers[status]["content"], **problem["content"]}}
