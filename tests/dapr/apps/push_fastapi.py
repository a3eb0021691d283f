"""A FastAPI app with `dapr.ext.fastapi`; argv: the prefix of its topics."""

import os
import sys
from collections.abc import Callable
from typing import Any

import uvicorn
from dapr.ext.fastapi import DaprApp
from fastapi import Body, FastAPI

from tests.dapr.apps.report import take_envelope
from tests.dapr.apps.topics import TOPICS

app = FastAPI()
dapr_app = DaprApp(app)


def handler(topic: str) -> Callable[..., dict[str, str]]:
    """The route of a topic."""

    def handle(event: dict[str, Any] = Body()) -> dict[str, str]:  # noqa: B008 - FastAPI's way
        return {"status": take_envelope(topic, event)}

    return handle


prefix = sys.argv[1]
for topic, options in TOPICS.items():
    dapr_app.subscribe(
        pubsub="pubsub",
        topic=f"{prefix}-{topic}",
        metadata=options.metadata,
        dead_letter_topic=options.dead_letter_topic and f"{prefix}-{options.dead_letter_topic}",
    )(handler(topic))

uvicorn.run(app, host="127.0.0.1", port=int(os.environ["APP_PORT"]), log_level="warning")
