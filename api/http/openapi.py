"""The answers as the OpenAPI document describes them; `projections.models.json_resources` makes them."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from domain.content import ContentBlock, Role

T = TypeVar("T")


class Conversation(BaseModel):
    """A conversation."""

    id: str = Field(description="UUIDv7.")
    object: Literal["conversation"]
    owner_id: str
    agent_id: str | None
    title: str | None
    metadata: dict[str, Any]
    message_count: int
    status: Literal["idle", "running", "requires_action"]
    active_turn_id: str | None
    forked_from: str | None
    created_at: str = Field(description="RFC 3339, UTC, microseconds; so are all times.")
    updated_at: str
    last_message_at: str | None
    version: int = Field(description="Of the last event that a reader can see; the entity tag.")


class Usage(BaseModel):
    """What a model call used."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    estimated: bool = Field(description="Whether the server counted because the provider did not say.")


class Message(BaseModel):
    """A message; the answer of a turn has its id from the start of the turn."""

    id: str
    object: Literal["message"]
    conversation_id: str
    turn_id: str | None
    role: Role
    author_id: str | None
    content: list[ContentBlock]
    in_reply_to: str | None
    status: Literal["completed", "streaming", "interrupted", "superseded", "deleted"]
    model: str | None
    tokens: int
    usage: Usage | None
    finish_reason: str | None
    created_at: str
    version: int


class TurnError(BaseModel):
    """Why a turn failed."""

    code: str
    detail: str


class Turn(BaseModel):
    """A turn: a user's message and the model's answer to it."""

    id: str
    object: Literal["turn"]
    conversation_id: str
    user_message_id: str
    message_id: str
    status: Literal["queued", "running", "requires_action", "completed", "failed", "cancelled"]
    model: str
    usage: Usage | None
    finish_reason: str | None
    error: TurnError | None
    started_at: str | None = Field(description="Null while it is queued.")
    ended_at: str | None
    time_to_first_token_ms: float | None
    duration_ms: float | None


class WholeTurn(BaseModel):
    """A turn that was not streamed, once it has ended or waits for tool results; null is what was not said."""

    user_message: Message | None
    assistant_message: Message | None
    turn: Turn


class Context(BaseModel):
    """What a model would be sent, in OpenAI's chat form."""

    messages: list[dict[str, Any]]
    tokens: int
    dropped: int = Field(description="Earlier messages that did not fit.")


class RecordedEvent(BaseModel):
    """An event as the log holds it."""

    position: int
    conversation_id: str
    version: int
    type: str
    data: dict[str, Any]
    actor: str
    request_id: str | None
    recorded_at: str
    digest: str = Field(description="SHA-256 over the event, hexadecimal.")


class ProjectionError(BaseModel):
    """What stopped a projection; no position where no event is to blame."""

    position: int | None
    detail: str


class ProjectionRebuild(BaseModel):
    """How a build comes along that is not read yet."""

    build: int
    phase: Literal["loading", "indexing", "following"]
    running: bool = Field(description="False where whoever built it has gone; the next rebuild goes on with it.")
    position: int = Field(description="How many of the log's first `target` events are in it.")
    target: int
    events_per_second: float | None
    eta_seconds: float | None


class ProjectionBuild(BaseModel):
    """Another build of the same projection."""

    version: int
    build: int
    state: Literal["building", "live", "kept", "scratch"]
    position: int
    updated_at: str


class Projection(BaseModel):
    """A read model: the version that this release reads, and its build that is read now."""

    name: str
    object: Literal["projection"]
    version: int
    build: int | None = Field(description="Null before the first build of this version is done.")
    status: Literal["running", "stopped", "building"]
    position: int = Field(description="Position up to which the log is in it.")
    head: int = Field(description="Position of the log's last event.")
    lag_events: int
    lag_seconds: float = Field(description="Age of the oldest event that is not in it yet.")
    error: ProjectionError | None
    rebuild: ProjectionRebuild | None
    other_builds: list[ProjectionBuild]


class Page(BaseModel, Generic[T]):
    """A page of a list; `next_cursor` is null on the last one."""

    data: list[T]
    next_cursor: str | None


class NextFrame(BaseModel):
    """What is recorded of a turn whose client runs the model."""

    next_seq: int = Field(description="The `seq` of the chunk that comes next.")


class Deleted(BaseModel):
    """How many conversations were deleted."""

    deleted: int


class Problem(BaseModel):
    """A refusal (RFC 9457); a validation error adds `errors`, a locked conversation `active_turn_id`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[dict[str, Any]] | None = None


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "The request was refused."},
    "5XX": {"model": Problem, "description": "The request could not be served."},
}
