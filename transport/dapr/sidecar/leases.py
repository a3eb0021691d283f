"""Keeps the leases of events that the app has not answered yet."""

import asyncio
from collections.abc import Iterable
from typing import Final

from actorbus import Delivery

RENEWALS: Final = 4
"""Leases are renewed so often within `ack_wait`: two renewals may be lost or late."""


class Leases:
    """The leases of one subscription. Their end is the end of `app.HANDLING_SECONDS`.

    Args:
        ack_wait: seconds that each renewal is good for.
    """

    def __init__(self, ack_wait: float) -> None:
        self._ack_wait = ack_wait
        self._held: set[Delivery] = set()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, deliveries: Iterable[Delivery]) -> None:
        """Keep these from now on."""
        self._held.update(deliveries)

    def release(self, deliveries: Iterable[Delivery]) -> None:
        """Keep these no longer."""
        self._held.difference_update(deliveries)

    async def run(self) -> None:
        """Renew for ever."""
        while True:
            await asyncio.sleep(self._ack_wait / RENEWALS)
            for delivery in [*self._held]:
                await delivery.extend(self._ack_wait)
