"""The store on a real node: groups, options, publishing."""

import asyncio
from typing import Any

import aio_pika
import pytest

from actorbus.errors import RefusedError, StoreUnavailableError
from actorbus.store import GroupInfo, GroupOptions, TopicInfo
from tests.transport.stores.rabbitmq.support import (
    ALL_BYTES,
    Listener,
    backlog,
    data,
    declared,
    events,
    holds,
    opened,
    operator,
    reaches,
    run,
    soon,
    spans,
    take,
)
from transport.stores.rabbitmq.config import Timing
from transport.stores.rabbitmq.records import STREAM_BYTES
from transport.stores.rabbitmq.registry import STREAM
from transport.stores.rabbitmq.store import RabbitStore


def test_a_batch_without_groups_reaches_none(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            assert (await store.append("t", events(*range(250)), None)).groups == 0

    run(test())


def test_a_batch_reaches_a_group_that_nobody_reads(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store, operator(rabbitmq_url) as channel:
            await store.join("t", "a", {}, "new")
            assert (await store.append("t", events(*range(250)), None)).groups is None
            await holds(channel, "a+t", 3)

    run(test())


def test_appends_of_one_topic_keep_the_order_of_calls(rabbitmq_url: str) -> None:
    async def test() -> list[int]:
        async with opened(rabbitmq_url) as store:
            await store.join("t", "a", {}, "new")
            await asyncio.gather(*(store.append("t", events(n), None) for n in range(100)))
            feed = await store.feed("t", "a", Listener())
            return data(await take(feed, 100))

    assert run(test()) == list(range(100))


def test_joining_gives_the_options_in_force(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            assert await store.find("t", "a") is None
            assert await store.join("t", "a", {"max_attempts": 3}, "new") == GroupOptions(
                max_attempts=3
            )
            changed = await store.join("t", "a", {"ack_wait_ms": 500}, "new")
            assert changed == GroupOptions(max_attempts=3, ack_wait_ms=500)
            assert await store.find("t", "a") == changed

    run(test())


def test_a_group_and_its_options_are_there_after_a_restart(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            await store.join("t", "a", {"max_attempts": 3}, "new")
        async with opened(rabbitmq_url) as store:
            assert await store.find("t", "a") == GroupOptions(max_attempts=3)

    run(test())


def test_another_broker_sees_groups_and_changes(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as one, opened(rabbitmq_url) as other:
            await one.join("t", "a", {"max_attempts": 3}, "new")
            await other.join("t", "b", {}, "new")
            await other.join("t", "a", {"ack_wait_ms": 500}, "new")
            await one.join("t", "c", {}, "new")  # behind all the others in the stream
            assert await one.find("t", "a") == GroupOptions(max_attempts=3, ack_wait_ms=500)
            groups = tuple(GroupInfo(app_id, None, None) for app_id in "abc")
            assert await one.topics(after=None, limit=10) == [TopicInfo("t", groups)]

    run(test())


def test_concurrent_changes_by_two_brokers_all_count(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as one, opened(rabbitmq_url) as other:
            await asyncio.gather(
                one.join("t", "a", {"max_attempts": 3}, "new"),
                other.join("t", "a", {"ack_wait_ms": 500}, "new"),
            )
            await one.join("t", "z", {}, "new")
            await other.join("t", "y", {}, "new")
            both = [await store.find("t", "a") for store in (one, other)]
            assert both[0] == both[1]

    run(test())


def test_topics_are_listed_in_order_from_a_name_on(rabbitmq_url: str) -> None:
    async def test() -> list[str]:
        async with opened(rabbitmq_url) as store:
            for topic in ("d", "b", "a", "c"):
                await store.join(topic, "app", {}, "new")
            return [info.topic for info in await store.topics(after="a", limit=2)]

    assert run(test()) == ["b", "c"]


def test_forgetting_removes_group_and_backlog(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store, operator(rabbitmq_url) as channel:
            await store.join("t", "a", {}, "new")
            await store.append("t", events(1), None)
            assert await store.forget("t", "a")
            assert await store.find("t", "a") is None
            assert (await store.append("t", events(1), None)).groups == 0
            with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
                await channel.declare_queue("a+t", passive=True)

    run(test())


def test_forgetting_what_is_not_there_is_no_error(rabbitmq_url: str) -> None:
    async def test() -> bool:
        async with opened(rabbitmq_url) as store:
            return await store.forget("t", "nobody")

    assert run(test())


def test_a_group_that_another_broker_reads_is_not_forgotten(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transport.stores.rabbitmq.store._UNUSED_SECONDS", 0.2)

    async def test() -> None:
        async with opened(rabbitmq_url) as one, opened(rabbitmq_url) as other:
            await one.join("t", "a", {}, "new")
            await other.join("t", "a", {"max_attempts": 1}, "new")
            feed = await other.feed("t", "a", Listener())
            await other.append("t", events(1), None)
            await take(feed, 1)
            assert not await one.forget("t", "a")
            await feed.close()
            assert await one.forget("t", "a")

    run(test())


def test_the_feed_of_a_group_forgotten_elsewhere_is_reset(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as one, opened(rabbitmq_url) as other:
            await one.join("t", "a", {}, "new")
            await other.join("t", "a", {"max_attempts": 1}, "new")
            listener = Listener()
            feed = await other.feed("t", "a", listener)
            await one.forget("t", "a")
            await soon(listener.was_reset.wait())
            with pytest.raises(StoreUnavailableError, match="forgotten"):
                await feed.fetch(0, ALL_BYTES)
            with pytest.raises(StoreUnavailableError, match="join it first"):
                await other.feed("t", "a", listener)

    run(test())


def test_a_queue_that_exists_with_other_arguments_is_named(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store, operator(rabbitmq_url) as channel:
            await channel.declare_queue("a+t", durable=True)
            with pytest.raises(StoreUnavailableError, match=r"'a\+t'.*PRECONDITION_FAILED"):
                await store.join("t", "a", {}, "new")
            assert "'a+t'" in str(store.health())
            await channel.queue_delete("a+t")
            await store.join("t", "a", {}, "new")
            assert store.health() is None

    run(test())


def test_an_exchange_that_was_deleted_is_declared_again(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store, operator(rabbitmq_url) as channel:
            await store.append("t", events(1), None)
            await channel.exchange_delete("t")
            with pytest.raises(StoreUnavailableError, match="NOT_FOUND"):
                await store.append("t", events(1), None)
            await store.append("t", events(1), None)

    run(test())


async def appended(store: RabbitStore, *data: Any) -> None:
    """Append as a publisher does, again and again while it may be tried again."""

    async def done() -> bool:
        try:
            return (await store.append("t", events(*data), None)).groups is None
        except StoreUnavailableError:
            return False

    await reaches(done)


def test_after_an_exchange_was_deleted_every_group_is_reached_again(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store, operator(rabbitmq_url) as channel:
            await store.join("t", "a", {}, "new")
            await store.join("t", "b", {}, "new")
            await store.append("t", events(1), None)
            await channel.exchange_delete("t")
            await appended(store, 2)
            await holds(channel, "a+t", 2)
            await holds(channel, "b+t", 2)

    run(test())


def test_nothing_is_published_to_nobody_while_there_is_a_group(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store, operator(rabbitmq_url) as channel:
            await store.join("t", "a", {}, "new")
            await store.append("t", events(1), None)
            await channel.queue_delete("a+t")
            with pytest.raises(StoreUnavailableError, match="'t' had lost their queues"):
                await store.append("t", events(2), None)
            await store.append("t", events(2), None)
            await holds(channel, "a+t", 1)

    run(test())


def test_a_binding_that_was_removed_is_made_again(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store, operator(rabbitmq_url) as channel:
            await store.join("t", "a", {}, "new")
            queue = await channel.declare_queue("a+t", passive=True)
            await queue.unbind("t", "")
            await appended(store, 1)
            await holds(channel, "a+t", 1)

    run(test())


def test_a_queue_that_nobody_reads_is_missed_while_others_are_there(rabbitmq_url: str) -> None:
    async def test() -> None:
        timing = Timing(sync_seconds=0, patrol_seconds=0.05)
        async with (
            opened(rabbitmq_url, timing=timing) as store,
            operator(rabbitmq_url) as channel,
        ):
            await store.join("t", "a", {}, "new")
            await store.join("t", "b", {}, "new")
            await channel.queue_delete("a+t")
            published = 0

            async def reached() -> bool:
                nonlocal published
                await store.append("t", events(published), None)
                published += 1
                return await backlog(channel, "a+t") > 0

            await reaches(lambda: declared(rabbitmq_url, "a+t"))
            await reaches(reached)
            await holds(channel, "b+t", published)

    run(test())


def test_groups_of_an_earlier_broker_are_reached_although_their_binding_has_gone(
    rabbitmq_url: str,
) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            await store.join("t", "a", {}, "new")
        async with operator(rabbitmq_url) as channel:
            await channel.exchange_delete("t")
            async with opened(rabbitmq_url) as store:
                await store.append("t", events(1), None)
            await holds(channel, "a+t", 1)

    run(test())


def test_a_stream_that_was_deleted_is_filled_again(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store, operator(rabbitmq_url) as channel:
            await store.join("t", "a", {"max_attempts": 3}, "new")
            await channel.queue_delete(STREAM)
            await reaches(lambda: _has_records(store, channel))
            async with opened(rabbitmq_url) as other:
                assert await other.find("t", "a") == GroupOptions(max_attempts=3)

    async def _has_records(store: RabbitStore, channel: aio_pika.abc.AbstractChannel) -> bool:
        return store.health() is None and await _records(channel) >= 2

    async def _records(channel: aio_pika.abc.AbstractChannel) -> int:
        arguments: dict[str, Any] = {
            "x-queue-type": "stream",
            "x-max-length-bytes": STREAM_BYTES,
            "x-stream-max-segment-size-bytes": 1024 * 1024,
        }
        queue = await channel.declare_queue(STREAM, durable=True, arguments=arguments)
        return queue.declaration_result.message_count or 0

    run(test())


def test_a_closed_store_refuses_work(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            pass
        assert store.health() == "the store is closed"
        with pytest.raises(StoreUnavailableError):
            await store.append("t", events(1), None)

    run(test())


def test_closing_twice_does_nothing(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            await store.close()

    run(test())


def test_with_dapr_s_names_two_groups_can_t_share_a_queue(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(f"{rabbitmq_url}?interop=dapr") as store:
            await store.join("c", "a-b", {}, "new")
            with pytest.raises(RefusedError, match=r"invalid_name.*'a-b-c'"):
                await store.join("b-c", "a", {}, "new")

    run(test())


def test_a_settled_batch_leaves_nothing_behind(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store, operator(rabbitmq_url) as channel:
            await store.join("t", "a", {}, "new")
            await store.append("t", events(*range(250)), None)
            feed = await store.feed("t", "a", Listener())
            await feed.settle(spans(await take(feed, 250)))
            await feed.close()
            await holds(channel, "a+t", 0)

    run(test())
