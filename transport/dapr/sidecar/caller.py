"""Calls the app, no more at a time than it takes, and waits for it while it is away."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import Final, TypeVar

from actorbus import Delivery
from transport.dapr.sidecar.app import App, AppAwayError
from transport.dapr.sidecar.presence import Presence

HOLD_SECONDS: Final = 30.0
"""How long events are kept for an app that is away, before its other instances may have them."""

Answer = TypeVar("Answer")


class Caller:
    """The app, as all its subscriptions share it.

    Args:
        app: what is called.
        presence: whether it listens.
        max_concurrency: calls at a time, over all subscriptions; None: as many as there are.
        hold: seconds; see `HOLD_SECONDS`.
    """

    def __init__(
        self,
        app: App,
        presence: Presence,
        max_concurrency: int | None = None,
        *,
        hold: float,
    ) -> None:
        self.app = app
        self.presence = presence
        self.max_concurrency = max_concurrency
        self._slots = (
            nullcontext() if max_concurrency is None else asyncio.Semaphore(max_concurrency)
        )
        self._hold = hold

    async def call(
        self, deliveries: Sequence[Delivery], ask: Callable[[], Awaitable[Answer]], *, last: bool
    ) -> Answer | None:
        """Call the app about these events.

        Args:
            deliveries: not called for any more once all their leases are lost.
            ask: the call.
            last: it is some event's last attempt, so the app is waited for without end: giving the
                event back would be giving it up, and nobody would have seen it.

        Returns: its answer; None if it is away for long, or no event is left.

        Raises:
            NoAnswerError: the call was begun and not answered.
        """
        while not all(delivery.lost for delivery in deliveries):
            async with self._slots:
                if self.presence.here and not all(delivery.lost for delivery in deliveries):
                    try:
                        return await ask()
                    except AppAwayError:
                        self.presence.lost()
            if not await self.presence.back(self._hold) and not last:
                return None
        return None
