"""A gRPC app with `dapr.ext.grpc`; argv: the prefix of its topics."""

import os
import sys
from collections.abc import Callable

from dapr.clients.grpc._response import TopicEventResponse
from dapr.ext.grpc import App, SubscriptionMessage

from tests.dapr.apps.report import take_message
from tests.dapr.apps.topics import TOPICS

app = App()


def handler(topic: str) -> Callable[[SubscriptionMessage], TopicEventResponse]:
    """The method of a topic."""

    def handle(message: SubscriptionMessage) -> TopicEventResponse:
        return TopicEventResponse(take_message(topic, message).lower())

    return handle


prefix = sys.argv[1]
for topic, options in TOPICS.items():
    app.subscribe(
        pubsub_name="pubsub",
        topic=f"{prefix}-{topic}",
        metadata=options.metadata,
        dead_letter_topic=options.dead_letter_topic and f"{prefix}-{options.dead_letter_topic}",
    )(handler(topic))

app.run(int(os.environ["APP_PORT"]))
