import asyncio
from collections.abc import Sequence

from actorbus.store import Store
from tests.conformance.kit import Reader, event, events, fresh_topic, opened, soon


async def reading(store: Store, topic: str, *batches: Sequence[int]) -> Reader:
    await soon(store.join(topic, "a", {}, "new"))
    for batch in batches:
        await soon(store.append(topic, events(*batch), None))
    return await Reader.of(store, topic, "a")


def test_what_was_not_settled_comes_again_after_release(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            reader = await reading(store, topic, (1, 2), (3,))
            await reader.release(*await reader.take(3))
            assert {one.event for one in await reader.take(3)} == {*events(1, 2, 3)}
            await reader.close()

    asyncio.run(main())


def test_settled_events_do_not_come_again(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            reader = await reading(store, topic, (1, 2), (3,))
            await reader.settle(*await reader.take(3))
            await reader.release()
            assert await reader.rest(store, topic) == []
            await reader.close()

    asyncio.run(main())


def test_events_settled_out_of_order_leave_the_others(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            reader = await reading(store, topic, (0, 1, 2, 3, 4), (5, 6, 7))
            seen = await reader.take(8)
            await reader.settle(seen[1], seen[6])
            await reader.settle(seen[3])
            await reader.close()
            reader = await Reader.of(store, topic, "a")
            left = [one.event for one in await reader.take(5)]
            assert sorted(left) == [*events(0, 2, 4, 5, 7)]
            await reader.close()

    asyncio.run(main())


def test_settling_twice_changes_nothing(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            reader = await reading(store, topic, (1, 2))
            first, second = await reader.take(2)
            await reader.settle(first)
            await reader.settle(first)
            await reader.release(second)
            assert [one.event for one in await reader.take(1)] == [event(2)]
            await reader.close()

    asyncio.run(main())


def test_one_group_settles_for_itself_alone(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            await soon(store.join(topic, "b", {}, "new"))
            reader = await reading(store, topic, (1, 2))
            await reader.settle(*await reader.take(2))
            other = await Reader.of(store, topic, "b")
            assert await other.rest(store, topic) == [*events(1, 2)]
            await reader.close()
            await other.close()

    asyncio.run(main())


def test_a_fetch_brings_one_batch_however_small_the_credit(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            reader = await reading(store, topic, (1, 2), (3,))
            seen = await reader.take(3, max_bytes=1)
            assert [one.event for one in seen] == [*events(1, 2, 3)]
            await reader.close()

    asyncio.run(main())


def test_a_fetch_ends_with_its_credit(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            for number in range(10):
                await soon(store.append(topic, (event(number, size=50_000),), None))
            feed = await soon(store.feed(topic, "a", Reader()))
            found = await soon(feed.fetch(feed.position, 120_000))
            assert 1 <= sum(run.count for run in found.runs) <= 3
            await soon(feed.close())

    asyncio.run(main())


def test_a_log_store_answers_at_once_where_the_log_ends(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            if not store.abilities.log:
                return
            await soon(store.join(topic, "a", {}, "new"))
            feed = await soon(store.feed(topic, "a", Reader()))
            found = await soon(feed.fetch(feed.position, 1000))
            assert (found.runs, found.next) == ((), feed.position)
            await soon(feed.close())

    asyncio.run(main())


def test_what_comes_while_a_feed_is_open_is_read_next(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            reader = await reading(store, topic, (1,))
            assert [one.event for one in await reader.take(1)] == [event(1)]
            await soon(store.append(topic, events(2, 3), None))
            assert [one.event for one in await reader.take(2)] == [*events(2, 3)]
            await reader.close()

    asyncio.run(main())
