"""The condition of a database that does not answer, as `/readyz` reports it."""

from typing import TYPE_CHECKING

from postgres.embedded import Condition, EmbeddedPostgres

if TYPE_CHECKING:
    from api.services import StoreCondition
    from api.settings import Settings

_CONDITIONS: "dict[Condition, StoreCondition]" = {
    Condition.RUNNING: "unreachable",
    Condition.STARTING: "starting",
    Condition.DIED: "restarting",
    Condition.STOPPED: "stopped",
}


def store_condition(settings: "Settings", conninfo: str) -> "StoreCondition":
    """Return the condition of a database that does not answer.

    Of a PostgreSQL that is not the embedded one, only that it does not answer is known.
    """
    if settings.database_url is not None:
        return "unreachable"
    embedded = EmbeddedPostgres(settings.data_dir)
    try:
        return _CONDITIONS[embedded.condition()] if embedded.serves(conninfo) else "unreachable"
    except OSError:  # the data directory is being replaced
        return "unreachable"
