"""A stream of the gRPC API by hand: the test decides when an event is answered, and how."""

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

import grpc
from dapr.proto.runtime.v1 import pubsub_pb2 as pb
from dapr.proto.runtime.v1.appcallback_pb2 import TopicEventRequest, TopicEventResponse
from dapr.proto.runtime.v1.dapr_pb2_grpc import DaprStub

from tests.dapr.kit import DEADLINE

SUCCESS = TopicEventResponse.SUCCESS
RETRY = TopicEventResponse.RETRY


class GrpcStream:
    """One subscription; open when made.

    Args:
        address: of the gRPC API.
        topic: what is subscribed to.
    """

    def __init__(self, address: str, topic: str) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[TopicEventRequest] = queue.SimpleQueue()
        self._channel = grpc.insecure_channel(address)
        initial = pb.SubscribeTopicEventsRequestInitialAlpha1(pubsub_name="pubsub", topic=topic)
        self._requests.put(pb.SubscribeTopicEventsRequestAlpha1(initial_request=initial))
        stub = DaprStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self._call = stub.SubscribeTopicEventsAlpha1(iter(self._requests.get, None))
        assert next(self._call).HasField("initial_response")
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def event(self) -> TopicEventRequest:
        """The next one; it is not answered."""
        return self._events.get(timeout=DEADLINE)

    def answer(self, event_id: str, status: Any = SUCCESS) -> None:
        """Settle an event."""
        request = pb.SubscribeTopicEventsRequestProcessedAlpha1(
            id=event_id, status=TopicEventResponse(status=status)
        )
        self._requests.put(pb.SubscribeTopicEventsRequestAlpha1(event_processed=request))

    def take(self) -> Iterator[str]:
        """Data of the events, each answered with success."""
        while True:
            event = self.event()
            self.answer(event.id)
            yield event.data.decode()

    def empty(self) -> bool:
        """Whether nothing has come that was not read."""
        return self._events.empty()

    def cancel(self) -> None:
        """End the subscription; its group stays."""
        self._call.cancel()
        self._reading.join(DEADLINE)
        self._channel.close()

    def _read(self) -> None:
        with contextlib.suppress(grpc.RpcError):  # it was cancelled, or the broker has stopped
            for response in self._call:
                self._events.put(response.event_message)
