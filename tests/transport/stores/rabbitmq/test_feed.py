"""Feeds on a real node: settling, moving, giving back."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika
import pytest

from actorbus.errors import StoreUnavailableError
from actorbus.store import Attempt
from tests.transport.stores.rabbitmq.support import (
    ALL_BYTES,
    Clock,
    Listener,
    Proxy,
    data,
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
from transport.stores.rabbitmq.consumer import PREFETCH
from transport.stores.rabbitmq.feed import Feed
from transport.stores.rabbitmq.messages import History
from transport.stores.rabbitmq.store import RabbitStore

MINUTE = 60_000


def test_a_fetch_waits_for_the_first_message(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            await store.join("t", "a", {}, "new")
            feed = await store.feed("t", "a", Listener())
            fetch = asyncio.ensure_future(feed.fetch(0, ALL_BYTES))
            await store.append("t", events("x"), None)
            assert data((await soon(fetch)).runs) == ["x"]

    run(test())


def test_a_fetch_returns_at_least_one_message_and_then_up_to_its_credit(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            await store.join("t", "a", {}, "new")
            for n in range(3):
                await store.append("t", events(n), None)
            feed = await store.feed("t", "a", Listener())
            first = await soon(feed.fetch(0, 1))
            assert data(first.runs) == [0]
            assert data(await take(feed, 2)) == [1, 2]

    run(test())


def test_the_expiry_travels_with_the_batch(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            await store.join("t", "a", {}, "new")
            await store.append("t", events("x"), 1_900_000_000_000)
            feed = await store.feed("t", "a", Listener())
            (stored,) = await take(feed, 1)
            assert stored.batch.expires_at == 1_900_000_000_000

    run(test())


def test_two_stores_on_one_node_share_a_group_s_work(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as one, opened(rabbitmq_url) as other:
            await one.join("t", "a", {}, "new")
            await other.join("t", "a", {"max_attempts": 1}, "new")
            feeds = [await store.feed("t", "a", Listener()) for store in (one, other)]
            waiting = [asyncio.ensure_future(feed.fetch(0, ALL_BYTES)) for feed in feeds]
            for n in range(2 * PREFETCH):
                await one.append("t", events(n), None)
            taken = [await soon(fetch) for fetch in waiting]
            shares = [data(fetched.runs) for fetched in taken]
            for feed, share in zip(feeds, shares, strict=True):
                share.extend(data(await take(feed, PREFETCH - len(share))))
            assert [len(share) for share in shares] == [PREFETCH, PREFETCH]
            assert sorted(shares[0] + shares[1]) == list(range(2 * PREFETCH))

    run(test())


def test_what_a_cut_off_broker_held_goes_to_the_other(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with (
            Proxy(rabbitmq_url) as proxy,
            opened(rabbitmq_url) as other,
            opened(proxy.url) as one,
        ):
            await one.join("t", "a", {}, "new")
            await other.join("t", "a", {"max_attempts": 1}, "new")
            await other.append("t", events(*range(100)), None)
            listener = Listener()
            lost = await one.feed("t", "a", listener)
            await take(lost, 100)
            heir = await other.feed("t", "a", Listener())
            proxy.cut()
            assert data(await take(heir, 100)) == list(range(100))
            await soon(listener.was_reset.wait())
            assert listener.resets == 1
            with pytest.raises(StoreUnavailableError):
                await lost.settle([(0, 1)])

    run(test())


def test_what_was_settled_does_not_come_again_after_a_lost_connection(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with Proxy(rabbitmq_url) as proxy, opened(proxy.url) as store:
            await store.join("t", "a", {}, "new")
            await store.append("t", events(0, 1, 2, 3), None)
            listener = Listener()
            feed = await store.feed("t", "a", listener)
            await take(feed, 4)
            await feed.settle([(0, 2)])
            await feed.attempted([Attempt(3, 5, 2, 0)])
            proxy.cut()
            await soon(listener.was_reset.wait())
            await reaches(lambda: _up(store))
            again = await store.feed("t", "a", Listener())
            runs = await take(again, 2)
            assert data(runs) == [2, 3]
            assert [(stored.attempts, stored.lost) for stored in runs] == [(0, 0), (5, 2)]

    async def _up(store: RabbitStore) -> bool:
        return store.health() is None

    run(test())


def test_released_messages_come_back_in_order(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            await store.join("t", "a", {}, "new")
            for n in range(PREFETCH + 4):
                await store.append("t", events(n), None)
            feed = await store.feed("t", "a", Listener())
            await take(feed, PREFETCH)
            position = await feed.release()
            runs = await take(feed, PREFETCH)
            assert data(runs) == list(range(PREFETCH))
            assert runs[0].batch.first == position == PREFETCH

    run(test())


def test_of_a_half_settled_message_only_the_rest_comes_back(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as one, opened(rabbitmq_url) as other:
            await one.join("t", "a", {}, "new")
            await other.join("t", "a", {"max_attempts": 1}, "new")
            await one.append("t", events(0, 1, 2, 3), 1_900_000_000_000)
            feed = await one.feed("t", "a", Listener())
            await take(feed, 4)
            await feed.settle([(1, 2)])
            await feed.attempted([Attempt(3, 5, 2, 7)])
            await feed.close()
            heir = await other.feed("t", "a", Listener())
            runs = await take(heir, 2)
            assert data(runs) == [0, 3]
            assert [(stored.attempts, stored.lost) for stored in runs] == [(0, 0), (5, 2)]
            assert runs[0].batch.expires_at == 1_900_000_000_000

    run(test())


def test_a_part_can_be_given_back_while_the_rest_is_leased(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as one, opened(rabbitmq_url) as other:
            await one.join("t", "a", {}, "new")
            await other.join("t", "a", {"max_attempts": 1}, "new")
            for n in range(0, 6, 2):
                await one.append("t", events(n, n + 1), None)
            feed = await one.feed("t", "a", Listener())
            await take(feed, 6)
            await feed.release([(1, 5)])
            heir = await other.feed("t", "a", Listener())
            assert sorted(data(await take(heir, 5))) == [1, 2, 3, 4, 5]
            await feed.settle([(0, 1)])
            async with operator(rabbitmq_url) as channel:
                await heir.close()
                await feed.close()
                await holds(channel, "a+t", 3)

    run(test())


def test_a_release_ends_a_fetch_that_waits(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            await store.join("t", "a", {}, "new")
            feed = await store.feed("t", "a", Listener())
            fetch = asyncio.ensure_future(feed.fetch(0, ALL_BYTES))
            await reaches(lambda: _consuming(feed))
            await feed.release()
            assert (await soon(fetch)).runs == ()

    async def _consuming(feed: Feed) -> bool:
        return feed.consumer.prefetch > 0

    run(test())


def test_a_failed_event_is_asked_for_when_the_rest_is_settled(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            await store.join("t", "a", {}, "new")
            await store.append("t", events(0, 1, 2), None)
            listener = Listener()
            feed = await store.feed("t", "a", listener)
            await take(feed, 3)
            await feed.attempted([Attempt(1, 1, 0, 0)])
            assert listener.evicted == []
            await feed.settle([(0, 1), (2, 1)])
            assert listener.evicted == [1]

    run(test())


def test_a_failed_event_of_an_old_message_is_asked_for_while_others_are_leased(
    rabbitmq_url: str,
) -> None:
    async def test() -> None:
        timing = Timing(sync_seconds=0, aged_seconds=0.1, watch_seconds=0.05)
        async with opened(rabbitmq_url, timing=timing) as store:
            await store.join("t", "a", {}, "new")
            await store.append("t", events(0, 1, 2), None)
            listener = Listener()
            feed = await store.feed("t", "a", listener)
            await take(feed, 3)
            await feed.attempted([Attempt(1, 1, 0, 0)])
            await soon(listener.was_evicted.wait())
            assert set(listener.evicted) == {1}

    run(test())


def test_a_moved_event_comes_back_alone_with_its_history(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store, operator(rabbitmq_url) as channel:
            await store.join("t", "a", {}, "new")
            await store.join("t", "b", {}, "new")
            await store.append("t", events(0, 1, 2), None)
            feed = await store.feed("t", "a", Listener())
            await take(feed, 3)
            await feed.settle([(0, 1), (2, 1)])
            await feed.attempted([Attempt(1, 4, 3, 17)])
            await feed.move(Attempt(1, 4, 3, 17))
            (stored,) = await take(feed, 1)
            assert data([stored]) == [1]
            assert (stored.attempts, stored.lost, stored.not_before) == (4, 3, 17)
            assert stored.batch.first == 3
            await holds(channel, "b+t", 1)  # the other group sees no copy
            await feed.settle([(3, 1)])
            await feed.close()
            await holds(channel, "a+t", 0)

    run(test())


def test_an_event_with_a_long_delay_pins_neither_the_prefetch_nor_its_message(
    rabbitmq_url: str,
) -> None:
    async def test() -> None:
        clock = Clock()
        timing = Timing(sync_seconds=0, delay_ms=200)
        async with opened(rabbitmq_url, clock, timing) as store, operator(rabbitmq_url) as channel:
            await store.join("t", "a", {}, "new")
            for n in range(PREFETCH):
                await store.append("t", events(n, "rest"), None)
            feed = await store.feed("t", "a", Listener())
            positions = [stored.batch.first for stored in await take(feed, 2 * PREFETCH)]
            later = clock() + MINUTE
            failed = [Attempt(position, 3, 1, later) for position in positions]
            await feed.attempted(failed)
            await feed.settle([(position + 1, 1) for position in positions])
            await asyncio.gather(*map(feed.move, failed))
            await store.append("t", events("next"), None)
            assert data(await take(feed, 1)) == ["next"]
            await holds(channel, "a+t", 0)

            clock.ahead = MINUTE
            runs = await take(feed, PREFETCH)
            assert sorted(data(runs)) == list(range(PREFETCH))
            histories = {(stored.attempts, stored.lost, stored.not_before) for stored in runs}
            assert histories == {(3, 1, later)}

    run(test())


def test_an_early_event_goes_round_until_it_is_due_with_its_attempts_exact(
    rabbitmq_url: str,
) -> None:
    async def test() -> None:
        clock = Clock()
        timing = Timing(sync_seconds=0, delay_ms=100)
        async with opened(rabbitmq_url, clock, timing) as store:
            await store.join("t", "a", {}, "new")
            await store.append("t", events("late"), None)
            feed = await store.feed("t", "a", Listener())
            await take(feed, 1)
            later = clock() + MINUTE
            rounds = asyncio.Queue[int]()
            move = feed._mover.move

            async def counted(event: bytes, expires_at: int | None, history: History) -> None:
                await move(event, expires_at, history)
                rounds.put_nowait(history.attempts)

            feed._mover.move = counted  # type: ignore[method-assign]  # counts the rounds
            await feed.move(Attempt(0, 3, 1, later))
            fetch = asyncio.ensure_future(feed.fetch(0, ALL_BYTES))
            assert [await soon(rounds.get()) for _ in range(4)] == [3, 3, 3, 3]
            assert not fetch.done()
            clock.ahead = MINUTE
            (stored,) = (await soon(fetch)).runs
            assert (stored.attempts, stored.lost, stored.not_before) == (3, 1, later)

    run(test())


def test_many_small_messages_widen_the_prefetch(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            await store.join("t", "a", {}, "new")
            await asyncio.gather(*(store.append("t", events(n), None) for n in range(100)))
            feed = await store.feed("t", "a", Listener())
            runs = await take(feed, 100)
            assert data(runs) == list(range(100))
            await feed.settle(spans(runs))

    run(test())


def test_full_messages_widen_the_prefetch_only_once(rabbitmq_url: str) -> None:
    async def test() -> None:
        most = 4 * PREFETCH
        async with opened(rabbitmq_url) as store:
            await store.join("t", "a", {}, "new")
            for _ in range(most + 1):
                await store.append("t", events(*range(100)), None)
            feed = await store.feed("t", "a", Listener())
            await take(feed, 100 * most)
            fetch = asyncio.ensure_future(feed.fetch(0, ALL_BYTES))
            await store.append("u", events(1), None)  # time for what might still come
            assert feed.consumer.prefetch == most
            await feed.settle([(0, 100)])
            assert len(data((await soon(fetch)).runs)) == 100

    run(test())


def test_a_queue_deleted_by_an_operator_heals(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store, operator(rabbitmq_url) as channel:
            await store.join("t", "a", {}, "new")
            listener = Listener()
            feed = await store.feed("t", "a", listener)
            await store.append("t", events(1), None)
            await take(feed, 1)
            await channel.queue_delete("a+t")
            await soon(listener.was_reset.wait())
            healed = await store.feed("t", "a", Listener())
            await store.append("t", events(2), None)
            assert data(await take(healed, 1)) == [2]
            assert listener.resets == 1

    run(test())


def test_messages_of_a_cancelled_consumer_are_not_kept(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            await store.join("t", "a", {}, "new")
            await store.append("t", events(1), None)
            listener = Listener()
            feed = await store.feed("t", "a", listener)
            await take(feed, 1)
            feed.on_lost("as if RabbitMQ had cancelled the consumer")
            again = await store.feed("t", "a", Listener())
            assert data(await take(again, 1)) == [1]

    run(test())


def test_a_body_that_can_be_no_event_is_refused_and_blocks_nothing(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store, operator(rabbitmq_url) as channel:
            await store.join("t", "a", {}, "new")
            feed = await store.feed("t", "a", Listener())
            huge = b"x" * (2 * 1024 * 1024)
            await channel.default_exchange.publish(aio_pika.Message(huge), "a+t")
            await store.append("t", events("next"), None)
            runs = await take(feed, 1)
            assert data(runs) == ["next"]
            await feed.settle(spans(runs))
            await feed.close()
            await holds(channel, "a+t", 0)

    run(test())


@pytest.mark.parametrize("call", ["settle", "attempted", "move", "release", "fetch"])
def test_a_closed_feed_refuses_work(rabbitmq_url: str, call: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store:
            await store.join("t", "a", {}, "new")
            feed = await store.feed("t", "a", Listener())
            await feed.close()
            calls: dict[str, Callable[[], Awaitable[Any]]] = {
                "settle": lambda: feed.settle([(0, 1)]),
                "attempted": lambda: feed.attempted([]),
                "move": lambda: feed.move(Attempt(0, 1, 0, 0)),
                "release": feed.release,
                "fetch": lambda: feed.fetch(0, 1),
            }
            with pytest.raises(StoreUnavailableError, match="closed"):
                await calls[call]()

    run(test())
