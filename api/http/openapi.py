"""Models of responses, for the OpenAPI document.

The JSON itself is made in `projections.models.json_resources`.
"""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from domain.content import ContentBlock, Role
from domain.tools import ToolDefinition

T = TypeVar("T")


class ConversationResource(BaseModel):
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
    created_at: str = Field(description="RFC 3339 in UTC with microseconds, as all times.")
    updated_at: str
    last_message_at: str | None
    version: int = Field(description="Version of the last event that a reader can see. It is the entity tag.")


class AgentResource(BaseModel):
    """An agent. A setting that is null is left open."""

    id: str = Field(description="The label, which is the `agent_id` of conversations.")
    object: Literal["agent"]
    owner_id: str | None = Field(description="Null if the agent is shared.")
    shared: bool
    system_prompt: str | None
    model: str | None
    max_context_tokens: int | None
    temperature: float | None
    tools: list[ToolDefinition]
    max_conversations: int | None
    retain_days: int | None
    tool_results_timeout_s: float | None
    created_at: str
    updated_at: str
    version: int = Field(description="Version of the definition, as turns record it.")


class UsageResource(BaseModel):
    """The tokens and the cost of a model call."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    estimated: bool = Field(
        description="Whether the server counted the tokens because the provider did not report them."
    )


class MessageResource(BaseModel):
    """A message. The answer of a turn has its id from the start of the turn."""

    id: str
    object: Literal["message"]
    conversation_id: str
    turn_id: str | None
    role: Role
    author_id: str | None
    content: list[ContentBlock]
    in_reply_to: str | None
    status: Literal["completed", "streaming", "interrupted", "superseded"]
    model: str | None
    tokens: int
    usage: UsageResource | None
    finish_reason: str | None
    created_at: str
    version: int


class TurnError(BaseModel):
    """The error of a failed turn."""

    code: str
    detail: str


class TurnResource(BaseModel):
    """A turn: a user's message and the model's answer to it."""

    id: str
    object: Literal["turn"]
    conversation_id: str
    user_message_id: str
    message_id: str
    status: Literal["queued", "running", "requires_action", "completed", "failed", "cancelled"]
    model: str
    usage: UsageResource | None
    finish_reason: str | None
    error: TurnError | None
    started_at: str | None = Field(description="Null while it is queued.")
    ended_at: str | None
    time_to_first_token_ms: float | None
    duration_ms: float | None


class WholeTurn(BaseModel):
    """A turn that was not streamed, once it has ended or waits for tool results.

    A message is null if there is none.
    """

    user_message: MessageResource | None
    assistant_message: MessageResource | None
    turn: TurnResource


class ContextResource(BaseModel):
    """The messages that a model would be sent, in OpenAI's chat form."""

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


class ProjectionErrorResource(BaseModel):
    """The error that stopped a projection.

    The position is null if no event caused it.
    """

    position: int | None
    detail: str


class ProjectionRebuild(BaseModel):
    """The progress of a build that is not read yet."""

    build: int
    phase: Literal["loading", "indexing", "following"]
    running: bool = Field(description="False if its process has ended. The next rebuild resumes it.")
    position: int = Field(description="How many of the log's first `target` events it holds.")
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


class ProjectionResource(BaseModel):
    """A read model, with the version and the build of it that this release reads."""

    name: str
    object: Literal["projection"]
    version: int
    build: int | None = Field(description="Null until the first build of this version is complete.")
    status: Literal["running", "stopped", "building"]
    position: int = Field(description="Position up to which it holds the log.")
    head: int = Field(description="Position of the log's last event.")
    lag_events: int
    lag_seconds: float = Field(description="Age of the oldest event that it does not hold yet.")
    error: ProjectionErrorResource | None
    rebuild: ProjectionRebuild | None
    other_builds: list[ProjectionBuild]


class ShortTokenResource(BaseModel):
    """A short token for the address of an event stream."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_at: str


class Page(BaseModel, Generic[T]):
    """A page of a list. `next_cursor` is null on the last page."""

    data: list[T]
    next_cursor: str | None


class NextFrame(BaseModel):
    """How far a turn is recorded whose client runs the model."""

    next_seq: int = Field(description="The `seq` of the next chunk.")


class Deleted(BaseModel):
    """The number of conversations that were deleted."""

    deleted: int


class Problem(BaseModel):
    """An error (RFC 9457).

    A validation error adds `errors`, and a locked conversation `active_turn_id`.
    """

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
