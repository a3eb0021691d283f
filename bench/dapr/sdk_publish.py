"""Dapr's Python SDK: `publish_event` in a loop; argv: seconds, bytes of data. Prints the rate."""

import sys
import time

from dapr.clients import DaprClient

from bench.dapr.options import TOPIC, WARMUP_SHARE


def main(seconds: float, payload: int) -> float:
    """Events per second after the warm-up."""
    data = "x" * payload
    with DaprClient() as client:

        def loop(until: float) -> int:
            published = 0
            while time.perf_counter() < until:
                client.publish_event("pubsub", TOPIC, data, data_content_type="text/plain")
                published += 1
            return published

        loop(time.perf_counter() + seconds * WARMUP_SHARE)
        begun = time.perf_counter()
        published = loop(begun + seconds)
        return published / (time.perf_counter() - begun)


if __name__ == "__main__":
    print(main(float(sys.argv[1]), int(sys.argv[2])), flush=True)
