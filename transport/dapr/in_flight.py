"""The events of one stream that are not settled yet, and when each must be. Pure.

An app may take one event after the other, so a deadline for each since it was sent would pass for
those that wait in the app's own buffer. The deadline here asks for progress instead:

- the oldest event must be settled within `ack_wait` of becoming the oldest;
- any other within `ack_wait` of being sent and of the last event that the stream settled.

So a serial handler has `ack_wait` for each event, however many wait behind it; an app that has lost
one event of many gets that one again; and one that no longer answers loses them all.

Acknowledgements name an event by its id. A second event of the same id is held until the first is
settled, so each acknowledgement means one event.
"""

from collections import deque
from typing import Final, Generic, Protocol, TypeVar

import msgspec

RENEWALS: Final = 4
"""Leases are renewed so often within `ack_wait`: two renewals may be lost or late."""


class Lease(Protocol):
    """What is known of a delivery's lease."""

    @property
    def lost(self) -> bool:
        """It is over: settling it would change nothing."""


D = TypeVar("D", bound=Lease)
M = TypeVar("M")


class Item(Generic[D, M]):
    """One event on its way through the app.

    Attributes:
        event_id: what an acknowledgement names.
        delivery: the lease.
        message: what is sent.
        taken: when it came.
        sent: it was handed out to be sent; until then it is held.
        gone: it is in flight no more.
    """

    __slots__ = ("delivery", "event_id", "gone", "message", "sent", "taken")

    def __init__(self, event_id: str, delivery: D, message: M, taken: float) -> None:
        self.event_id = event_id
        self.delivery = delivery
        self.message = message
        self.taken = taken
        self.sent = False
        self.gone = False


class Look(msgspec.Struct, Generic[D, M], frozen=True):
    """What `InFlight.look` found.

    Attributes:
        renew: leases to renew for another `ack_wait`.
        late: events past their deadline; they are in flight no more.
        send: events that were held and may be sent now.
        again: when to look next.
    """

    renew: list[Item[D, M]]
    late: list[Item[D, M]]
    send: list[Item[D, M]]
    again: float


class InFlight(Generic[D, M]):
    """The events of one stream. Times are seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self._line: dict[Item[D, M], None] = {}
        self._by_id: dict[str, deque[Item[D, M]]] = {}
        self._oldest_since = 0.0
        self._settled = 0.0

    def __len__(self) -> int:
        return len(self._line)

    @property
    def oldest(self) -> Item[D, M] | None:
        """The one that has been in flight for the longest time."""
        return next(iter(self._line), None)

    def add(self, item: Item[D, M]) -> Item[D, M] | None:
        """Take an event; returns the one of its id that is to be sent now, if any."""
        for earlier in [*self._by_id.get(item.event_id, ())]:
            if earlier.delivery.lost:  # it comes again, perhaps as this very item
                self._remove(earlier, item.taken)
        if not self._line:
            self._oldest_since = item.taken
        self._line[item] = None
        self._by_id.setdefault(item.event_id, deque()).append(item)
        return self._next(item.event_id)

    def settle(self, event_id: str, now: float) -> tuple[Item[D, M] | None, Item[D, M] | None]:
        """The app has settled an event.

        Returns: the event (None: none of this id is in flight), and one to send now that was held.
        """
        same = self._by_id.get(event_id)
        if not same:
            return None, None
        item = same[0]
        self._settled = now
        self._remove(item, now)
        return item, self._next(event_id)

    def look(self, now: float, ack_wait: float) -> Look[D, M]:
        """Find out whose lease to renew, and who is late."""
        renew: list[Item[D, M]] = []
        late: list[Item[D, M]] = []
        again = now + ack_wait / RENEWALS
        oldest = self.oldest
        for item in self._line:
            begun = self._oldest_since if item is oldest else max(item.taken, self._settled)
            if item.delivery.lost or begun + ack_wait <= now:
                late.append(item)
            else:
                renew.append(item)
                again = min(again, begun + ack_wait)
        for item in late:
            self._remove(item, now)
        send = [self._next(event_id) for event_id in {item.event_id: None for item in late}]
        return Look(renew, late, [item for item in send if item is not None], again)

    def _next(self, event_id: str) -> Item[D, M] | None:
        """The first event of this id, unless it was sent."""
        same = self._by_id.get(event_id)
        if not same or same[0].sent:
            return None
        same[0].sent = True
        return same[0]

    def _remove(self, item: Item[D, M], now: float) -> None:
        """Forget an event; who comes after the oldest is the oldest from now on."""
        if item is self.oldest:
            self._oldest_since = now
        del self._line[item]
        item.gone = True
        same = self._by_id[item.event_id]
        same.remove(item)
        if not same:
            del self._by_id[item.event_id]
