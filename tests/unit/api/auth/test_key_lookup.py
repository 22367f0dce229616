"""Keys are remembered for a short time, and read many at once."""

import asyncio
from collections.abc import Iterable
from uuid import UUID

import pytest

from api.auth import key_lookup
from api.auth.api_keys import digest_of
from api.auth.authenticator import CHECK_INTERVAL_S
from api.auth.expiring_cache import ExpiringCache
from api.auth.identity import Identity, granted
from api.auth.key_lookup import LIFETIME_S, KeyLookup
from api.auth.key_store import FoundKey
from eventlog.clock import new_id
from eventlog.errors import StoreUnavailableError
from tests.support.waiting import PATIENCE_S

KEY = digest_of(b"a key")


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Table:
    """A table of keys in memory that counts its statements and may be blocked or down."""

    def __init__(self) -> None:
        self.keys: dict[bytes, FoundKey] = {}
        self.statements: list[int] = []
        self.down = False
        self.open = asyncio.Event()
        self.open.set()

    def add(self, digest: bytes = KEY, expires_at: float | None = None) -> Identity:
        identity = granted("user", "alice", new_id(), expires_at)
        assert identity.key_id
        self.keys[digest] = FoundKey(identity.key_id, digest, identity)
        return identity

    async def find(self, digests: Iterable[bytes], ids: Iterable[UUID]) -> list[FoundKey]:
        wanted = {*digests, *ids}
        self.statements.append(len(wanted))
        found = [key for key in self.keys.values() if wanted & {key.id, key.digest}]
        await self.open.wait()
        if self.down:
            raise StoreUnavailableError("The store does not answer.")
        return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_known_key_is_read_once_in_its_lifetime(clock: Clock) -> None:
    table = Table()
    lookup, identity = KeyLookup(table, clock=clock, now=clock), table.add()
    assert lookup.recent(KEY) is None
    assert [await lookup.find(KEY) for _ in range(3)] == [identity] * 3
    assert lookup.recent(KEY) == identity
    assert table.statements == [1]


async def test_a_revoked_key_works_for_less_than_5_s(clock: Clock) -> None:
    table = Table()
    lookup = KeyLookup(table, clock=clock, now=clock)
    table.add()
    assert await lookup.find(KEY)
    table.keys.clear()
    clock.now += LIFETIME_S
    assert lookup.recent(KEY) is None
    assert await lookup.find(KEY) is None
    # An open stream may have asked just before the key was looked up the last time.
    assert LIFETIME_S + CHECK_INTERVAL_S < 5


async def test_the_lifetime_counts_from_before_the_statement(clock: Clock) -> None:
    table = Table()
    lookup = KeyLookup(table, clock=clock, now=clock)
    table.add()
    table.open.clear()
    finding = asyncio.create_task(lookup.find(KEY))
    while not table.statements:  # noqa: ASYNC110
        await asyncio.sleep(0)
    clock.now += LIFETIME_S
    table.open.set()
    assert await finding
    assert lookup.recent(KEY) is None


async def test_a_key_stops_at_its_end_although_it_is_remembered(clock: Clock) -> None:
    table = Table()
    lookup = KeyLookup(table, clock=clock, now=clock)
    table.add(expires_at=clock.now + 1)
    assert await lookup.find(KEY)
    clock.now += 1
    assert lookup.recent(KEY) is None
    assert await lookup.find(KEY) is None


async def test_a_key_is_found_by_its_id(clock: Clock) -> None:
    table = Table()
    lookup, identity = KeyLookup(table, clock=clock, now=clock), table.add()
    assert identity.key_id
    assert await lookup.find(identity.key_id) == identity
    assert await lookup.find(new_id()) is None


async def test_an_outage_is_no_unknown_key(clock: Clock) -> None:
    table = Table()
    lookup, identity = KeyLookup(table, clock=clock, now=clock), table.add()
    table.down = True
    with pytest.raises(StoreUnavailableError):
        await lookup.find(KEY)
    table.down = False
    assert await lookup.find(KEY) == identity


