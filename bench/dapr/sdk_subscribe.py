"""Dapr's Python SDK: one streaming subscriber; argv: events. Prints the rate at which they come."""

import os
import queue
import sys
import time
from typing import Any

from dapr.clients import DaprClient
from dapr.clients.grpc._response import TopicEventResponse

from bench.dapr.options import STREAM_TOPIC, WARMUP_SHARE

PATIENCE_SECONDS = 120.0
"""How long the first part of the events may take, and the rest."""


def main(events: int) -> float:
    """Events per second after the warm-up."""
    skipped = int(events * WARMUP_SHARE)
    times: queue.SimpleQueue[float] = queue.SimpleQueue()
    success = TopicEventResponse("success")
    taken = 0

    def handle(_message: Any) -> TopicEventResponse:
        nonlocal taken
        taken += 1
        if taken in (skipped, events):
            times.put(time.perf_counter())
        return success

    client = DaprClient()
    client.subscribe_with_handler("pubsub", STREAM_TOPIC, handle)
    begun, ended = (times.get(timeout=PATIENCE_SECONDS) for _ in range(2))
    return (events - skipped) / (ended - begun)


if __name__ == "__main__":
    print(main(int(sys.argv[1])), flush=True)
    os._exit(0)  # the SDK's thread does not end while a stream has events
