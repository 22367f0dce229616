"""The introduction of the OpenAPI document, and its groups."""

from typing import NamedTuple

SUMMARY = "An event-sourced conversation store for LLM applications."

INTRODUCTION = """\
Turnlog records conversations with language models as events, and answers reads from tables that it builds from them.

1. `POST /v1/turns` starts a conversation with a message, lets the model answer and returns both.
2. `POST /v1/conversations/{conversation_id}/turns` sends the next message. With `"stream": true` the answer is a stream
   of server-sent events.
3. `GET /v1/conversations/{conversation_id}/messages` returns the history.

- **Bodies** are JSON in UTF-8. Unknown fields and unknown query parameters are refused, and so is U+0000 in any text.
- **Authentication.** Send a key or a JSON Web Token as `Authorization: Bearer …`. A server that runs with
  `TURNLOG_AUTH=none` ignores the header. Each operation names the roles that may use it.
- **Errors** are `application/problem+json` (RFC 9457). `code` is stable. An unknown path is 404 `NOT_FOUND`, and a
  method that a path does not support is 405 `METHOD_NOT_ALLOWED`.
- **Read your writes.** A write answers with its log position in `Turnlog-Position`. A read that sends this header
  includes the write, through any process.
- **Repeat safely.** A `POST` with an `Idempotency-Key` is recorded once, however often it is sent.
- **Lists** return `data` and `next_cursor`. Send the cursor as `cursor` to get the next page, until it is null.
- **Streams** begin with a comment, and send one after every 15 s of silence. A client resumes with `Last-Event-ID`.
- **HEAD** of every `GET` answers without the body.
"""


class Group(NamedTuple):
    """A group of operations, which OpenAPI calls a tag."""

    name: str
    description: str


GROUPS = (
    Group("conversations", "Start, find, change and delete conversations."),
    Group("messages", "Record messages without a model, and read the history and the context of a model."),
    Group("turns", "Send a message and let a model answer it, whole or streamed. Resume, cancel and repeat answers."),
    Group("agents", "Define the settings that conversations with a label use."),
    Group("client turns", "Record the stream of a model that the client runs itself."),
    Group("events", "Follow recorded events as they happen, and search the log."),
    Group("authentication", "Get short tokens for event streams in browsers."),
    Group("projections", "See how far the read models are, and rebuild them."),
    Group("operations", "See whether the server lives, can serve and is well."),
)
"""The groups in the order in which people need them."""
