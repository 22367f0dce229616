"""PostgreSQL plans a batch by the keys of its rows, even if tables were empty."""

from projections.catalog import PROJECTIONS
from tests.support.histories.builders import Story
from tests.support.store import opened, rows

EARLIER, LATER = 3000, 60


async def test_a_batch_reads_only_its_own_rows(prepared_url: str) -> None:
    async with opened(prepared_url) as store, store.projecting(*PROJECTIONS) as progress:
        for _ in range(EARLIER // 100):
            stories = [Story() for _ in range(100)]
            position = await store.append([event for story in stories for event in story.events])
            assert await progress.wait(position, 60) == []
        for _ in range(LATER):
            story = Story()
            story.say()
            story.ask()
            story.stream("Because", ".")
            story.complete()
            assert await progress.wait(await store.append(story.events), 60) == []
    # The engine's connection is closed by now, so its reads are counted.
    sequentially = dict(rows(prepared_url, "SELECT relname, seq_tup_read FROM pg_stat_user_tables"))
    assert {table: read for table, read in sequentially.items() if read > EARLIER} == {}
    assert sequentially.keys() >= {PROJECTIONS[0].table("listing")}
