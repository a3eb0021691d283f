"""actorbus itself, on each of its stores, used as its README says."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import actorbus
from bench.broker import serving
from bench.options import TEMPORARY
from bench.peers.house import House
from bench.peers.peer import Address, Note, Peer, Running, Share
from bench.peers.rabbitmq_server import rabbitmq
from bench.publisher import Outlet, outlet_of
from bench.usage import together

STORES: Final = {"sqlite": TEMPORARY, "memory": "memory:"}


class Actorbus(Peer):
    """Plain `await bus.publish()`, `async for` and `await delivery.ack()`.

    Args:
        store: the kind of store.
    """

    def __init__(self, store: str) -> None:
        self._store = store

    async def serve(self, house: House) -> Running:
        """Start a broker on a fresh store; SQLite syncs every commit (`synchronous=FULL`)."""
        if self._store == "rabbitmq":
            return await _on_rabbitmq(house)
        broker = await house.enter(serving(None, STORES[self._store]))
        return Running({"ws": broker.url}, broker.usage)

    async def prepare(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """Nothing: subscribing makes topic and group."""

    async def discard(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """Forget the groups."""
        for group in groups:
            async with actorbus.connect(address["ws"], app_id=group) as bus:
                await bus.forget(topic)

    @asynccontextmanager
    async def publisher(
        self, address: Address, topic: str, in_flight: int
    ) -> AsyncIterator[Outlet]:
        """A bus with its defaults."""
        async with actorbus.connect(address["ws"], app_id="bench") as bus:
            yield outlet_of(bus, topic)

    async def take(self, share: Share, note: Note, ready: Callable[[], None]) -> None:
        """`async for`, each delivery acknowledged by itself."""
        connection = actorbus.connect(
            share.address["ws"], app_id=share.group, max_in_flight=share.in_flight
        )
        async with connection as bus, bus.subscribe(share.topic) as deliveries:
            ready()
            async for delivery in deliveries:
                note(delivery.data)
                await delivery.ack()


async def _on_rabbitmq(house: House) -> Running:
    """On the node that the other contestants use; its CPU counts, too."""
    node = await rabbitmq(house)
    broker = await house.enter(serving(None, node.amqp))
    return Running({"ws": broker.url}, lambda: together(broker.usage(), node.usage()))


def open_peer(variant: str) -> Peer:
    """On the store of this kind."""
    return Actorbus(variant)
