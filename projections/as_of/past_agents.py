"""The list of agents as it was at a position of the log."""

from domain.agent import AgentEvent
from eventlog.db.database import Database
from projections.as_of.past_events import PastEvents
from projections.models.agent_listing import AgentListing, AgentPlace, AgentRow, AgentsProjection, remaining_agents

_AGENTS = AgentsProjection()


class PastAgents:
    """Reads the list of agents of a position.

    A method may raise StoreUnavailableError, and UnknownEventError at an event of a newer release that it has to read.
    """

    def __init__(self, database: Database, position: int) -> None:
        self._events = PastEvents(database, position)
        self._listing = AgentListing(database)

    async def page(self, owner_id: str | None, beyond: AgentPlace | None, limit: int) -> list[AgentRow]:
        """Return at most `limit` agents after a place, by label.

        They are those that an owner could use, or with None those of all owners.
        """
        events = _AGENTS.select(item.event for item in await self._events.agents(owner_id))
        among = remaining_agents([event for event in events if isinstance(event, AgentEvent)])
        return await self._listing.page(owner_id, beyond, limit, among)
