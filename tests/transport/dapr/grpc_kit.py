"""A broker, a Dapr gRPC API in front of it, and apps that speak to both."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import grpc
import structlog
import uvloop
from dapr.proto.runtime.v1 import pubsub_pb2 as pb
from dapr.proto.runtime.v1.appcallback_pb2 import TopicEventRequest, TopicEventResponse
from dapr.proto.runtime.v1.dapr_pb2_grpc import DaprStub

import actorbus
from transport.auth import Tokens
from transport.broker import Broker, Config
from transport.dapr.buses import Buses
from transport.dapr.callers import Callers
from transport.dapr.config import DoorConfig
from transport.dapr.grpc_api import GrpcApi
from transport.dapr.grpc_server import GrpcServer
from transport.dapr.metadata import Metadata
from transport.dapr.publishing import Publisher
from transport.dapr.settling import Retries

DEADLINE: Final = 8.0
"""Seconds that any one thing may take to come."""

SCRIPT_DEADLINE: Final = 40.0
"""Seconds that a whole test may take."""

WINDOW_OF_NONE: Final = 0.2
"""Seconds in which something that must not come would have come."""

SUCCESS = TopicEventResponse.SUCCESS
RETRY = TopicEventResponse.RETRY
DROP = TopicEventResponse.DROP


class Stream:
    """A subscription, as an SDK makes it."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def initial(
        self,
        topic: str = "orders",
        *,
        component: str = "pubsub",
        dead_letter_topic: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        request = pb.SubscribeTopicEventsRequestInitialAlpha1(
            pubsub_name=component,
            topic=topic,
            metadata=metadata or {},
            dead_letter_topic=dead_letter_topic,
        )
        await self.call.write(pb.SubscribeTopicEventsRequestAlpha1(initial_request=request))

    async def read(self) -> pb.SubscribeTopicEventsResponseAlpha1:
        async with asyncio.timeout(DEADLINE):
            message = await self.call.read()
        assert message is not grpc.aio.EOF, await self.call.code()
        response: pb.SubscribeTopicEventsResponseAlpha1 = message
        return response

    async def event(self) -> TopicEventRequest:
        response = await self.read()
        assert response.HasField("event_message"), response
        return response.event_message

    async def events(self, count: int) -> list[TopicEventRequest]:
        return [await self.event() for _ in range(count)]

    async def answer(self, event_id: str, status: Any = SUCCESS) -> None:
        request = pb.SubscribeTopicEventsRequestProcessedAlpha1(
            id=event_id, status=TopicEventResponse(status=status)
        )
        await self.call.write(pb.SubscribeTopicEventsRequestAlpha1(event_processed=request))

    async def ended(self) -> tuple[grpc.StatusCode, str]:
        """Read to the end; the status."""
        async with asyncio.timeout(DEADLINE):
            code = await self.call.code()
            return code, await self.call.details() or ""


class Stage:
    """A running broker and API, and the apps of one test."""

    def __init__(self, broker_url: str, server: GrpcServer, api: GrpcApi, port: int) -> None:
        self.broker_url = broker_url
        self.server = server
        self.api = api
        self.port = port
        self.stack = AsyncExitStack()

    async def channel(self) -> grpc.aio.Channel:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}")
        return await self.stack.enter_async_context(channel)

    async def stub(self) -> Any:
        return DaprStub(await self.channel())  # type: ignore[no-untyped-call]  # generated

    async def stream(
        self, topic: str = "orders", *, token: str | None = None, **initial: Any
    ) -> Stream:
        """An open stream, after its initial response."""
        stream = await self.call(token=token)
        await stream.initial(topic, **initial)
        assert (await stream.read()).HasField("initial_response")
        return stream

    async def call(self, *, token: str | None = None) -> Stream:
        """A stream before its initial request."""
        stub = await self.stub()
        metadata = () if token is None else (("dapr-api-token", token),)
        return Stream(stub.SubscribeTopicEventsAlpha1(metadata=metadata))

    async def publish(self, data: bytes, topic: str = "orders", **fields: Any) -> None:
        stub = await self.stub()
        fields = {"pubsub_name": "pubsub", "data_content_type": "text/plain", **fields}
        metadata = fields.pop("call_metadata", ())
        request = pb.PublishEventRequest(topic=topic, data=data, **fields)
        await stub.PublishEvent(request, metadata=metadata, timeout=DEADLINE)

    async def app(self, app_id: str, **options: Any) -> actorbus.Bus:
        """A WebSocket app."""
        bus = actorbus.connect(self.broker_url, app_id=app_id, **options)
        return await self.stack.enter_async_context(bus)


Script = Callable[[Stage], Awaitable[None]]


@asynccontextmanager
async def staged(config: Mapping[str, Any], door: Mapping[str, Any]) -> AsyncIterator[Stage]:
    broker = Broker(Config(port=0, store="memory:", grace_seconds=0.0, **config))
    url = await broker.start()
    settings = DoorConfig(components={"pubsub": url}, **door)
    buses = Buses(settings)
    publisher, callers = Publisher(buses, settings), Callers(settings)
    api = GrpcApi(publisher, callers, buses, Metadata(settings), settings.retries)
    server = GrpcServer(api)
    stage = Stage(url, server, api, await server.start("127.0.0.1", 0))
    try:
        yield stage
    finally:
        await stage.stack.aclose()
        await server.stop()
        await buses.stop()
        await broker.stop()


def play(
    script: Script,
    *,
    tokens: Tokens | None = None,
    app_id: str | None = "shop",
    retries: Retries | None = None,
    **config: Any,
) -> None:
    """Run a script against a broker and an API of its own; nothing may be logged as an error."""

    door = {"tokens": tokens, "app_id": app_id, "retries": lambda component, app: retries}

    async def run() -> None:
        async with asyncio.timeout(SCRIPT_DEADLINE), staged(config, door) as stage:
            await script(stage)

    with structlog.testing.capture_logs() as entries:
        uvloop.run(run())
    assert not [one for one in entries if one["log_level"] == "error" or "exc_info" in one]
