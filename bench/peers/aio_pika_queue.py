"""RabbitMQ by hand: `aio-pika` on quorum queues with confirms, as a careful app would use it."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from aio_pika import DeliveryMode, Message

from bench.peers import rabbitmq_server
from bench.peers.house import House
from bench.peers.peer import Address, Note, Peer, Running, Share
from bench.peers.rabbitmq_server import opened, queue_name
from bench.publisher import Outlet


class ByHand(Peer):
    """One event a message; publishes wait for their confirms side by side."""

    async def serve(self, house: House) -> Running:
        """Share the house's node."""
        server = await rabbitmq_server.rabbitmq(house)
        return Running({"amqp": server.amqp}, server.usage)

    async def prepare(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """An exchange, and a queue a group."""
        await rabbitmq_server.declare(address["amqp"], topic, groups)

    async def discard(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """Delete them."""
        await rabbitmq_server.delete(address["amqp"], topic, groups)

    @asynccontextmanager
    async def publisher(
        self, address: Address, topic: str, in_flight: int
    ) -> AsyncIterator[Outlet]:
        """Persistent messages to the exchange; `publish` returns when RabbitMQ has confirmed."""
        async with opened(address["amqp"]) as channel:
            exchange = await channel.get_exchange(topic)

            async def publish(data: bytes) -> None:
                message = Message(data, delivery_mode=DeliveryMode.PERSISTENT)
                await exchange.publish(message, routing_key="")

            yield Outlet(publish)

    async def take(self, share: Share, note: Note, ready: Callable[[], None]) -> None:
        """The queue's iterator, with a prefetch."""
        async with opened(share.address["amqp"]) as channel:
            await channel.set_qos(prefetch_count=share.in_flight)
            queue = await channel.get_queue(queue_name(share.topic, share.group))
            async with queue.iterator() as messages:
                ready()
                async for message in messages:
                    note(message.body)
                    await message.ack()


def open_peer(variant: str) -> Peer:
    """On `quorum` queues, the one variant."""
    assert variant == "quorum"
    return ByHand()
