"""Publishes what it is told on stdin, with the synchronous client."""

import json
import sys
from typing import Any

from dapr.clients import DaprClient
from dapr.clients.exceptions import DaprGrpcError

from tests.dapr.apps.calls import publish_arguments, refused
from tests.dapr.apps.report import say


def call(client: DaprClient, order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order."""
    if order["do"] == "metadata":
        return {"id": client.get_metadata().application_id}
    if order["do"] == "bulk":
        failed = client.publish_events(**publish_arguments(order)).failed_entries
        return {"failed": {one.entry_id: one.error for one in failed}}
    client.publish_event(**publish_arguments(order))
    return {}


with DaprClient() as client:
    say(ready=True)
    for line in sys.stdin:
        try:
            say(done=call(client, json.loads(line)))
        except DaprGrpcError as error:
            say(done=refused(error))
