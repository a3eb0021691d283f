"""A node that dies and comes back, and one that is not there yet: one kill, seen by four stores."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import msgspec
import pytest

from actorbus.errors import StoreUnavailableError
from actorbus.store import CALL_SECONDS, Attempt, GroupOptions, Stored
from tests.rabbitmq_node import RabbitNode
from tests.transport.stores.rabbitmq.support import (
    Clock,
    Listener,
    data,
    events,
    healthy,
    holds,
    opened,
    operator,
    reaches,
    run,
    soon,
    take,
)
from transport.stores.rabbitmq.config import Timing
from transport.stores.rabbitmq.store import RabbitStore

HOUR = 3_600_000


class Outcome(msgspec.Struct):
    """What was seen before, while and after the node was away."""

    append_failed: str = ""
    append_seconds: float = 0.0
    feed_failed: str = ""
    resets: int = 0
    in_hand: Sequence[Stored] = ()
    just_joined: Sequence[Stored] = ()
    delayed: Sequence[Stored] = ()
    options: GroupOptions | None = None
    late_health: str = ""
    late_append_failed: str = ""
    late_join_failed: str = ""
    late_options: GroupOptions | None = None


@pytest.fixture(scope="module")
def outcome(mortal_node: RabbitNode) -> Outcome:
    seen = Outcome()
    run(_outage(mortal_node, seen))
    return seen


async def _outage(node: RabbitNode, seen: Outcome) -> None:
    clock = Clock()
    urls = [node.url() for _ in range(4)]
    async with AsyncExitStack() as stack:
        contexts = (
            opened(urls[0], timing=Timing()),
            opened(urls[1], clock, Timing()),
            opened(urls[2], timing=Timing()),
        )
        entered = map(stack.enter_async_context, contexts)
        store, patient, fresh = await asyncio.gather(*entered)
        listener, _ = await asyncio.gather(_fill(store), _delay(patient, clock, urls[1]))
        await fresh.join("t", "a", {"max_attempts": 3}, "new")
        await fresh.append("t", events(*range(10)), None)
        await asyncio.to_thread(node.kill)

        began = time.monotonic()
        seen.append_failed = await _failure(store.append("t", events("refused"), None))
        seen.append_seconds = time.monotonic() - began
        await soon(listener.was_reset.wait())
        seen.feed_failed = await _failure(store.feed("t", "a", listener))
        async with opened(urls[3], timing=Timing()) as late:
            seen.late_health = str(late.health())
            seen.late_append_failed = await _failure(late.append("t", events(1), None))
            seen.late_join_failed = await _failure(late.join("t", "a", {}, "new"))
            await asyncio.to_thread(node.start)
            await reaches(partial(healthy, late))
            seen.late_options = await late.join("t", "a", {}, "new")

        for each in (store, patient, fresh):
            await reaches(partial(healthy, each))
        again = await store.feed("t", "a", listener)
        await store.append("t", events("after"), None)
        seen.in_hand = await take(again, 101)
        seen.resets = listener.resets
        seen.just_joined = await take(await fresh.feed("t", "a", Listener()), 10)
        seen.options = await fresh.find("t", "a")
    clock.ahead = HOUR
    async with opened(urls[1], clock, Timing()) as another:  # as after the broker's own restart
        seen.delayed = await take(await another.feed("t", "a", Listener()), 1)


async def _fill(store: RabbitStore) -> Listener:
    await store.join("t", "a", {"max_attempts": 3}, "new")
    listener = Listener()
    feed = await store.feed("t", "a", listener)
    await store.append("t", events(*range(100)), None)
    await take(feed, 100)
    return listener


async def _delay(store: RabbitStore, clock: Clock, url: str) -> None:
    """Put one event off for an hour, after its fourth attempt."""
    await store.join("t", "a", {}, "new")
    feed = await store.feed("t", "a", Listener())
    await store.append("t", events("late"), None)
    await take(feed, 1)
    await feed.move(Attempt(0, 4, 1, clock() + HOUR))
    await feed.close()
    async with operator(url) as channel:
        await holds(channel, "a+t", 0)
        await holds(channel, "a+t+delay", 1)


async def _failure(call: Awaitable[Any]) -> str:
    with pytest.raises(StoreUnavailableError) as caught:
        await call
    return caught.value.message


def test_an_append_to_a_killed_node_fails_in_time(outcome: Outcome) -> None:
    assert outcome.append_failed
    assert outcome.append_seconds < CALL_SECONDS


def test_a_feed_is_reset_once_and_can_not_be_opened_meanwhile(outcome: Outcome) -> None:
    assert outcome.resets == 1
    assert outcome.feed_failed.startswith("rabbitmq at 127.0.0.1:")


def test_what_was_confirmed_is_there_after_a_kill_and_in_order(outcome: Outcome) -> None:
    assert data(outcome.in_hand) == [*range(100), "after"]


def test_what_was_confirmed_survives_a_kill_right_after_the_first_join(outcome: Outcome) -> None:
    """Fails with `sync_seconds=0`: RabbitMQ then no longer knows the new queue."""
    assert data(outcome.just_joined) == list(range(10))
    assert outcome.options == GroupOptions(max_attempts=3)


def test_an_event_with_a_long_delay_keeps_its_attempts_through_a_kill(outcome: Outcome) -> None:
    (stored,) = outcome.delayed
    assert data([stored]) == ["late"]
    assert (stored.attempts, stored.lost) == (4, 1)


def test_a_store_opens_without_rabbitmq_and_works_once_it_is_there(outcome: Outcome) -> None:
    for failed in (outcome.late_health, outcome.late_append_failed, outcome.late_join_failed):
        assert "is away" in failed
    assert outcome.late_options == GroupOptions()
