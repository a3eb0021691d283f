import asyncio

from actorbus.store import Attempt, Store
from tests.conformance.kit import Reader, Seen, event, events, fresh_topic, opened, soon


async def tried(store: Store, topic: str) -> Reader:
    """A reader of three events, the second of which has been tried twice."""
    await soon(store.join(topic, "a", {}, "new"))
    await soon(store.append(topic, events(1, 2, 3), None))
    reader = await Reader.of(store, topic, "a")
    _, second, _ = await reader.take(3)
    await reader.attempted(Attempt(second.position, 1, 1, 0))
    await reader.attempted(Attempt(second.position, 2, 1, 1_000))
    return reader


def by_event(seen: list[Seen]) -> dict[bytes, tuple[int, int, int]]:
    return {one.event: (one.attempts, one.lost, one.not_before) for one in seen}


def test_a_tried_event_comes_back_with_its_history(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            await (await tried(store, topic)).close()
            reader = await Reader.of(store, topic, "a")
            assert by_event(await reader.take(3)) == {
                event(1): (0, 0, 0),
                event(2): (2, 1, 1_000),
                event(3): (0, 0, 0),
            }
            await reader.close()

    asyncio.run(main())


def test_a_history_outlives_the_store(lasting_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(lasting_url) as store:
            await (await tried(store, topic)).close()
        async with opened(lasting_url) as store:
            reader = await Reader.of(store, topic, "a")
            assert by_event(await reader.take(3))[event(2)] == (2, 1, 1_000)
            await reader.close()

    asyncio.run(main())


def test_a_tried_event_is_settled_like_any_other(lasting_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(lasting_url) as store:
            await (await tried(store, topic)).close()
            reader = await Reader.of(store, topic, "a")
            await reader.settle(*(one for one in await reader.take(3) if one.event == event(2)))
            await reader.close()
        async with opened(lasting_url) as store:
            reader = await Reader.of(store, topic, "a")
            assert set(await reader.rest(store, topic)) == {event(1), event(3)}
            await reader.close()

    asyncio.run(main())
