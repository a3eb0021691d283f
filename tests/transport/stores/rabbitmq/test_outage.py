"""A node that dies, comes back, or was never there."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from actorbus.errors import StoreUnavailableError
from actorbus.store import CALL_SECONDS
from tests.rabbitmq_node import RabbitNode, running_node
from tests.transport.stores.rabbitmq.support import (
    ALL_BYTES,
    Listener,
    Proxy,
    data,
    events,
    opened,
    reaches,
    run,
    soon,
    take,
)
from transport.stores.rabbitmq.config import Timing
from transport.stores.rabbitmq.store import RabbitStore


@pytest.fixture
def own_node(rabbitmq_node: RabbitNode) -> Iterator[RabbitNode]:  # for its skip
    """A node that a test may kill."""
    yield from running_node()


async def healthy(store: RabbitStore) -> bool:
    return store.health() is None


async def down(store: RabbitStore) -> bool:
    return store.health() is not None


def test_a_killed_node_fails_appends_in_time_and_after_its_restart_nothing_is_lost(
    own_node: RabbitNode,
) -> None:
    async def test() -> None:
        async with opened(own_node.url(), timing=Timing()) as store:
            await store.join("t", "a", {"max_attempts": 3}, "new")
            listener = Listener()
            feed = await store.feed("t", "a", listener)
            await store.append("t", events(*range(100)), None)
            await take(feed, 100)

            await asyncio.to_thread(own_node.kill)
            before = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                await store.append("t", events("refused"), None)
            assert time.monotonic() - before < CALL_SECONDS
            await soon(listener.was_reset.wait())
            with pytest.raises(StoreUnavailableError, match=r"rabbitmq at 127\.0\.0\.1:"):
                await store.feed("t", "a", listener)

            await asyncio.to_thread(own_node.start)
            await reaches(lambda: healthy(store))
            again = await store.feed("t", "a", Listener())
            await store.append("t", events("after"), None)
            assert data(await take(again, 101)) == [*range(100), "after"]
            assert listener.resets == 1

    run(test())


def test_what_was_confirmed_survives_a_kill_right_after_the_first_join(
    own_node: RabbitNode,
) -> None:
    """Fails with `sync_seconds=0`: RabbitMQ then no longer knows the new queue."""

    async def test() -> None:
        url = own_node.url()
        async with opened(url, timing=Timing()) as store:
            await store.join("t", "a", {"max_attempts": 3}, "new")
            await store.append("t", events(*range(10)), None)
            await asyncio.to_thread(own_node.kill)
            await asyncio.to_thread(own_node.start)
            await reaches(lambda: healthy(store))
            feed = await store.feed("t", "a", Listener())
            assert data(await take(feed, 10)) == list(range(10))

    run(test())


def test_a_store_opens_without_rabbitmq_and_works_once_it_is_there(own_node: RabbitNode) -> None:
    async def test() -> None:
        own_node.kill()
        async with opened(own_node.url(), timing=Timing()) as store:
            assert "is away" in str(store.health())
            with pytest.raises(StoreUnavailableError, match="is away"):
                await store.append("t", events(1), None)
            with pytest.raises(StoreUnavailableError, match="is away"):
                await store.join("t", "a", {}, "new")
            await asyncio.to_thread(own_node.start)
            await reaches(lambda: healthy(store))
            await store.join("t", "a", {}, "new")

    run(test())


def test_a_wrong_password_is_named_but_not_shown(rabbitmq_url: str) -> None:
    async def test() -> str:
        async with opened(rabbitmq_url.replace("guest:guest", "guest:se-cret")) as store:
            return str(store.health())

    reason = run(test())
    assert "ACCESS_REFUSED" in reason
    assert "se-cret" not in reason


def test_a_missing_vhost_is_named(rabbitmq_node: RabbitNode) -> None:
    async def test() -> str:
        async with opened(rabbitmq_node.url("nowhere")) as store:
            return str(store.health())

    assert "refuses vhost 'nowhere'" in run(test())


def test_a_node_that_says_nothing_fails_appends_in_time(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with Proxy(rabbitmq_url) as proxy, opened(proxy.url) as store:
            await store.append("t", events(1), None)
            proxy.mute()
            before = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="confirmed nothing in 8 s"):
                await store.append("t", events(1), None)
            assert time.monotonic() - before < CALL_SECONDS
            assert "alarm" in str(store.health())
            proxy.cut()
            await reaches(lambda: healthy(store))
            await store.append("t", events(1), None)

    run(test())


def test_a_memory_alarm_is_named_and_passes(own_node: RabbitNode) -> None:
    async def test() -> None:
        async with opened(own_node.url(), timing=Timing()) as store:
            await asyncio.to_thread(own_node.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
            with pytest.raises(StoreUnavailableError, match="alarm"):
                await store.append("t", events(1), None)
            await asyncio.to_thread(own_node.ctl, "set_vm_memory_high_watermark", "absolute", "1GB")
            await reaches(lambda: _appends(store))
            assert store.health() is None

    async def _appends(store: RabbitStore) -> bool:
        try:
            await store.append("t", events(1), None)
        except StoreUnavailableError:
            return False
        return True

    run(test())


def test_a_fetch_that_waits_ends_with_the_connection(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with Proxy(rabbitmq_url) as proxy, opened(proxy.url) as store:
            await store.join("t", "a", {}, "new")
            listener = Listener()
            feed = await store.feed("t", "a", listener)
            fetch = asyncio.ensure_future(feed.fetch(0, ALL_BYTES))
            await store.append("t", events(1), None)
            await soon(fetch)
            fetch = asyncio.ensure_future(feed.fetch(0, ALL_BYTES))
            await asyncio.sleep(0)
            proxy.cut()
            with pytest.raises(StoreUnavailableError):
                await soon(fetch)

    run(test())


def test_closing_takes_bounded_time_when_rabbitmq_says_nothing(rabbitmq_url: str) -> None:
    async def test() -> float:
        async with Proxy(rabbitmq_url) as proxy:
            async with opened(proxy.url) as store:
                await store.join("t", "a", {}, "new")
                await store.feed("t", "a", Listener())
                proxy.mute()
                before = time.monotonic()
            return time.monotonic() - before

    assert run(test()) < CALL_SECONDS


def test_the_health_of_a_store_says_where_rabbitmq_was() -> None:
    async def test() -> str:
        async with opened("amqp://me:se-cret@127.0.0.1:9") as store:
            return str(store.health())

    reason = run(test())
    assert reason.startswith("rabbitmq at 127.0.0.1:9 is away")
    assert "se-cret" not in reason
