import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from actorbus.errors import StoreUnavailableError
from tests.transport.stores.rabbitmq.support import run, soon
from transport.stores.rabbitmq.calls import within
from transport.stores.rabbitmq.config import parse
from transport.stores.rabbitmq.connections import Link, Links, end_channel


@asynccontextmanager
async def connected(url: str, *, limit: int = 2_000) -> AsyncIterator[Links]:
    """The consuming connections, the first of them up."""
    links = Links(parse(url), limit=limit)
    links.first.start()
    await soon(links.first.tried.wait())
    try:
        yield links
    finally:
        await links.close()


def test_the_numbers_of_closed_channels_are_used_again(rabbitmq_url: str) -> None:
    async def test() -> set[int]:
        async with connected(rabbitmq_url) as links:
            channels = [await links.channel() for _ in range(3)]
            numbers = {channel.number for channel in channels}
            for turn in range(9):  # left to itself, aiormq counts up to the limit and is cut off
                await end_channel(channels[turn % 3])
                channels[turn % 3] = await links.channel()
                numbers.add(channels[turn % 3].number)
            return numbers

    assert run(test()) == {1, 2, 3}


def test_when_a_connection_is_full_another_is_made(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with connected(rabbitmq_url, limit=2) as links:
            for _ in range(5):
                await links.channel()
            assert [link.channels for link in links.links] == [2, 2, 1]

    run(test())


def test_without_a_connection_a_channel_is_refused_at_once() -> None:
    async def test() -> None:
        link = Link(parse("amqp://127.0.0.1:9"), "test")
        with pytest.raises(StoreUnavailableError, match="not connected yet"):
            await link.channel()

    run(test())


def test_a_call_s_own_cancellation_is_not_taken_for_the_caller_s() -> None:
    async def lost() -> None:
        raise asyncio.CancelledError  # what aiormq does when the connection goes

    async def test() -> None:
        with pytest.raises(StoreUnavailableError, match="it: the connection was lost"):
            await within(1, "it", lost())

    run(test())


def test_a_call_without_an_answer_ends_with_its_deadline() -> None:
    async def test() -> None:
        with pytest.raises(StoreUnavailableError, match=r"it: no answer in 0\.01 s"):
            await within(0.01, "it", asyncio.Event().wait())

    run(test())


def test_a_cancelled_caller_cancels_its_call() -> None:
    async def test() -> bool:
        inner = asyncio.get_running_loop().create_future()
        caller = asyncio.ensure_future(within(9, "it", inner))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait((caller,))
        return caller.cancelled() and inner.cancelled()

    assert run(test())
