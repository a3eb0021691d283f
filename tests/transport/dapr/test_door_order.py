"""The order in which a door opens and closes: what SDKs that open their streams again rely on."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from tests.transport.dapr.grpc_kit import Stream
from transport.broker import Broker, Config
from transport.dapr.config import DoorConfig
from transport.dapr.door import Door
from transport.dapr.grpc_server import GrpcServer
from transport.dapr.http_server import HttpServer

OUTBOUND = b"GET /v1.0/healthz/outbound HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"

Script = Callable[[Door, int | None, int | None], Awaitable[None]]


def play(script: Script) -> None:
    async def run() -> None:
        broker = Broker(Config(port=0, store="memory:", grace_seconds=0.0))
        url = await broker.start()
        config = DoorConfig(components={"pubsub": url}, app_id="shop", http_port=0, grpc_port=0)
        door = Door(config)
        try:
            async with asyncio.timeout(20):
                await script(door, *await door.start())
        finally:
            await door.stop()
            await broker.stop()

    uvloop.run(run())


async def health(port: int | None) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(OUTBOUND)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.split(b" ", 2)[1]


def test_grpc_listens_before_http_says_that_the_door_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []
    for server in (GrpcServer, HttpServer):
        original = server.start

        async def start(
            self: object, host: str, port: int, name: str = server.__name__, to: object = original
        ) -> int:
            started.append(name)
            bound: int = await to(self, host, port)  # type: ignore[operator]  # a method
            return bound

        monkeypatch.setattr(server, "start", start)

    async def script(door: Door, http_port: int | None, grpc_port: int | None) -> None:
        assert started == ["GrpcServer", "HttpServer"]

    play(script)


def test_the_door_is_not_well_while_its_streams_end() -> None:
    import grpc
    from dapr.proto.runtime.v1.dapr_pb2_grpc import DaprStub

    async def script(door: Door, http_port: int | None, grpc_port: int | None) -> None:
        assert await health(http_port) == b"204"
        async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            stub = DaprStub(channel)  # type: ignore[no-untyped-call]  # generated
            stream = Stream(stub.SubscribeTopicEventsAlpha1())
            await stream.initial()
            await stream.read()
            bus = await door.buses.get("pubsub", "shop")
            event = {"id": "1", "source": "shop", "type": "t", "specversion": "1.0", "data": 1}
            await bus.publish("orders", event=event)
            delivered = await stream.event()
            stop = asyncio.ensure_future(door.stop())  # it waits for this event
            await asyncio.sleep(0)
            assert await health(http_port) == b"500"
            await stream.answer(delivered.id)
            assert (await stream.ended())[0] == grpc.StatusCode.UNAVAILABLE
            await stop

    play(script)
