"""Projections for tests, at module level so that worker processes import them."""

from collections.abc import Sequence
from typing import Any

from domain.events import ConversationEvent, ConversationStarted, MessageAdded
from projections.models.listing import ListingProjection
from projections.projection import Change, Projection, Rows, json_text

POISON = "poison"


class Titles(Projection):
    """Every conversation's first title.

    The projections below are the same, each with one defect.
    """

    name = "titles"
    version = 1
    tables = ("titles",)
    types = frozenset({ConversationStarted})

    def definitions(self) -> list[bytes]:
        return [b"CREATE TABLE %s (conversation_id uuid NOT NULL, title text)" % self._table]

    def indexes(self) -> list[bytes]:
        return [b"ALTER TABLE %s ADD PRIMARY KEY (conversation_id)" % self._table]

    def changes(self, events: Sequence[ConversationEvent]) -> list[Change]:
        insert = (
            b"INSERT INTO %s SELECT * FROM json_to_recordset(%%(rows)s::json) AS t(conversation_id uuid, title text)"
            % self._table
        )
        titles = [{"conversation_id": id_, "title": title} for id_, title in zip(*_columns(events), strict=True)]
        return [Change(insert, {"rows": json_text(titles)})] if events else []

    def rows(self, events: Sequence[ConversationEvent]) -> Rows:
        return {self.tables[0]: list(zip(*_columns(events), strict=True))}

    @property
    def _table(self) -> bytes:
        return self.table(self.tables[0]).encode()


class TitlesThatCannotLoad(Titles):
    """The same, but it cannot load a poisonous event."""

    def rows(self, events: Sequence[ConversationEvent]) -> Rows:
        _refuse_poison(events)
        return super().rows(events)


class TitlesThatCannotFollow(Titles):
    """The same, but it cannot apply a poisonous event."""

    def changes(self, events: Sequence[ConversationEvent]) -> list[Change]:
        _refuse_poison(events)
        return super().changes(events)


class TitlesThatCannotBeStored(Titles):
    """The same, but its rows do not fit its table."""

    def rows(self, events: Sequence[ConversationEvent]) -> Rows:
        return {"titles": [("no uuid", None) for _ in events]}


class TitlesWithoutATable(Titles):
    """The same, but its definition is not valid SQL."""

    def definitions(self) -> list[bytes]:
        return [*super().definitions(), b"CREATE TABEL more ()"]


class TitlesWithoutAnIndex(Titles):
    """The same, but its rows violate its key."""

    def indexes(self) -> list[bytes]:
        return [*super().indexes(), b"CREATE UNIQUE INDEX ON %s ((true))" % self._table]


class FirstTitles(Titles):
    """The same by another name, for the first release that has it."""

    name = "first_titles"
    tables = ("first_titles",)


class ListingV4(ListingProjection):
    """A later version of the listing with the role of the last message."""

    version = 4

    def definitions(self) -> list[bytes]:
        return [*super().definitions(), b"ALTER TABLE %s ADD COLUMN last_role text" % self._table]

    def changes(self, events: Sequence[ConversationEvent]) -> list[Change]:
        update = (
            b"UPDATE %s AS l SET last_role = s.role"
            b" FROM json_to_recordset(%%(rows)s::json) AS s(conversation_id uuid, role text)"
            b" WHERE l.conversation_id = s.conversation_id" % self._table
        )
        last = _last_roles(events)
        roles = [{"conversation_id": id_, "role": role} for id_, role in last.items()]
        role_changes = [Change(update, {"rows": json_text(roles)})] if last else []
        return [*super().changes(events), *role_changes]

    def rows(self, events: Sequence[ConversationEvent]) -> Rows:
        last = _last_roles(events)
        return {"listing": [(*row, last.get(row[0])) for row in super().rows(events)["listing"]]}

    @property
    def _table(self) -> bytes:
        return self.table("listing").encode()


class ListingRenamed(ListingProjection):
    """A later version of the listing with a renamed column."""

    version = 4

    def definitions(self) -> list[bytes]:
        return [each.replace(b"owner_id", b"owner_name") for each in super().definitions()]

    def indexes(self) -> list[bytes]:
        return super().indexes()[:1]


def _columns(events: Sequence[ConversationEvent]) -> tuple[list[Any], list[Any]]:
    started = [event for event in events if isinstance(event, ConversationStarted)]
    return [event.originator_id for event in started], [event.title for event in started]


def _last_roles(events: Sequence[ConversationEvent]) -> dict[Any, str]:
    return {event.originator_id: event.role for event in events if isinstance(event, MessageAdded)}


def _refuse_poison(events: Sequence[ConversationEvent]) -> None:
    if any(isinstance(event, ConversationStarted) and event.title == POISON for event in events):
        raise ValueError("cannot be projected")
