import asyncio

import pytest

from actorbus.errors import StoreUnavailableError
from tests.conformance.kit import events, fresh_topic, never_fails, opened, soon
from transport.stores import open_store


def test_a_store_is_healthy_while_it_is_open(store_url: str) -> None:
    async def main() -> None:
        async with opened(store_url) as store:
            assert store.health() is None
        assert store.health() is not None

    asyncio.run(main())


def test_closing_twice_is_no_error(store_url: str) -> None:
    async def main() -> None:
        store = open_store(store_url)
        await soon(store.open(never_fails))
        await soon(store.close())
        await soon(store.close())

    asyncio.run(main())


def test_a_closed_store_accepts_nothing(store_url: str) -> None:
    async def main() -> None:
        async with opened(store_url) as store:
            await soon(store.join(topic := fresh_topic(), "a", {}, "new"))
        with pytest.raises(StoreUnavailableError):
            await soon(store.append(topic, events(1), None))
        with pytest.raises(StoreUnavailableError):
            await soon(store.join(topic, "b", {}, "new"))

    asyncio.run(main())


def test_what_was_accepted_before_the_close_is_kept(lasting_url: str) -> None:
    async def main() -> None:
        topic = fresh_topic()
        async with opened(lasting_url) as store:
            await soon(store.join(topic, "a", {}, "new"))
            accepted = asyncio.ensure_future(store.append(topic, events(1), None))
        await soon(accepted)
        async with opened(lasting_url) as store:
            feed_topics = await soon(store.topics(after=None, limit=1, only=topic))
            exact = store.abilities.exact_backlog
            assert feed_topics[0].groups[0].backlog == (1 if exact else None)

    asyncio.run(main())
