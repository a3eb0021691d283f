import asyncio

import pytest

from tests.conformance.kit import Reader, event, events, fresh_topic, opened, read_all, soon


def test_an_append_without_groups_reaches_none(store_url: str) -> None:
    async def main() -> None:
        async with opened(store_url) as store:
            appended = await soon(store.append(fresh_topic(), events(1), None))
            assert appended.batch is None
            assert appended.groups in ((0,) if store.abilities.log else (0, None))

    asyncio.run(main())


def test_an_append_tells_how_many_groups_it_reached(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            await soon(store.join(topic, "b", {}, "new"))
            appended = await soon(store.append(topic, events(1), None))
            assert appended.groups == (2 if store.abilities.log else None)

    asyncio.run(main())


def test_every_group_gets_every_event_unchanged_and_in_order(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            await soon(store.join(topic, "b", {}, "new"))
            await soon(store.append(topic, events(1, 2), None))
            await soon(store.append(topic, events(3), None))
            assert await read_all(store, topic, "a", 3) == [*events(1, 2, 3)]
            assert await read_all(store, topic, "b", 3) == [*events(1, 2, 3)]

    asyncio.run(main())


def test_topics_do_not_mix(store_url: str) -> None:
    async def main() -> None:
        one, other = fresh_topic(), fresh_topic()
        async with opened(store_url) as store:
            await soon(store.join(one, "a", {}, "new"))
            await soon(store.join(other, "a", {}, "new"))
            await soon(store.append(other, events(9), None))
            await soon(store.append(one, events(1), None))
            assert await read_all(store, one, "a", 1) == [event(1)]
            assert await read_all(store, other, "a", 1) == [event(9)]

    asyncio.run(main())


def test_appends_keep_the_order_of_their_calls(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            width = store.abilities.pipeline if not store.abilities.log else 8
            for start in range(0, 40, width):
                under_way = [
                    store.append(topic, events(n), None) for n in range(start, start + width)
                ]
                await soon(asyncio.gather(*under_way))
            assert await read_all(store, topic, "a", 40) == [*events(*range(40))]

    asyncio.run(main())


def test_a_log_numbers_events_one_after_the_other(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            if not store.abilities.log:
                pytest.skip("only a log numbers what is appended")
            await soon(store.join(topic, "a", {}, "new"))
            firsts: list[int] = []
            for batch in (events(1, 2, 3), events(4), events(5, 6)):
                appended = await soon(store.append(topic, batch, None))
                assert appended.batch is not None
                assert appended.batch.events == batch
                assert appended.batch.size == sum(map(len, batch))
                firsts.append(appended.batch.first)
            assert [first - firsts[0] for first in firsts] == [0, 3, 4]

    asyncio.run(main())


def test_the_time_to_live_comes_back_with_the_event(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            await soon(store.append(topic, events(1), 4_102_444_800_000))
            await soon(store.append(topic, events(2), None))
            reader = await Reader.of(store, topic, "a")
            first, second = await reader.take(2)
            assert (first.expires_at, second.expires_at) == (4_102_444_800_000, None)
            await reader.close()

    asyncio.run(main())


def test_an_event_of_the_largest_size_comes_back(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        large = event(1, size=1024 * 1024 - 200)
        async with opened(store_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            await soon(store.append(topic, (event(0), large), None))
            assert await read_all(store, topic, "a", 2) == [event(0), large]

    asyncio.run(main())


def test_a_batch_of_a_thousand_events_comes_back(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        batch = events(*range(1000))
        async with opened(store_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            await soon(store.append(topic, batch, None))
            assert await read_all(store, topic, "a", 1000) == list(batch)

    asyncio.run(main())
