import asyncio
import time

import pytest

from tests.conformance.kit import Reader, backlogs, events, fresh_topic, opened, soon


def test_topics_come_in_the_order_of_their_names_page_by_page(store_url: str) -> None:
    async def main() -> None:
        base = fresh_topic()
        async with opened(store_url) as store:
            names = [f"{base}{letter}" for letter in "_Ca-B"]
            for name in names:
                await soon(store.join(name, "app", {}, "new"))
            found: list[str] = []
            after: str | None = base
            while page := await soon(store.topics(after=after, limit=2)):
                assert len(page) <= 2
                found += [info.topic for info in page]
                after = found[-1]
            assert [name for name in found if name.startswith(base)] == sorted(names)

    asyncio.run(main())


def test_one_topic_is_found_by_its_name(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            await soon(store.join(topic, "b", {}, "new"))
            (info,) = await soon(store.topics(after=None, limit=10, only=topic))
            assert info.topic == topic
            assert sorted(group.app_id for group in info.groups) == ["a", "b"]
            assert await soon(store.topics(after=None, limit=10, only=f"{topic}x")) == []

    asyncio.run(main())


def test_the_backlog_counts_what_is_not_settled(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            await soon(store.append(topic, events(1, 2, 3), None))
            await soon(store.join(topic, "b", {}, "new"))
            await soon(store.append(topic, events(4, 5), None))
            reader = await Reader.of(store, topic, "a")
            seen = await reader.take(5)
            await reader.settle(seen[0], seen[3])
            exact = store.abilities.exact_backlog
            wanted = {"a": 3, "b": 2} if exact else {"a": None, "b": None}
            assert await backlogs(store, topic) == wanted
            await reader.close()

    asyncio.run(main())


def test_a_group_from_the_earliest_has_the_backlog_that_it_will_read(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            if not (store.abilities.earliest and store.abilities.exact_backlog):
                pytest.skip("this store can't tell")
            await soon(store.join(topic, "a", {}, "new"))
            for number in range(5):
                await soon(store.append(topic, events(number), None))
            reader = await Reader.of(store, topic, "a")
            seen = await reader.take(5)
            await reader.settle(seen[0], seen[2], seen[3])
            await soon(store.join(topic, "b", {}, "earliest"))
            assert await backlogs(store, topic) == {"a": 2, "b": 2}
            await reader.close()

    asyncio.run(main())


def test_the_age_is_that_of_the_oldest_unsettled_event(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            before = time.time_ns() // 1_000_000
            await soon(store.append(topic, events(1), None))
            (info,) = await soon(store.topics(after=None, limit=1, only=topic))
            oldest = info.groups[0].oldest_at
            if oldest is None:
                assert not store.abilities.exact_backlog
                return
            assert before <= oldest <= time.time_ns() // 1_000_000
            reader = await Reader.of(store, topic, "a")
            await reader.settle(*await reader.take(1))
            (info,) = await soon(store.topics(after=None, limit=1, only=topic))
            assert info.groups[0].oldest_at is None
            await reader.close()

    asyncio.run(main())
