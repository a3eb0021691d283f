"""What an app's answer to an event means for its group: acknowledge, deliver again, or give up.

As in Dapr, the first failure sends an event to the dead-letter topic where one is set and no retry
policy says otherwise. That counts answers only. A stream or connection that breaks, or a deadline
that passes, blames every event in flight; those are delivered again, up to `UNANSWERED_ATTEMPTS`.
"""

from typing import Final, Literal

import msgspec

from actorbus import Delivery
from actorbus.client.subscribe_options import Options

Status = Literal["SUCCESS", "RETRY", "DROP"]

UNANSWERED_ATTEMPTS: Final = 10
"""Deliveries of an event that ends without an answer, before it goes to the dead-letter topic."""


class Retries(msgspec.Struct, frozen=True):
    """A retry policy of Dapr's resiliency.

    Attributes:
        attempts: deliveries in all, the first included; 0: without end.
        backoff: seconds before the first redelivery.
        max_backoff: the longest such delay.
    """

    attempts: int
    backoff: float
    max_backoff: float


class Policy(msgspec.Struct, frozen=True):
    """How the events of one subscription are settled.

    Attributes:
        dead_letter_topic: where an event goes that failed; None: nowhere, it comes again.
        retries: the policy that applies, if any.
        ack_wait: seconds that the app has for an event; None: as the group has it.
    """

    dead_letter_topic: str | None = None
    retries: Retries | None = None
    ack_wait: float | None = None

    def options(self) -> Options:
        """The group's options. Without a dead-letter topic no event is ever given up."""
        options = Options(dead_letter_topic=self.dead_letter_topic, max_attempts=None)
        if self.retries is not None:
            options["backoff"] = self.retries.backoff
            options["max_backoff"] = self.retries.max_backoff
        if self.dead_letter_topic is not None:
            options["max_attempts"] = (
                UNANSWERED_ATTEMPTS if self.retries is None else self.retries.attempts
            )
        if self.ack_wait is not None:
            options["ack_wait"] = self.ack_wait
        return options


async def settle(delivery: Delivery, status: Status, policy: Policy) -> bool:
    """Pass an app's answer on; False if the lease was lost, so that the event may come again."""
    if status == "SUCCESS":
        return await delivery.ack()
    if status == "DROP":
        return await delivery.drop("dropped by the app")
    if policy.dead_letter_topic is not None and policy.retries is None:
        return await delivery.drop("failed, and no retry policy is set")
    return await delivery.retry()
