"""Mosquitto over WebSocket, QoS 1, by `paho-mqtt` on the app's event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from bench.options import BenchError
from bench.peers.house import House, free_ports, plain_environment
from bench.peers.peer import Address, Note, Peer, Running, Share
from bench.publisher import Outlet

SERVER: Final = Path("/usr/sbin/mosquitto")

CONFIG: Final = """
listener {plain_port} 127.0.0.1
listener {port} 127.0.0.1
protocol websockets
allow_anonymous true
persistence true
persistence_location {directory}/
max_inflight_messages 1000
max_queued_messages 0
set_tcp_nodelay true
user root
log_type error
"""
"""Queues have no limit: Mosquitto would drop what a slow subscriber has not taken. `user` counts
only when it is started as root, since the user that it would change to owns no directory here. The
plain listener stays unused: Mosquitto 2.0.11 does not start with listeners for WebSocket alone."""

ANSWER_SECONDS: Final = 10.0


class Mosquitto(Peer):
    """Sessions that last, PUBACK in both directions for every event."""

    async def serve(self, house: House) -> Running:
        """Start `mosquitto`; its persistence is a snapshot every half an hour and at the end."""
        plain_port, port = free_ports(2)
        directory = house.directory("mosquitto")
        config = directory / "mosquitto.conf"
        config.write_text(CONFIG.format(port=port, plain_port=plain_port, directory=directory))
        server = await house.start("mosquitto", [SERVER, "-c", config], plain_environment())
        await server.answers(port)
        return Running({"ws": f"ws://127.0.0.1:{port}"}, server.usage)

    async def prepare(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """Nothing: subscribing makes the session."""

    async def discard(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """A clean session under a group's name ends the one that lasts."""
        for group in groups:
            async with _connected(address, f"{topic}-{group}", clean=True):
                pass

    @asynccontextmanager
    async def publisher(
        self, address: Address, topic: str, in_flight: int
    ) -> AsyncIterator[Outlet]:
        """`publish` returns at the PUBACK."""
        async with _connected(
            address, f"{topic}-publisher", clean=True, in_flight=in_flight
        ) as client:
            loop = asyncio.get_running_loop()
            waiting: dict[int, asyncio.Future[None]] = {}

            def answered(_client: Any, _data: Any, number: int, *_: Any) -> None:
                waiting.pop(number).set_result(None)

            async def publish(data: bytes) -> None:
                number = client.publish(topic, data, qos=1).mid
                answer = waiting[number] = loop.create_future()
                await answer

            client.on_publish = answered
            yield Outlet(publish)

    async def take(self, share: Share, note: Note, ready: Callable[[], None]) -> None:
        """Acknowledge in the callback, once the event is noted."""
        name = f"{share.topic}-{share.group}"
        async with _connected(share.address, name, clean=False) as client:

            def arrived(_client: Any, _data: Any, message: Any) -> None:
                note(message.payload)
                client.ack(message.mid, message.qos)

            def subscribed(*_: Any) -> None:
                ready()

            client.on_message = arrived
            client.on_subscribe = subscribed
            client.subscribe(share.topic, qos=1)
            await asyncio.Event().wait()


@asynccontextmanager
async def _connected(
    address: Address, name: str, *, clean: bool, in_flight: int = 1
) -> AsyncIterator[Any]:
    """A client whose socket the event loop watches, as paho's documentation has it."""
    loop = asyncio.get_running_loop()
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=name,
        clean_session=clean,
        transport="websockets",
        manual_ack=True,
    )
    client.max_inflight_messages_set(in_flight)  # 20 by default
    answered = loop.create_future()
    ended = asyncio.Event()

    def connected(_client: Any, _data: Any, _flags: Any, reason: Any, *_: Any) -> None:
        answered.set_result(reason)

    client.on_connect = connected
    client.on_disconnect = lambda *_: ended.set()
    client.on_socket_open = lambda _c, _d, sock: loop.add_reader(sock, _read, client, sock)
    client.on_socket_close = lambda _c, _d, sock: loop.remove_reader(sock)
    client.on_socket_register_write = lambda _c, _d, sock: loop.add_writer(sock, client.loop_write)
    client.on_socket_unregister_write = lambda _c, _d, sock: loop.remove_writer(sock)
    parts = urlsplit(address["ws"])
    client.connect(parts.hostname, parts.port)
    async with asyncio.timeout(ANSWER_SECONDS):
        if (reason := await answered).is_failure:
            raise BenchError(f"mosquitto: {reason}")
    keeping = asyncio.create_task(_keep(client))
    try:
        yield client
    finally:
        keeping.cancel()
        client.disconnect()
        async with asyncio.timeout(ANSWER_SECONDS):
            await ended.wait()


def _read(client: Any, sock: Any) -> None:
    client.loop_read()
    while client.socket() is sock and sock.pending():  # more of a WebSocket frame that is here
        client.loop_read()


async def _keep(client: Any) -> None:
    while True:
        await asyncio.sleep(1)
        client.loop_misc()


def open_peer(variant: str) -> Peer:
    """With `qos1`, the one variant."""
    assert variant == "qos1"
    return Mosquitto()
