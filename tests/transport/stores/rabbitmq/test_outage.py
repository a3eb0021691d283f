"""A RabbitMQ that is cut off, says nothing, refuses, or was never there."""

import asyncio
import time
from functools import partial

import pytest

from actorbus.errors import StoreUnavailableError
from actorbus.store import CALL_SECONDS
from tests.rabbitmq_node import RabbitNode
from tests.transport.stores.rabbitmq.support import (
    ALL_BYTES,
    Listener,
    Proxy,
    events,
    healthy,
    opened,
    reaches,
    run,
    soon,
)
from transport.stores.rabbitmq.config import Timing
from transport.stores.rabbitmq.store import RabbitStore


def test_a_wrong_password_is_named_but_not_shown(rabbitmq_url: str) -> None:
    async def test() -> str:
        async with opened(rabbitmq_url.replace("guest:guest", "guest:se-cret")) as store:
            return str(store.health())

    reason = run(test())
    assert reason.endswith(
        "is away: it refuses the login of user 'guest': check user and password of the url"
    )


def test_a_missing_vhost_is_named(rabbitmq_node: RabbitNode) -> None:
    async def test() -> str:
        async with opened(rabbitmq_node.url("nowhere")) as store:
            return str(store.health())

    assert "refuses vhost 'nowhere'" in run(test())


def test_a_node_that_says_nothing_fails_appends_in_time(rabbitmq_url: str) -> None:
    async def test() -> None:
        timing = Timing(confirm_seconds=1, probe_seconds=0.05)
        async with Proxy(rabbitmq_url) as proxy, opened(proxy.url, timing=timing) as store:
            await store.append("t", events(1), None)
            proxy.mute()
            before = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="confirmed nothing in 1 s"):
                await store.append("t", events(1), None)
            assert time.monotonic() - before < CALL_SECONDS
            assert "alarm" in str(store.health())
            proxy.cut()
            await reaches(lambda: healthy(store))  # although nobody publishes
            await store.append("t", events(1), None)

    run(test())


def test_a_publish_is_answered_within_the_10_s_that_publishers_are_promised() -> None:
    assert Timing().confirm_seconds < CALL_SECONDS == 10


def test_a_memory_alarm_is_named_and_passes(rabbitmq_node: RabbitNode) -> None:
    limit = partial(rabbitmq_node.ctl, "set_vm_memory_high_watermark", "absolute")

    async def test() -> None:
        async with opened(rabbitmq_node.url(), timing=Timing(confirm_seconds=1)) as store:
            await asyncio.to_thread(limit, "1MB")
            with pytest.raises(StoreUnavailableError, match="alarm"):
                await store.append("t", events(1), None)
            await asyncio.to_thread(limit, "1GB")
            await reaches(lambda: healthy(store))  # although nobody publishes
            await store.append("t", events(1), None)

    run(test())


def test_each_missing_permission_is_named_until_it_is_given(rabbitmq_node: RabbitNode) -> None:
    url = rabbitmq_node.url()
    vhost = url.rpartition("/")[2]

    def permit(*rights: str) -> None:
        rabbitmq_node.ctl("set_permissions", "-p", vhost, "bob", *rights)

    async def test() -> None:
        await asyncio.to_thread(rabbitmq_node.ctl, "add_user", "bob", "bob")
        await asyncio.to_thread(permit, "^$", ".*", ".*")
        async with opened(url.replace("guest:guest", "bob:bob")) as store:
            await reaches(lambda: refused(store, "access to queue 'actorbus.groups'"))
            await asyncio.to_thread(permit, ".*", "^$", ".*")
            await reaches(lambda: refused(store, "access to exchange 'amq.default'"))
            await asyncio.to_thread(permit, ".*", ".*", "^$")
            await reaches(lambda: refused(store, "access to queue 'actorbus.groups'"))
            await asyncio.to_thread(permit, ".*", ".*", ".*")
            await reaches(lambda: healthy(store))

    async def refused(store: RabbitStore, what: str) -> bool:
        advice = "give the user configure, write and read permission on the vhost"
        reason = str(store.health())
        return what in reason and reason.endswith(advice)

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
