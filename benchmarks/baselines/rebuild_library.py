"""A rebuild by the eventsourcing library's ProjectionRunner.

The runner commits event by event.
"""

from time import perf_counter
from typing import Any, ClassVar

from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.conninfo import conninfo_to_dict

from benchmarks.baselines.views import Tables
from domain.events import (
    ConversationDeleted,
    ConversationEvent,
    ConversationStarted,
    ConversationUpdated,
    MessageAdded,
    MessageDeleted,
    StreamDelta,
    TurnCompleted,
    TurnEnded,
    TurnFailed,
    TurnStarted,
)
from eventlog.library.application import ConversationApplication
from projections.models.token_estimates import estimated_tokens
from projections.projection import json_text

TIMEOUT_S = 600.0

_STATEMENTS: dict[type[ConversationEvent], list[str]] = {
    ConversationStarted: ["start_conversation"],
    ConversationUpdated: ["update_conversation"],
    MessageAdded: ["list_message", "add_message", "add_context"],
    MessageDeleted: ["unlist_message", "delete_message", "delete_context"],
    TurnStarted: ["list_turn", "add_message", "add_turn"],
    StreamDelta: ["add_stream_text"],
    TurnEnded: ["list_turn", "end_turn", "delete_empty_answer", "delete_stream_text"],
    ConversationDeleted: [
        "list_deletion",
        "delete_conversation_messages",
        "delete_conversation_turns",
        "delete_conversation_context",
    ],
}


class ViewsRecorder(PostgresTrackingRecorder):
    """Recorder of the changes of one event and its position in one transaction."""

    statements: ClassVar[dict[str, bytes]] = {}

    def write(self, names: list[str], parameters: dict[str, Any], tracking: Tracking) -> None:
        """Execute statements in order, then commit."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            for name in names:
                cursor.execute(self.statements[name], parameters, prepare=True)


class Views(Projection[ViewsRecorder]):
    """Projection of the listing, the history and the context."""

    def process_event(  # pyright: ignore[reportIncompatibleVariableOverride] - the library dispatches by type here
        self, domain_event: ConversationEvent, tracking: Tracking
    ) -> None:
        """Write the changes of one event."""
        kind = TurnEnded if isinstance(domain_event, TurnEnded) else type(domain_event)
        self.view.write(_STATEMENTS[kind], _parameters(domain_event), tracking)


def library_seconds(tables: Tables) -> float:
    """Return the seconds in which the library's runner projects the whole log.

    The tables are empty at first and have their keys and indexes.
    """
    tables.create()
    with tables.connect() as connection:
        for statement in tables.indexes():
            connection.execute(statement)
        row = connection.execute("SELECT position FROM head").fetchone()
    ViewsRecorder.statements = tables.statements("rebuild_library.sql")
    start = perf_counter()
    with ProjectionRunner(
        application_class=ConversationApplication,
        projection_class=Views,
        view_class=ViewsRecorder,
        env=_environment(tables),
    ) as runner:
        runner.wait(row[0] if row else 0, TIMEOUT_S)
        return perf_counter() - start


def _environment(tables: Tables) -> dict[str, str]:
    address = conninfo_to_dict(tables.conninfo)
    return {
        "PERSISTENCE_MODULE": "eventlog.library",
        "TURNLOG_DATABASE_URL": tables.conninfo,
        "TURNLOG_LOG_SCHEMA": tables.log,
        "VIEWS_PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(address["dbname"]),
        "POSTGRES_HOST": str(address["host"]),
        "POSTGRES_PORT": str(address["port"]),
        "POSTGRES_USER": str(address["user"]),
        "POSTGRES_PASSWORD": "none",
        "POSTGRES_SCHEMA": tables.schema,
    }


def _parameters(event: ConversationEvent) -> dict[str, Any]:
    """Return an event's fields as parameters of its statements."""
    fields = {name: getattr(event, name) for name in type(event).model_fields}
    fields |= {"conversation_id": event.originator_id, "version": event.originator_version, "at": event.timestamp}
    for name in ("metadata", "content", "usage"):
        if fields.get(name) is not None:
            fields[name] = json_text(fields[name])
    return fields | _derived(event)


def _derived(event: ConversationEvent) -> dict[str, Any]:
    """Return the row values that are not fields of the event."""
    if isinstance(event, MessageAdded):
        return {"estimated_tokens": estimated_tokens(event)}
    if isinstance(event, TurnStarted):
        empty = {"status": "streaming", "tokens": 0, "usage": None, "finish_reason": None, "author_id": None}
        answer = {"role": "assistant", "content": "[]", "in_reply_to": event.user_message_id}
        return {**empty, **answer, "active_turn_id": event.turn_id}
    if isinstance(event, StreamDelta):
        return {"text": "".join(event.chunks)}
    if isinstance(event, TurnEnded):
        return _ended(event)
    return {}


def _ended(event: TurnEnded) -> dict[str, Any]:
    end = dict.fromkeys(("active_turn_id", "usage", "finish_reason", "error_code", "error_detail"))
    if isinstance(event, TurnCompleted):
        usage = json_text(event.usage) if event.usage else None
        return {**end, "status": "completed", "usage": usage, "finish_reason": event.finish_reason}
    if isinstance(event, TurnFailed):
        return {**end, "status": "failed", "error_code": event.reason, "error_detail": event.detail}
    return {**end, "status": "cancelled"}
