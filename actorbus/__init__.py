"""actorbus: publish events to topics and subscribe to them, over a broker's WebSocket.

    import actorbus

    async with actorbus.connect("ws://localhost:8090/v1", app_id="billing") as bus:
        event_id = await bus.publish("orders", {"n": 1})
        async with bus.subscribe("orders", ack_wait=30, max_attempts=5) as deliveries:
            async for delivery in deliveries:
                print(delivery.event["id"], delivery.data, delivery.attempt)
                await delivery.ack()

The library logs by structlog under the name "actorbus". Tests of an app start a broker of their
own with `actorbus.testing.TestBroker`.
"""

from actorbus.client.bus import Bus, PartlyPublishedError, connect
from actorbus.client.delivery import Delivery
from actorbus.client.subscription import Subscription
from actorbus.errors import (
    ActorbusError,
    ConnectionLostError,
    ErrorCode,
    InvalidEventError,
    RefusedError,
    UnavailableError,
)
from actorbus.frame_types import GroupStatus, TopicStatus
from actorbus.version import VERSION

__all__ = [
    "VERSION",
    "ActorbusError",
    "Bus",
    "ConnectionLostError",
    "Delivery",
    "ErrorCode",
    "GroupStatus",
    "InvalidEventError",
    "PartlyPublishedError",
    "RefusedError",
    "Subscription",
    "TopicStatus",
    "UnavailableError",
    "connect",
]
