"""Events on their way to an app that speaks gRPC."""

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from dapr.proto.runtime.v1.appcallback_pb2 import (
    BulkSubscribeConfig,
    ListTopicSubscriptionsResponse,
    TopicEventBulkRequest,
    TopicEventBulkResponse,
    TopicEventBulkResponseEntry,
    TopicEventRequest,
    TopicEventResponse,
    TopicRoutes,
    TopicSubscription,
)
from google.protobuf.empty_pb2 import Empty

from tests.transport.dapr.sidecar.kit import DEADLINE, WINDOW_OF_NONE, Stage, play
from tests.transport.dapr.sidecar.test_push_http import FAST

SERVICE = "dapr.proto.runtime.v1.AppCallback"
ALPHA = "dapr.proto.runtime.v1.AppCallbackAlpha"
ORDERS = TopicSubscription(
    pubsub_name="pubsub", topic="orders", routes=TopicRoutes(default="/take")
)
BULK = TopicSubscription(
    pubsub_name="pubsub",
    topic="orders",
    bulk_subscribe=BulkSubscribeConfig(
        enabled=True, max_messages_count=2, max_await_duration_ms=60_000
    ),
)
SUCCESS = TopicEventResponse.SUCCESS


class GrpcApp:
    """An app with those methods that a test gives it. Attributes: calls: requests and metadata."""

    def __init__(self, methods: Mapping[str, Any], subscriptions: Any) -> None:
        self.calls: asyncio.Queue[tuple[Any, dict[str, Any]]] = asyncio.Queue()
        self._methods = dict(methods)
        if subscriptions is not None:
            answer = ListTopicSubscriptionsResponse(subscriptions=subscriptions)
            self._methods[f"{SERVICE}/ListTopicSubscriptions"] = answer
        self._server: Any = None

    async def start(self, port: int = 0) -> int:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self._Handlers(self),))
        bound: int = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        return bound

    async def stop(self) -> None:
        await self._server.stop(None)

    async def call(self) -> tuple[Any, dict[str, Any]]:
        async with asyncio.timeout(DEADLINE):
            return await self.calls.get()

    async def idle(self) -> None:
        await asyncio.sleep(WINDOW_OF_NONE)
        assert self.calls.empty()

    class _Handlers(grpc.GenericRpcHandler):
        def __init__(self, app: "GrpcApp") -> None:
            self._app = app

        def service(self, details: Any) -> Any:
            name = details.method.lstrip("/")
            answer = self._app._methods.get(name)
            if answer is None:
                return None
            request_type: Any = {
                f"{SERVICE}/ListTopicSubscriptions": Empty,
                f"{SERVICE}/OnTopicEvent": TopicEventRequest,
            }.get(name, TopicEventBulkRequest)

            async def handle(request: Any, context: Any) -> Any:
                if not isinstance(request, Empty):
                    metadata = {**dict(context.invocation_metadata()), "method": name}
                    self._app.calls.put_nowait((request, metadata))
                found = answer(request) if callable(answer) else answer
                if isinstance(found, grpc.StatusCode):
                    await context.abort(found, "no")
                return found

            return grpc.unary_unary_rpc_method_handler(
                handle,
                request_deserializer=request_type.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )


async def started(stage: Stage, methods: Mapping[str, Any], subscriptions: Any) -> GrpcApp:
    app = GrpcApp(methods, subscriptions)
    stage.port = await app.start()
    stage.stack.push_async_callback(app.stop)
    return app


def test_an_event_is_given_as_dapr_does() -> None:
    async def script(stage: Stage) -> None:
        methods = {f"{SERVICE}/OnTopicEvent": TopicEventResponse(status=SUCCESS)}
        app = await started(stage, methods, [ORDERS])
        await stage.sidecar(app_protocol="grpc", app_token="secret")
        bus = await stage.bus()
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        event_id = await bus.publish("orders", {"n": 1}, attributes={"traceparent": parent})
        request, metadata = await app.call()
        assert (request.id, request.topic, request.pubsub_name) == (event_id, "orders", "pubsub")
        assert (request.path, request.data) == ("/take", b'{"n":1}')
        assert metadata["dapr-api-token"] == "secret"
        assert metadata["traceparent"] == parent
        assert (await stage.settled()).redelivered == 0

    play(script)


@pytest.mark.parametrize("failure", [TopicEventResponse.RETRY, grpc.StatusCode.UNKNOWN])
def test_a_failure_comes_again(failure: Any) -> None:
    async def script(stage: Stage) -> None:
        def handle(_: TopicEventRequest) -> Any:
            if app.calls.qsize() < 3:
                refused = isinstance(failure, grpc.StatusCode)
                return failure if refused else TopicEventResponse(status=failure)
            return TopicEventResponse(status=SUCCESS)

        app = await started(stage, {f"{SERVICE}/OnTopicEvent": handle}, [ORDERS])
        await stage.sidecar(FAST, app_protocol="grpc")
        await stage.publish("a")
        assert (await stage.settled()).redelivered == 2
        assert app.calls.qsize() == 3

    play(script)


@pytest.mark.parametrize("has_method", [True, False])
def test_drop_and_a_missing_method_are_the_end(*, has_method: bool) -> None:
    async def script(stage: Stage) -> None:
        drop = TopicEventResponse(status=TopicEventResponse.DROP)
        methods = {f"{SERVICE}/OnTopicEvent": drop} if has_method else {}
        await started(stage, methods, [ORDERS])
        await stage.sidecar(app_protocol="grpc")
        await stage.publish("a")
        assert (await stage.settled()).dropped == 1

    play(script)


def test_an_app_without_subscriptions_is_none_the_worse() -> None:
    async def script(stage: Stage) -> None:
        await started(stage, {}, None)
        await stage.sidecar(app_protocol="grpc")
        assert stage.count == 0

    play(script)


@pytest.mark.parametrize(
    "method", [f"{SERVICE}/OnBulkTopicEvent", f"{ALPHA}/OnBulkTopicEventAlpha1"]
)
def test_bulk_events_go_to_the_method_that_the_app_has(method: str) -> None:
    def handle(request: TopicEventBulkRequest) -> TopicEventBulkResponse:
        return TopicEventBulkResponse(
            statuses=[
                TopicEventBulkResponseEntry(entry_id=one.entry_id, status=SUCCESS)
                for one in request.entries
            ]
        )

    async def script(stage: Stage) -> None:
        app = await started(stage, {method: handle}, [BULK])
        await stage.sidecar(app_protocol="grpc")
        await stage.publish(1, 2, 3, 4)
        calls = [await app.call() for _ in range(2)]
        assert {metadata["method"] for _, metadata in calls} == {method}
        data = [one.cloud_event.data for request, _ in calls for one in request.entries]
        assert sorted(data) == [b"1", b"2", b"3", b"4"]
        assert (await stage.settled()).redelivered == 0

    play(script)


def test_events_go_on_over_a_restart_of_the_app() -> None:
    async def script(stage: Stage) -> None:
        methods = {f"{SERVICE}/OnTopicEvent": TopicEventResponse(status=SUCCESS)}
        app = await started(stage, methods, [ORDERS])
        await stage.sidecar(app_protocol="grpc")
        await stage.publish("before")
        await app.call()
        await stage.settled()
        await app.stop()
        await stage.publish(*range(20))
        await asyncio.sleep(0.3)
        await app.start(stage.port)
        found = [(await app.call())[0].data for _ in range(20)]
        assert sorted(map(int, found)) == [*range(20)]
        assert (await stage.settled()).redelivered == 0

    play(script)
