"""A Flask app with `dapr.ext.flask`; argv: the prefix of its topics."""

import os
import sys
from collections.abc import Callable

from dapr.ext.flask import DaprApp
from flask import Flask, request

from tests.dapr.apps.report import take_envelope
from tests.dapr.apps.topics import TOPICS

app = Flask("actorbus-tests")
dapr_app = DaprApp(app)


def handler(topic: str) -> Callable[[], dict[str, str]]:
    """The route of a topic."""

    def handle() -> dict[str, str]:
        return {"status": take_envelope(topic, request.get_json())}

    return handle


prefix = sys.argv[1]
for topic, options in TOPICS.items():
    dapr_app.subscribe(
        pubsub="pubsub",
        topic=f"{prefix}-{topic}",
        metadata=options.metadata,
        dead_letter_topic=options.dead_letter_topic and f"{prefix}-{options.dead_letter_topic}",
    )(handler(topic))

app.run(host="127.0.0.1", port=int(os.environ["APP_PORT"]), threaded=True)
