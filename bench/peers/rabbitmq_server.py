"""A private RabbitMQ node with Web STOMP, shared by the contestants that use it, and its queues."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel

from bench.peers.house import House, free_ports, plain_environment
from bench.usage import Usage

SERVER: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

QUORUM: Final = {"x-queue-type": "quorum"}

DEFINITIONS: Final = {
    "vhosts": [{"name": "/"}],
    "users": [{"name": "bench", "password": "bench", "tags": ["administrator"]}],
    "permissions": [
        {"user": "bench", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    ],
}

CONFIG: Final = """
listeners.tcp.1 = 127.0.0.1:{port}
stomp.listeners.tcp = none
web_stomp.tcp.ip = 127.0.0.1
web_stomp.tcp.port = {stomp_port}
web_stomp.ws_frame = binary
load_definitions = {directory}/definitions.json
disk_free_limit.absolute = 50MB
log.console = false
"""


class RabbitMQ(msgspec.Struct, frozen=True):
    """A node that accepts connections.

    Attributes:
        amqp: its URL.
        stomp: the URL of Web STOMP.
        usage: what the node has used so far.
    """

    amqp: str
    stomp: str
    usage: Callable[[], Usage]


async def rabbitmq(house: House) -> RabbitMQ:
    """The house's node: Debian's, with its defaults but for addresses and directories."""
    return await house.shared("rabbitmq", RabbitMQ, lambda: _start(house))


async def _start(house: House) -> RabbitMQ:
    directory = house.directory("rabbitmq")
    port, stomp_port, distribution, epmd = free_ports(4)
    (directory / "definitions.json").write_text(json.dumps(DEFINITIONS))
    (directory / "plugins").write_text("[rabbitmq_web_stomp].")
    (directory / "rabbitmq.conf").write_text(
        CONFIG.format(port=port, stomp_port=stomp_port, directory=directory)
    )
    environment = plain_environment(
        HOME=str(directory),  # the cookie
        ERL_EPMD_PORT=str(epmd),
        ERL_EPMD_ADDRESS="127.0.0.1",
        RABBITMQ_NODENAME=f"bench{port}@localhost",
        RABBITMQ_NODE_PORT=str(port),
        RABBITMQ_DIST_PORT=str(distribution),
        RABBITMQ_MNESIA_BASE=str(directory / "mnesia"),
        RABBITMQ_LOG_BASE=str(directory / "log"),
        RABBITMQ_CONFIG_FILE=str(directory / "rabbitmq.conf"),
        RABBITMQ_CONF_ENV_FILE="/dev/null",
        RABBITMQ_ENABLED_PLUGINS_FILE=str(directory / "plugins"),
        RUNNING_UNDER_SYSTEMD="true",  # the script then becomes the node: one process
    )
    name_server = await house.start("epmd", ["epmd", "-port", str(epmd)], environment)
    await name_server.answers(epmd)
    server = await house.start("rabbitmq-server", [SERVER], environment)
    await server.answers(port)
    await server.answers(stomp_port)
    return RabbitMQ(
        amqp=f"amqp://bench:bench@127.0.0.1:{port}/",
        stomp=f"ws://127.0.0.1:{stomp_port}/ws",
        usage=server.usage,
    )


async def declare(url: str, topic: str, groups: Sequence[str]) -> None:
    """A durable fanout exchange, and a durable quorum queue a group bound to it."""
    async with opened(url) as channel:
        exchange = await channel.declare_exchange(topic, aio_pika.ExchangeType.FANOUT, durable=True)
        for group in groups:
            queue = await channel.declare_queue(
                queue_name(topic, group), durable=True, arguments=dict(QUORUM)
            )
            await queue.bind(exchange)


async def delete(url: str, topic: str, groups: Sequence[str]) -> None:
    """What `declare` made, with all that is left in it."""
    async with opened(url) as channel:
        for group in groups:
            await channel.queue_delete(queue_name(topic, group))
        await channel.exchange_delete(topic)


def queue_name(topic: str, group: str) -> str:
    """The queue of a group."""
    return f"{topic}.{group}"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[AbstractChannel]:
    """A connection of its own with one channel, which confirms."""
    async with await aio_pika.connect(url) as connection:
        yield await connection.channel(publisher_confirms=True)
