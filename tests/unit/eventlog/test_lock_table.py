import asyncio

from eventlog.lock_table import LockTable


async def test_tasks_with_the_same_key_wait_for_each_other_and_others_do_not() -> None:
    table = LockTable[str]()
    order: list[str] = []

    async def work(key: str, name: str) -> None:
        async with table.hold(key):
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    await asyncio.gather(work("a", "first"), work("a", "second"), work("b", "other"))
    of_a = [line for line in order if not line.startswith("other")]
    assert of_a == ["first begins", "first ends", "second begins", "second ends"]
    assert order.index("other begins") < order.index("first ends")


async def test_the_table_forgets_locks_that_are_not_in_use_also_after_cancellations() -> None:
    table = LockTable[int]()
    may_end = asyncio.Event()

    async def work(key: int) -> None:
        async with table.hold(key):
            await may_end.wait()

    tasks = [asyncio.create_task(work(number % 3)) for number in range(9)]
    await asyncio.sleep(0)
    assert len(table) == 3
    for waiting in tasks[3:6]:
        waiting.cancel()
    may_end.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [False] * 3 + [True] * 3 + [False] * 3
    assert len(table) == 0
