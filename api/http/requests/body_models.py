"""Models of request bodies."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
)
from pydantic_core import PydanticCustomError

from domain.agent import AgentSettings
from domain.content import MAX_TEXT_BYTES, Content, ContentBlock, ImageBlock, Role, TextBlock
from domain.tools import MAX_TOOLS, ToolDefinition
from domain.values import Frozen, Label, Metadata, Text, Title

MAX_FIRST_MESSAGES = 1000
MAX_TOOL_RESULTS = 1000

# The tags of the two forms of a message's content. They are in the paths of pydantic's errors.
CONTENT_FORMS = frozenset({"string", "blocks"})

# Descriptions that several fields share.
_AGENT_ID = "A label: the agent that the conversation belongs to."
_METADATA = "The client's own JSON object, at most 64 KiB and 64 levels deep."
_STREAM = "True for an answer as server-sent events."
MODEL = "The litellm name of the model. By default that of the agent or of the server."


def _content_form(value: Any) -> str:
    return "string" if isinstance(value, str) else "blocks"


def _without_hash(block: ContentBlock) -> ContentBlock:
    if isinstance(block, ImageBlock) and block.sha256 is not None:
        message = "`sha256` is not for clients to send: a client that knows it need not own the image"
        raise PydanticCustomError("sha256", message)
    return block


_Blocks = tuple[Annotated[ContentBlock, AfterValidator(_without_hash)], ...]

MessageContent = Annotated[
    Annotated[Text, Tag("string")] | Annotated[_Blocks, Tag("blocks")], Discriminator(_content_form)
]
"""Content in a request: blocks, or a bare string for one text block."""


def content_blocks(content: str | Content) -> Content:
    """Return the content of a request as content blocks."""
    return (TextBlock(text=content),) if isinstance(content, str) else content


class FirstMessage(Frozen):
    """A message of a new conversation."""

    role: Role
    content: MessageContent


class NewConversation(Frozen):
    """Body of `POST /v1/conversations`."""

    title: Title | None = Field(default=None, description="The title that listings show.")
    metadata: Metadata = Field(default_factory=dict, description=_METADATA)
    agent_id: Label | None = Field(default=None, description=_AGENT_ID)
    messages: Annotated[tuple[FirstMessage, ...], Field(max_length=MAX_FIRST_MESSAGES)] = Field(
        default=(), description="The first messages, recorded with the conversation. No model is called."
    )


class ConversationChanges(Frozen):
    """Body of `PATCH /v1/conversations/{id}`. A field that is absent stays as it is."""

    title: Title | None = Field(default=None, description="The new title, or null for none.")
    metadata: Metadata = Field(default_factory=dict, description="The new metadata, which replaces the old one.")


class NewMessage(Frozen):
    """Body of `POST /v1/conversations/{id}/messages`."""

    role: Role
    content: MessageContent
    in_reply_to: UUID | None = Field(
        default=None, description="The message that an assistant's message answers. By default the last user message."
    )


def _unique_names(tools: tuple[ToolDefinition, ...]) -> tuple[ToolDefinition, ...]:
    if len({tool.name for tool in tools}) < len(tools):
        raise ValueError("must have a name each")
    return tools


def _at_most_1_mib(text: str) -> str:
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise ValueError(f"must be at most {MAX_TEXT_BYTES} bytes of UTF-8")
    return text


Tools = Annotated[tuple[ToolDefinition, ...], Field(max_length=MAX_TOOLS), AfterValidator(_unique_names)]
ContextTokens = Annotated[int, Field(ge=1, le=100_000_000)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
ModelName = Annotated[Text, Field(min_length=1, max_length=256)]
TokenCount = Annotated[int, Field(ge=0, le=2**31 - 1)]


class NewTurn(Frozen):
    """Body of `POST /v1/conversations/{id}/turns`."""

    content: MessageContent
    model: ModelName | None = Field(default=None, description=MODEL)
    stream: bool = Field(default=False, description=_STREAM)
    generate: bool = Field(default=True, description="False if the client runs the model and records its stream.")
    metadata: Metadata = Field(default_factory=dict, description=_METADATA)
    max_context_tokens: ContextTokens | None = Field(
        default=None, description="Token budget of the context. By default that of the agent, the server or the model."
    )
    temperature: Temperature | None = Field(
        default=None, description="Sampling temperature. By default that of the agent or of the model."
    )
    max_output_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = Field(
        default=None, description="The most tokens of the answer."
    )
    tools: Tools = Field(
        default=(),
        description="The tools that the model may call, by default those of the agent. Each has a name of its own.",
    )
    replace_from: UUID | None = Field(
        default=None, description="The message to edit. The message and all after it become superseded."
    )
    on_busy: Literal["reject", "queue", "interrupt"] = Field(
        default="reject", description="The choice while another turn runs: refuse, wait for its end, or cancel it."
    )


class Regeneration(Frozen):
    """Body of `POST …/messages/{message_id}/regenerate`."""

    model: ModelName | None = Field(
        default=None, description="The litellm name of the model. By default that of the turn that answered before."
    )
    stream: bool = Field(default=False, description=_STREAM)


class NewToolResult(Frozen):
    """The result of one tool call."""

    tool_use_id: Text = Field(description="The id of the call.")
    content: Text = Field(description="The result as text, often JSON.")
    is_error: bool = Field(default=False, description="Whether the tool failed.")


class NewToolResults(Frozen):
    """Body of `POST …/tool_results`: the results of all open calls."""

    results: Annotated[tuple[NewToolResult, ...], Field(min_length=1, max_length=MAX_TOOL_RESULTS)] = Field(
        description="One result for each open call."
    )
    stream: bool = Field(default=False, description=_STREAM)


class TurnUsage(Frozen):
    """The tokens and the cost of a model call that the client made."""

    input_tokens: TokenCount
    output_tokens: TokenCount
    cached_input_tokens: TokenCount = 0
    reasoning_tokens: TokenCount = 0
    cost_usd: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] | None = None
    estimated: bool = Field(default=False, description="Whether the client counted the tokens itself.")


class NewDeltas(Frozen):
    """Body of `POST …/deltas`: chunks of a model that the client runs.

    Without chunks it only keeps the turn alive.
    """

    seq: Annotated[int, Field(ge=2, le=2**31 - 1)] = Field(
        description="The frame number of the first chunk. The first chunk of a turn is frame 2."
    )
    chunks: Annotated[tuple[Annotated[Text, Field(min_length=1)], ...], Field(max_length=10_000)] = Field(
        description="The chunks of text, in order."
    )


class TurnEnd(Frozen):
    """Body of `POST …/complete`."""

    usage: TurnUsage | None = None
    finish_reason: Literal["stop", "length", "content_filter"] = "stop"


class TurnFailure(Frozen):
    """Body of `POST …/fail`."""

    detail: Annotated[Text, Field(min_length=1, max_length=1024)] = Field(
        description="One sentence for people, which says why the turn failed."
    )


class NewConversationTurn(NewTurn):
    """Body of `POST /v1/turns`: a turn, and the conversation that it starts."""

    title: Title | None = Field(default=None, description="The title of the conversation.")
    agent_id: Label | None = Field(default=None, description=_AGENT_ID)


class NewAgent(Frozen):
    """Body of `PUT /v1/agents/{agent_id}`.

    A setting that is absent or null is left open. Without `tools` there are none.
    """

    system_prompt: Annotated[Text, Field(min_length=1), AfterValidator(_at_most_1_mib)] | None = Field(
        default=None, description="A text for the model before the messages, at most 1 MiB."
    )
    model: ModelName | None = Field(default=None, description="The litellm name of the model.")
    max_context_tokens: ContextTokens | None = Field(default=None, description="Token budget of the context.")
    temperature: Temperature | None = Field(default=None, description="Sampling temperature.")
    tools: Tools = Field(default=(), description="The tools that the model may call. Each has a name of its own.")
    max_conversations: Annotated[int, Field(ge=1, le=100_000_000)] | None = Field(
        default=None, description="The most live conversations of an owner with the agent."
    )
    retain_days: Annotated[int, Field(ge=1, le=36_500)] | None = Field(
        default=None, description="Days for which conversations are to be kept. Stored without effect so far."
    )
    tool_results_timeout_s: Annotated[float, Field(gt=0, le=100_000_000, allow_inf_nan=False)] | None = Field(
        default=None, description="Seconds that a turn waits for tool results before it fails."
    )

    def settings(self) -> AgentSettings:
        """Return the settings of the agent."""
        return AgentSettings(**{name: getattr(self, name) for name in AgentSettings._fields})
