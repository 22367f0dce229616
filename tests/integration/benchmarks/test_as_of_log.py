"""The log of the benchmark of reads of the past."""

from uuid import UUID

from benchmarks.audits.as_of import OTHER, OWNER, MadeLog, make
from projections.models.listing_filter import ListingFilter
from tests.support.past import MANY, conversation_answers, readers_at, readers_of_now
from tests.support.store import opened, value


async def test_the_past_of_the_end_of_the_log_is_what_the_read_models_have(database_url: str) -> None:
    made = MadeLog(conversations=20, long_events=200)
    await make(database_url, made)
    async with opened(database_url, listening=False) as store:
        head = await store.log.head()
        now, then = readers_of_now(store.database), readers_at(store.database, head)
        for owner, conversations in ((OWNER, 20), (OTHER, 2)):
            listed = await then.listing.page(owner, ListingFilter(), None, MANY)
            assert len(listed) == conversations
            assert [row.id for row in listed] == [
                row.id for row in await now.listing.page(owner, ListingFilter(), None, MANY)
            ]
        for id_ in (UUID(made.streamed), UUID(made.recorded)):
            assert await conversation_answers(then, id_) == await conversation_answers(now, id_)
        assert await store.log.position_of((await store.log.end()).at) == head
    backwards = (
        "SELECT count(*) FROM events AS e JOIN events AS n ON n.position = e.position + 1"
        " WHERE n.recorded_at < e.recorded_at"
    )
    assert value(database_url, backwards) == 0
