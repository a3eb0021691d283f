import asyncio

from actorbus.store import GroupOptions
from tests.conformance.kit import Reader, event, events, fresh_topic, opened, soon


def test_groups_and_their_options_outlive_the_store(lasting_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(lasting_url) as store:
            await soon(store.join(topic, "a", {"max_attempts": 3}, "new"))
            await soon(store.join(topic, "a", {"ack_wait_ms": 900}, "new"))
        async with opened(lasting_url) as store:
            if store.abilities.shared_options:
                wanted = GroupOptions(max_attempts=3, ack_wait_ms=900)
                assert await soon(store.find(topic, "a")) == wanted
            await soon(store.append(topic, events(1), None))
            reader = await Reader.of(store, topic, "a")
            assert await reader.rest(store, topic) == [event(1)]
            await reader.close()

    asyncio.run(main())


def test_unsettled_events_outlive_the_store(lasting_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(lasting_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            await soon(store.append(topic, events(1, 2), 4_102_444_800_000))
            await soon(store.append(topic, events(3), None))
        async with opened(lasting_url) as store:
            await soon(store.append(topic, events(4), None))
            reader = await Reader.of(store, topic, "a")
            seen = await reader.take(4)
            assert [one.event for one in seen] == [*events(1, 2, 3, 4)]
            ends = [one.expires_at for one in seen]
            assert ends == [4_102_444_800_000, 4_102_444_800_000, None, None]
            await reader.close()

    asyncio.run(main())


def test_settled_events_stay_settled(lasting_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(lasting_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            await soon(store.append(topic, events(0, 1, 2, 3), None))
            reader = await Reader.of(store, topic, "a")
            seen = await reader.take(4)
            await reader.settle(seen[0], seen[2])
            await reader.close()
        async with opened(lasting_url) as store:
            reader = await Reader.of(store, topic, "a")
            assert sorted(await reader.rest(store, topic)) == [event(1), event(3)]
            await reader.close()

    asyncio.run(main())


def test_a_group_that_settled_everything_gets_what_comes_next(lasting_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(lasting_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            await soon(store.append(topic, events(1, 2), None))
            reader = await Reader.of(store, topic, "a")
            await reader.settle(*await reader.take(2))
            await reader.close()
        async with opened(lasting_url) as store:
            await soon(store.append(topic, events(3), None))
            reader = await Reader.of(store, topic, "a")
            assert await reader.rest(store, topic) == [event(3)]
            await reader.close()

    asyncio.run(main())


def test_a_forgotten_group_stays_forgotten(lasting_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(lasting_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            await soon(store.append(topic, events(1), None))
            assert await soon(store.forget(topic, "a"))
        async with opened(lasting_url) as store:
            assert await soon(store.find(topic, "a")) is None

    asyncio.run(main())
