"""Models of responses, for the OpenAPI document.

The JSON itself is made in `projections.models.json_resources`.
"""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, Field

from domain.content import ContentBlock, Role
from domain.tools import ToolDefinition

T = TypeVar("T")

Id = Annotated[UUID, Field(description="A UUID of version 7.")]
Time = Annotated[datetime, Field(description="RFC 3339 in UTC with microseconds.")]


def _may_be_absent(schema: dict[str, Any]) -> None:
    # A field with a default is not required. Its default would say what its absence means.
    schema.pop("default", None)


class ConversationResource(BaseModel):
    """A conversation."""

    id: Id
    object: Literal["conversation"]
    owner_id: str
    agent_id: str | None = Field(description="The label of an agent.")
    title: str | None
    metadata: dict[str, Any] = Field(description="The client's own JSON object.")
    message_count: int
    status: Literal["idle", "running", "requires_action"]
    active_turn_id: Id | None = Field(description="The turn that runs, waits for tool results or is next in the queue.")
    forked_from: None = Field(description="Always null so far.")
    created_at: Time
    updated_at: Time
    last_message_at: Time | None
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
    retain_days: int | None = Field(description="Stored without effect so far.")
    tool_results_timeout_s: float | None = Field(
        description="Seconds that a turn waits for tool results before it fails."
    )
    created_at: Time
    updated_at: Time
    version: int = Field(description="Version of the definition, as turns record it. It is the entity tag.")


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

    id: Id
    object: Literal["message"]
    conversation_id: Id
    turn_id: Id | None
    role: Role
    author_id: str | None = Field(description="The actor that sent it, null for a model's answer.")
    content: list[ContentBlock]
    in_reply_to: Id | None
    status: Literal["completed", "streaming", "interrupted", "superseded"]
    model: str | None
    tokens: int = Field(description="Tokens of the content, as the encoding o200k_base counts them.")
    usage: UsageResource | None
    finish_reason: str | None
    created_at: Time
    said_at: Time | None = Field(description="When it was said in the program it was imported from, else null.")
    version: int


class TurnError(BaseModel):
    """The error of a failed turn."""

    code: str = Field(description="A stable code, such as model_timeout or interrupted.")
    detail: str


class TurnResource(BaseModel):
    """A turn: a user's message and the model's answer to it."""

    id: Id
    object: Literal["turn"]
    conversation_id: Id
    user_message_id: Id
    message_id: Id = Field(description="The newest answer of the turn.")
    status: Literal["queued", "running", "requires_action", "completed", "failed", "cancelled"]
    model: str
    usage: UsageResource | None
    finish_reason: str | None
    error: TurnError | None
    started_at: Time | None = Field(description="Null while it is queued.")
    ended_at: Time | None
    time_to_first_token_ms: float | None
    duration_ms: float | None = Field(description="Without the time in which it waited for tool results.")


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
    conversation_id: Id
    version: int
    type: str = Field(description="The type of the event, such as MessageAdded.")
    data: dict[str, Any]
    actor: str = Field(description="Role and id of the caller, such as user:alice, or `system`.")
    request_id: str | None
    recorded_at: Time
    digest: str = Field(description="SHA-256 over the event, hexadecimal.", pattern="^[0-9a-f]{64}$")


class OtherRecordedEvent(BaseModel):
    """An event of an aggregate that is no conversation, such as an agent."""

    position: int
    aggregate: str = Field(description="The kind of the aggregate, such as `agent`, or `audit` for reads of auditors.")
    aggregate_id: UUID
    version: int
    type: str = Field(description="The type of the event, such as AuditRead.")
    data: dict[str, Any]
    actor: str = Field(description="Role and id of the caller, such as auditor:watch, or `system`.")
    request_id: str | None
    recorded_at: Time
    digest: str = Field(description="SHA-256 over the event, hexadecimal.", pattern="^[0-9a-f]{64}$")


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
    updated_at: Time


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
    expires_at: Time


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


class HealthResource(BaseModel):
    """The process is alive."""

    status: Literal["ok"]


class UnreadyPart(BaseModel):
    """A part of the server that is not ready."""

    part: Literal["store", "migrations", "server", "model_library", "projection"]
    name: str = Field(
        default="", json_schema_extra=_may_be_absent, description="The projection. Absent for other parts."
    )
    state: str
    detail: str


class ProjectionReadiness(BaseModel):
    """How far a read model is."""

    position: int
    lag: int
    lag_seconds: float
    stopped: bool
    error: ProjectionErrorResource | None


class ReadinessResource(BaseModel):
    """The server can serve.

    Callers that had to authenticate and did not get neither `position` nor `projections`.
    """

    status: Literal["ready"]
    position: int = Field(default=0, json_schema_extra=_may_be_absent, description="Position of the log's last event.")
    projections: dict[str, ProjectionReadiness] = Field(
        default={}, json_schema_extra=_may_be_absent, description="The read models by name."
    )
    not_ready: list[UnreadyPart]


class UnreadyResource(BaseModel):
    """The server cannot serve."""

    status: Literal["unavailable"]
    detail: str
    not_ready: list[UnreadyPart]
    store: Literal["unreachable", "starting", "restarting", "stopped"] = Field(
        default="unreachable",
        json_schema_extra=_may_be_absent,
        description="The reason why PostgreSQL does not answer. Absent if it does.",
    )
    position: int = Field(default=0, json_schema_extra=_may_be_absent, description="Position of the log's last event.")
    projections: dict[str, ProjectionReadiness] = Field(
        default={}, json_schema_extra=_may_be_absent, description="The read models by name."
    )


class IndexResource(BaseModel):
    """The name and version of the server, and links to its resources."""

    name: Literal["Turnlog"]
    version: str
    links: dict[str, str]
