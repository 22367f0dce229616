"""The log and the requests of the benchmark of the listing."""

from benchmarks.requests.listing import make
from benchmarks.workload.one_owner import MESSAGES_OF_EACH, OWNER
from tests.support.store import rows, value

MESSAGES = 2_000


async def test_one_owner_has_the_wanted_conversations_and_messages(database_url: str) -> None:
    await make(database_url, MESSAGES)
    owned = "SELECT owner_id, count(*), sum(message_count)::integer, max(message_count) FROM listing GROUP BY 1"
    ((owner, conversations, messages, most),) = rows(database_url, owned)
    assert (owner, conversations) == (OWNER, MESSAGES // MESSAGES_OF_EACH)
    assert 0.8 < messages / MESSAGES < 1.2
    assert most >= 80
    assert value(database_url, "SELECT count(*) FROM events") == value(database_url, "SELECT position FROM head")
