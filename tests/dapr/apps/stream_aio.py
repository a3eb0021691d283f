"""Streaming subscriptions of the asynchronous client; argv: the prefix of its topics."""

import asyncio
import sys
from typing import Any

from dapr.aio.clients import DaprClient
from dapr.clients.grpc._response import TopicEventResponse

from tests.dapr.apps.report import say, take_message
from tests.dapr.apps.topics import TOPICS


def handler(topic: str) -> Any:
    """What the SDK calls with each message of a topic."""

    async def handle(message: Any) -> TopicEventResponse:
        return TopicEventResponse(take_message(topic, message).lower())

    return handle


async def main(prefix: str) -> None:
    """Until the process is ended."""
    async with DaprClient() as client:
        for topic, options in TOPICS.items():
            await client.subscribe_with_handler(
                "pubsub",
                f"{prefix}-{topic}",
                handler(topic),
                options.stream_metadata,
                options.dead_letter_topic and f"{prefix}-{options.dead_letter_topic}",
            )
        say(ready=True)
        await asyncio.Event().wait()


asyncio.run(main(sys.argv[1]))
