import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import msgpack
import pytest

from actorbus.errors import StoreUnavailableError
from tests.transport.stores.rabbitmq.support import events, run
from transport.stores.rabbitmq.messages import HISTORY, BatchFormat, DaprFormat, Format, History
from transport.stores.rabbitmq.mover import Mover
from transport.stores.rabbitmq.publisher import Outgoing, Publisher
from transport.stores.rabbitmq.topology import Topology

NOW = 1_000_000
EARLY = History(1, 0, NOW + 60_000)
DUE = History(1, 0, NOW + 100)


class FakePublisher:
    """Confirms everything, unless told otherwise."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.routes = True
        self.fails = False

    async def publish(self, messages: Sequence[Outgoing]) -> int:
        await asyncio.sleep(0)
        if self.fails:
            raise StoreUnavailableError("away")
        self.published += messages
        return len(messages) if self.routes else 0


class FakeTopology:
    """Has every queue."""

    def __init__(self, delay_ms: int) -> None:
        self.delay_ms = delay_ms
        self.forgotten = 0

    async def delay(self, queue: str) -> str:
        return f"{queue}+delay"

    def forget(self) -> None:
        self.forgotten += 1


def moved(
    test: Callable[[Mover, FakePublisher], Awaitable[Any]],
    *,
    form: Format | None = None,
    delay_ms: int = 2_000,
) -> FakePublisher:
    """What a test published through a mover."""
    publisher = FakePublisher()

    async def with_mover() -> None:
        topology = cast(Topology, FakeTopology(delay_ms))
        form_ = form or BatchFormat()
        await test(Mover("q", form_, cast(Publisher, publisher), topology, lambda: NOW), publisher)

    run(with_mover())
    return publisher


def sizes(publisher: FakePublisher) -> list[int]:
    return [len(msgpack.unpackb(message.body)) for message in publisher.published]


def test_an_event_that_is_soon_due_goes_to_the_group_s_queue() -> None:
    published = moved(lambda mover, _: mover.move(events(1)[0], None, DUE)).published
    assert [message.routing_key for message in published] == ["q"]


def test_an_event_that_is_early_goes_to_the_delay_queue() -> None:
    published = moved(lambda mover, _: mover.move(events(1)[0], None, EARLY)).published
    assert [message.routing_key for message in published] == ["q+delay"]


def test_an_event_goes_with_its_history() -> None:
    published = moved(lambda mover, _: mover.move(events(1)[0], None, DUE)).published
    headers = published[0].properties.headers
    assert headers is not None
    assert headers[HISTORY] == [1, 0, NOW + 100]


def test_moves_at_the_same_time_share_a_message() -> None:
    def test(mover: Mover, _: FakePublisher) -> Awaitable[Any]:
        return asyncio.gather(*(mover.move(event, None, DUE) for event in events(*range(150))))

    assert sizes(moved(test)) == [100, 50]


def test_events_with_different_ttl_don_t_share_a_message() -> None:
    def test(mover: Mover, _: FakePublisher) -> Awaitable[Any]:
        return asyncio.gather(*(mover.move(events(n)[0], n, DUE) for n in (1, 2)))

    assert sizes(moved(test)) == [1, 1]


def test_in_dapr_s_format_every_event_has_its_message() -> None:
    def test(mover: Mover, _: FakePublisher) -> Awaitable[Any]:
        return asyncio.gather(*(mover.move(event, None, DUE) for event in events(*range(20))))

    assert len(moved(test, form=DaprFormat()).published) == 20


def test_early_events_wait_for_company() -> None:
    async def test(mover: Mover, _: FakePublisher) -> None:
        first = asyncio.ensure_future(mover.move(events(1)[0], None, EARLY))
        for _turn in range(5):
            await asyncio.sleep(0)
        await asyncio.gather(first, mover.move(events(2)[0], None, EARLY))

    assert sizes(moved(test)) == [2]


@pytest.mark.parametrize(("history", "count"), [(EARLY, 8), (DUE, 1)])
def test_enough_company_or_an_event_that_is_due_ends_the_wait(history: History, count: int) -> None:
    def test(mover: Mover, _: FakePublisher) -> Awaitable[Any]:
        return asyncio.gather(
            *(mover.move(event, None, history) for event in events(*range(count)))
        )

    an_hour = 3_600_000 * 100
    assert sizes(moved(test, delay_ms=an_hour if history is EARLY else 5_000)) == [count]


def test_a_move_to_a_queue_that_is_gone_fails() -> None:
    async def test(mover: Mover, publisher: FakePublisher) -> None:
        publisher.routes = False
        with pytest.raises(StoreUnavailableError, match="'q' or its delay queue is gone"):
            await mover.move(events(1)[0], None, DUE)

    moved(test)


def test_after_a_failure_the_next_move_works() -> None:
    async def test(mover: Mover, publisher: FakePublisher) -> None:
        publisher.fails = True
        with pytest.raises(StoreUnavailableError, match="away"):
            await mover.move(events(1)[0], None, DUE)
        publisher.fails = False
        await mover.move(events(1)[0], None, DUE)

    assert sizes(moved(test)) == [1]
