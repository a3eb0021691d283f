"""A Dapr API that does nothing.

Every publish is answered at once, and a stream has events without end, as many in flight as the
door has; argv: how many bytes of data they have. So what an SDK reaches with it is the most that it
reaches with any server in Python.
"""

import asyncio
import signal
import sys
from typing import Any

import grpc
import uvloop
from dapr.proto.runtime.v1 import pubsub_pb2 as pb
from dapr.proto.runtime.v1.appcallback_pb2 import TopicEventRequest
from dapr.proto.runtime.v1.dapr_pb2_grpc import DaprServicer, add_DaprServicer_to_server
from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct

from bench.dapr.empty_http import empty
from transport.dapr.http_server import HttpServer
from transport.dapr.streams import WINDOW

_INITIAL = pb.SubscribeTopicEventsResponseAlpha1(
    initial_response=pb.SubscribeTopicEventsResponseInitialAlpha1()
)


def event(number: int, data: bytes) -> pb.SubscribeTopicEventsResponseAlpha1:
    """A message with the fields that the door's have."""
    names = ("pubsubname", "topic", "traceid", "traceparent", "tracestate", "time")
    extensions = Struct()
    extensions.update(dict.fromkeys(names, "2026-01-01T00:00:00Z"))
    message = TopicEventRequest(
        id=f"7c3d3a3e-0000-4000-8000-{number:012}",
        source="bench",
        type="com.dapr.event.sent",
        spec_version="0.3",
        data_content_type="text/plain",
        topic="bench",
        pubsub_name="pubsub",
        path="/",
        data=data,
        extensions=extensions,
    )
    return pb.SubscribeTopicEventsResponseAlpha1(event_message=message)


class Nothing(DaprServicer):
    """The servicer."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def PublishEvent(self, _request: Any, _context: Any) -> Empty:  # noqa: N802 - gRPC's name
        """Answer."""
        return Empty()

    async def SubscribeTopicEventsAlpha1(  # noqa: N802 - gRPC's name
        self, _requests: Any, context: Any
    ) -> None:
        """Send an event for each that is answered."""
        await context.read()
        await context.write(_INITIAL)
        number = 0
        for number in range(WINDOW):
            await context.write(event(number, self._data))
        while await context.read() is not grpc.aio.EOF:
            number += 1
            await context.write(event(number, self._data))


async def _main(payload: int) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_DaprServicer_to_server(Nothing(b"x" * payload), server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    http = HttpServer(empty)
    print(f"dapr http listening on 127.0.0.1:{await http.start('127.0.0.1', 0)}", flush=True)
    print(f"dapr grpc listening on 127.0.0.1:{port}", flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(0)
    await http.stop()


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1])))