async def test_a_known_key_survives_an_outage_for_its_lifetime_only(clock: Clock) -> None:
    table = Table()
    lookup, identity = KeyLookup(table, clock=clock, now=clock), table.add()
    await lookup.find(KEY)
    table.down = True
    assert await lookup.find(KEY) == identity
    clock.now += LIFETIME_S
    with pytest.raises(StoreUnavailableError):
        await lookup.find(KEY)


async def test_keys_that_are_wanted_meanwhile_are_read_by_one_statement(clock: Clock) -> None:
    table = Table()
    lookup, identity = KeyLookup(table, clock=clock, now=clock), table.add()
    table.open.clear()
    unknown = [digest_of(b"%d" % number) for number in range(500)]
    finding = [asyncio.create_task(lookup.find(digest)) for digest in [*unknown, KEY, KEY]]
    while not table.statements:  # noqa: ASYNC110
        await asyncio.sleep(0)
    finding.append(asyncio.create_task(lookup.find(digest_of(b"later"))))
    await asyncio.sleep(0)
    table.open.set()
    found = await asyncio.gather(*finding)
    assert (found[500:], any(found[:500])) == ([identity, identity, None], False)
    assert table.statements == [501, 1]


async def test_a_request_after_a_revocation_does_not_get_the_result_of_an_earlier_statement(clock: Clock) -> None:
    table = Table()
    lookup, identity = KeyLookup(table, clock=clock, now=clock), table.add()
    table.open.clear()
    before = asyncio.create_task(lookup.find(KEY))
    while not table.statements:  # noqa: ASYNC110
        await asyncio.sleep(0)
    table.keys.clear()
    after = asyncio.create_task(lookup.find(KEY))
    await asyncio.sleep(0)
    clock.now += LIFETIME_S
    table.open.set()
    assert await asyncio.gather(before, after) == [identity, None]


async def test_a_flood_of_unknown_keys_keeps_memory_and_known_keys(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_lookup, "MAX_UNKNOWN", 100)
    table = Table()
    lookup, identity = KeyLookup(table, clock=clock, now=clock), table.add()
    await lookup.find(KEY)
    await asyncio.gather(*(lookup.find(digest_of(b"%d" % number)) for number in range(1000)))
    table.down = True
    assert lookup.recent(KEY) == identity
    assert await lookup.find(digest_of(b"999")) is None
    with pytest.raises(StoreUnavailableError):  # the oldest was forgotten
        await lookup.find(digest_of(b"1"))


async def test_a_cancelled_request_does_not_cancel_the_lookup_of_another(clock: Clock) -> None:
    table = Table()
    lookup, identity = KeyLookup(table, clock=clock, now=clock), table.add()
    table.open.clear()
    first, second = asyncio.create_task(lookup.find(KEY)), asyncio.create_task(lookup.find(KEY))
    while not table.statements:  # noqa: ASYNC110
        await asyncio.sleep(0)
    first.cancel()
    table.open.set()
    assert await second == identity
    await lookup.close()


async def test_a_lookup_fails_when_the_process_ends(clock: Clock) -> None:
    table = Table()
    lookup = KeyLookup(table, clock=clock, now=clock)
    table.open.clear()
    finding = asyncio.create_task(lookup.find(KEY))
    while not table.statements:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await lookup.close()
    with pytest.raises(StoreUnavailableError):
        await finding


async def test_a_lookup_after_the_end_of_the_process_fails_and_does_not_wait(clock: Clock) -> None:
    lookup = KeyLookup(Table(), clock=clock, now=clock)
    await lookup.close()
    with pytest.raises(StoreUnavailableError):
        await asyncio.wait_for(lookup.find(KEY), PATIENCE_S)


def test_a_cache_drops_its_oldest_entry_and_those_whose_time_came(clock: Clock) -> None:
    cache: ExpiringCache[int, str] = ExpiringCache(2, clock)
    for number in range(3):
        cache.put(number, str(number), clock.now + 1 + number)
    assert [cache.get(number) for number in range(3)] == [None, "1", "2"]
    clock.now += 2
    assert [cache.get(1), cache.get(2), len(cache)] == [None, "2", 1]
