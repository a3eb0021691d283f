"""Streaming subscriptions of the synchronous client; argv: the prefix of its topics."""

import sys
import threading
from typing import Any

from dapr.clients import DaprClient
from dapr.clients.grpc._response import TopicEventResponse

from tests.dapr.apps.report import say, take_message
from tests.dapr.apps.topics import TOPICS


def handler(topic: str) -> Any:
    """What the SDK calls with each message of a topic."""

    def handle(message: Any) -> TopicEventResponse:
        return TopicEventResponse(take_message(topic, message).lower())

    return handle


def iterate(client: DaprClient, name: str, topic: str) -> None:
    """The other way to take messages: an iterator, and answers by hand."""
    subscription: Any = client.subscribe("pubsub", name)  # its methods have no types
    answers = {
        "SUCCESS": subscription.respond_success,
        "RETRY": subscription.respond_retry,
        "DROP": subscription.respond_drop,
    }
    say(subscribed=topic)
    for message in subscription:
        if message is not None:
            answers[take_message(topic, message)](message)


client = DaprClient()
prefix = sys.argv[1]
for topic, options in TOPICS.items():
    client.subscribe_with_handler(
        "pubsub",
        f"{prefix}-{topic}",
        handler(topic),
        options.stream_metadata,  # type: ignore[arg-type]  # it takes a dict, whatever it says
        options.dead_letter_topic and f"{prefix}-{options.dead_letter_topic}",
    )
threading.Thread(
    target=iterate, args=(client, f"{prefix}-iterated", "iterated"), daemon=True
).start()
say(ready=True)
