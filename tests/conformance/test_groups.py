import asyncio

import pytest

from actorbus.store import GroupOptions
from tests.conformance.kit import (
    DEFAULTS,
    Reader,
    event,
    events,
    fresh_topic,
    opened,
    read_all,
    soon,
)


def test_a_new_group_has_the_defaults_and_what_it_names(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            assert await soon(store.join(topic, "a", {}, "new")) == DEFAULTS
            changed = await soon(store.join(topic, "b", {"max_attempts": 3}, "new"))
            assert changed == GroupOptions(max_attempts=3)

    asyncio.run(main())


def test_joining_again_changes_only_what_is_named(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            changes: dict[str, int | str | None] = {
                "max_attempts": 3,
                "backoff_ms": 50,
                "dead_letter_topic": "dead",
            }
            await soon(store.join(topic, "a", changes, "new"))
            again = await soon(store.join(topic, "a", {"backoff_ms": None}, "new"))
            assert again == GroupOptions(max_attempts=3, dead_letter_topic="dead")

    asyncio.run(main())


def test_the_options_in_force_are_found(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            await soon(store.join(topic, "a", {"ack_wait_ms": 500}, "new"))
            assert await soon(store.find(topic, "a")) == GroupOptions(ack_wait_ms=500)

    asyncio.run(main())


def test_a_group_that_does_not_exist_is_not_found(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            assert await soon(store.find(topic, "a")) is None
            await soon(store.join(topic, "b", {}, "new"))
            assert await soon(store.find(topic, "a")) is None

    asyncio.run(main())


def test_a_new_group_gets_only_what_comes_after_it(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            await soon(store.append(topic, events(1, 2), None))
            await soon(store.join(topic, "b", {}, "new"))
            await soon(store.append(topic, events(3), None))
            reader = await Reader.of(store, topic, "b")
            assert await reader.rest(store, topic) == [event(3)]
            await reader.close()

    asyncio.run(main())


def test_a_group_from_the_earliest_gets_what_is_still_there(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            if not store.abilities.earliest:
                pytest.skip("this store has no earlier events for a new group")
            await soon(store.join(topic, "a", {}, "new"))
            for number in range(4):
                await soon(store.append(topic, events(number), None))
            first = await Reader.of(store, topic, "a")
            seen = await first.take(4)
            await first.settle(seen[0], seen[2])
            await soon(store.join(topic, "b", {}, "earliest"))
            late = await Reader.of(store, topic, "b")
            assert await late.rest(store, topic) == [event(1), event(3)]
            await first.close()
            await late.close()

    asyncio.run(main())


def test_where_to_start_counts_only_for_a_new_group(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            if not store.abilities.earliest:
                pytest.skip("this store has no earlier events for a new group")
            await soon(store.join(topic, "a", {}, "new"))
            await soon(store.append(topic, events(1), None))
            await soon(store.join(topic, "b", {}, "new"))
            await soon(store.join(topic, "b", {}, "earliest"))
            reader = await Reader.of(store, topic, "b")
            assert await reader.rest(store, topic) == []
            await reader.close()

    asyncio.run(main())


def test_a_forgotten_group_is_gone_with_its_backlog(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            await soon(store.join(topic, "a", {"max_attempts": 3}, "new"))
            await soon(store.append(topic, events(1, 2), None))
            assert await soon(store.forget(topic, "a"))
            assert await soon(store.find(topic, "a")) is None
            assert await soon(store.join(topic, "a", {}, "new")) == DEFAULTS
            reader = await Reader.of(store, topic, "a")
            assert await reader.rest(store, topic) == []
            await reader.close()

    asyncio.run(main())


def test_forgetting_a_group_leaves_the_others_alone(store_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(store_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            await soon(store.join(topic, "b", {}, "new"))
            await soon(store.append(topic, events(1, 2), None))
            assert await soon(store.forget(topic, "a"))
            assert await read_all(store, topic, "b", 2) == [*events(1, 2)]

    asyncio.run(main())


def test_forgetting_a_group_that_does_not_exist_is_no_error(store_url: str) -> None:
    async def main() -> None:
        async with opened(store_url) as store:
            assert await soon(store.forget(fresh_topic(), "a"))

    asyncio.run(main())
