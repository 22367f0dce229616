"""All reads of the past by one name, so that a caller needs no database."""

from eventlog.db.database import Database
from eventlog.log import Log
from projections.as_of.past_agents import PastAgents
from projections.as_of.past_context import past_context
from projections.as_of.past_history import PastHistory
from projections.as_of.past_listing import PastListing
from projections.models.context import Context


class PastReads:
    """Opens the read models of a position. Nothing is read before it is asked for."""

    def __init__(self, database: Database, log: Log) -> None:
        self._database = database
        self._log = log

    def listing(self, position: int) -> PastListing:
        """Return the listing of a position."""
        return PastListing(self._database, position)

    def history(self, position: int) -> PastHistory:
        """Return the history of a position."""
        return PastHistory(self._database, position)

    def context(self, position: int) -> Context:
        """Return the context of a position."""
        return past_context(self._database, self._log, position)

    def agents(self, position: int) -> PastAgents:
        """Return the list of agents of a position."""
        return PastAgents(self._database, position)
