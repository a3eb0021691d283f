"""Publishes what it is told on stdin, with the asynchronous client."""

import asyncio
import json
import sys
from typing import Any

from dapr.aio.clients import DaprClient
from dapr.clients.exceptions import DaprGrpcError

from tests.dapr.apps.calls import publish_arguments, refused
from tests.dapr.apps.report import say


async def call(client: DaprClient, order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order."""
    if order["do"] == "metadata":
        return {"id": (await client.get_metadata()).application_id}
    if order["do"] == "bulk":
        failed = (await client.publish_events(**publish_arguments(order))).failed_entries
        return {"failed": {one.entry_id: one.error for one in failed}}
    await client.publish_event(**publish_arguments(order))
    return {}


async def main() -> None:
    """Until stdin ends."""
    async with DaprClient() as client:
        say(ready=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            try:
                say(done=await call(client, json.loads(line)))
            except DaprGrpcError as error:
                say(done=refused(error))


asyncio.run(main())
