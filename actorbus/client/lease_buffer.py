"""Deliveries that wait in the client for the app, and when their leases must be renewed.

Pure: the time is an argument, and what is to be sent is returned.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from actorbus.client.delivery import Delivery

RENEW_AT: Final = 0.5
"""Leases are renewed after this share: a lost or late renewal can still be made up for."""

FRESH: Final = 0.125
"""An older lease is renewed as it is handed over, so that the app gets all of its `ack_wait`."""


class Grant:
    """The leases of one `deliver` frame that are still in the buffer.

    Attributes:
        deliveries: newest first, so that the oldest is popped.
        lease: seconds that a lease lasts.
        renewed: when the leases began, or were last renewed.
    """

    __slots__ = ("deliveries", "lease", "renewed")

    def __init__(self, deliveries: list[Delivery], lease: float, now: float) -> None:
        self.deliveries = deliveries
        self.lease = lease
        self.renewed = now

    def due(self) -> float:
        """When to renew."""
        return self.renewed + self.lease * RENEW_AT

    def expired(self, now: float) -> bool:
        """The leases have run out unless the broker's clock is late.

        So it is when the event loop stood still for long: a renewal would come too late, and the
        events are under way to someone already.
        """
        return now >= self.renewed + self.lease


class LeaseBuffer:
    """The buffer of one subscription, oldest delivery first.

    Attributes:
        aged: seconds to renew the lease by that `take` has just handed over; 0 if it was fresh.
    """

    def __init__(self) -> None:
        self.aged = 0.0
        self._grants: deque[Grant] = deque()

    def __len__(self) -> int:
        return sum(len(grant.deliveries) for grant in self._grants)

    def add(self, deliveries: Sequence[Delivery], lease: float, now: float) -> None:
        """Take the deliveries of one frame, in their order, with the seconds of their leases."""
        self._grants.append(Grant([*reversed(deliveries)], lease, now))

    def take(self, now: float) -> Delivery | None:
        """The next delivery whose lease is held; None if there is none."""
        grants = self._grants
        while grants:
            grant = grants[0]
            while grant.deliveries and not grant.expired(now):
                delivery = grant.deliveries.pop()
                if not delivery.lost:
                    self.aged = grant.lease if now - grant.renewed > grant.lease * FRESH else 0.0
                    return delivery
            grants.popleft()
        return None

    def take_all(self) -> list[Delivery]:
        """Empty the buffer: what it held with leases not lost."""
        held = [d for grant in self._grants for d in reversed(grant.deliveries) if not d.lost]
        self._grants.clear()
        return held

    def next_due(self) -> float | None:
        """When the next renewal is due; None if nothing waits."""
        return min((grant.due() for grant in self._grants if grant.deliveries), default=None)

    def renew(self, now: float) -> dict[float, list[Delivery]]:
        """What is due now, by the seconds of its lease; it counts as renewed.

        What is beyond renewing is discarded.
        """
        due: dict[float, list[Delivery]] = {}
        for grant in self._grants:
            if grant.expired(now):
                grant.deliveries.clear()
            elif grant.deliveries and grant.due() <= now:
                grant.deliveries = [d for d in grant.deliveries if not d.lost]
                due.setdefault(grant.lease, []).extend(reversed(grant.deliveries))
                grant.renewed = now
        return due
