"""Streams of `serve`, as a process of its own."""

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from dapr.proto.runtime.v1 import pubsub_pb2 as pb
from dapr.proto.runtime.v1.appcallback_pb2 import TopicEventRequest, TopicEventResponse
from dapr.proto.runtime.v1.dapr_pb2_grpc import DaprStub

from tests.transport.dapr.resources.kit import component_text
from tests.transport.test_cli_serve import DEADLINE, listening, serving

DOOR = ("--store", "memory:", "--dapr-grpc-port", "0", "--app-id", "shop")

RESILIENCY = """
kind: Resiliency
apiVersion: dapr.io/v1alpha1
metadata: {name: calm}
spec:
  policies:
    retries:
      often: {policy: constant, duration: 10ms, maxRetries: 1}
  targets:
    components:
      orders: {inbound: {retry: often}}
"""


class Stream:
    """A subscription to the component `orders`, as a blocking SDK makes it."""

    def __init__(self, stub: Any, topic: str, dead_letter_topic: str = "") -> None:
        self._requests: queue.Queue[pb.SubscribeTopicEventsRequestAlpha1] = queue.Queue()
        initial = pb.SubscribeTopicEventsRequestInitialAlpha1(
            pubsub_name="orders", topic=topic, dead_letter_topic=dead_letter_topic
        )
        self._requests.put(pb.SubscribeTopicEventsRequestAlpha1(initial_request=initial))
        requests: Iterator[Any] = iter(self._requests.get, None)
        self.call = stub.SubscribeTopicEventsAlpha1(requests, timeout=DEADLINE)
        next(self.call)

    def event(self) -> TopicEventRequest:
        event: TopicEventRequest = next(self.call).event_message
        return event

    def retry(self, event: TopicEventRequest) -> None:
        status = TopicEventResponse(status=TopicEventResponse.RETRY)
        processed = pb.SubscribeTopicEventsRequestProcessedAlpha1(id=event.id, status=status)
        self._requests.put(pb.SubscribeTopicEventsRequestAlpha1(event_processed=processed))

    def close(self) -> None:
        self.call.cancel()
        self._requests.put(None)  # type: ignore[arg-type]  # what ends the iterator


def test_a_resiliency_file_counts_for_streams(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(component_text("pubsub.in-memory"))
    (tmp_path / "b.yaml").write_text(RESILIENCY)
    with serving(*DOOR, "--resources-path", str(tmp_path)) as process:
        listening(process)
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("dapr grpc listening on ").strip()
        with grpc.insecure_channel(address) as channel:
            stub: Any = DaprStub(channel)  # type: ignore[no-untyped-call]  # generated
            stream, dead = Stream(stub, "new", "dead"), Stream(stub, "dead")
            request = pb.PublishEventRequest(pubsub_name="orders", topic="new", data=b"x")
            stub.PublishEvent(request, timeout=DEADLINE)
            for _ in range(2):  # the first delivery, and one retry
                stream.retry(stream.event())
            assert dead.event().extensions["deadletterattempts"] == 2
            stream.close()
            dead.close()
