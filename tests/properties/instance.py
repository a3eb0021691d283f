"""A connected instance: the real delivering half of its actor, and the client behind it."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from actorbus import frames
from actorbus.limits import OUTBOX_BYTES
from actors import messages as msg
from actors.counters import BrokerCounters
from actors.deliveries import Deliveries
from tests.actors.fakes import FakeRef, FakeWire
from tests.properties.model_store import number

TOPIC = "orders"


class Held(msgspec.Struct, frozen=True):
    """One delivery at the client."""

    event: int
    generation: int
    alone: bool


Delivered = Callable[["Instance", msg.Offer, int, int], None]
"""Told of each delivery: the instance, the offer, the event, the attempt."""


class Instance:
    """One connection.

    Attributes:
        inbox: from the group; `out`: to the group, whoever in the broker sends it.
        live: what it holds, by delivery id.
        known: ids it has ever seen.
        asked: ids of the acks that wait for an answer, by ref.
        newest: the largest event that it got as a first attempt.
        awake: it has asked for a turn.
    """

    def __init__(self, member: int, limit: int, delivered: Delivered) -> None:
        self.member = member
        self.counters = BrokerCounters()
        self.wire = FakeWire()
        self.wire.codec = self  # type: ignore[assignment]  # deliveries need no bytes
        self.deliveries = Deliveries(self, limit, member * 1000)  # type: ignore[arg-type]  # all that it uses is here
        self.deliveries.subscribed.add(TOPIC)
        self.inbox: deque[msg.Message] = deque()
        self.out: deque[msg.Message] = deque()
        self.group = FakeRef(self.out.append)
        self.live: dict[int, Held] = {}
        self.known: list[int] = []
        self.asked: dict[int, frozenset[int]] = {}
        self.newest = -1
        self.gone = False
        self.awake = False
        self._delivered = delivered
        self._offer: msg.Offer | None = None
        self._refs = 0

    @property
    def subscribed(self) -> bool:
        """Whether it wants deliveries."""
        return TOPIC in self.deliveries.subscribed

    def busy(self) -> bool:
        """Whether it has something to do."""
        return not self.gone and bool(self.inbox or self.awake)

    # --- a turn -------------------------------------------------------------------------------

    def turn(self, most: int) -> None:
        """Take in up to so many messages, and end the turn as the actor does."""
        self.awake = False
        for _ in range(min(most, len(self.inbox))):
            self._take(self.inbox.popleft())
        self.deliveries.turn_end()

    def _take(self, message: msg.Message) -> None:
        match message:
            case msg.Opened():
                self.deliveries.opened(message)
                self._let_go(lambda held: held.generation < message.generation)
            case msg.GroupDown():
                self.deliveries.down(message.topic)
                self.live.clear()
            case msg.Offer():
                self._offered(message)
            case msg.Revoke():
                self.deliveries.revoked(message)
                lost = set(ids(message.pieces))
                self.live = {at: held for at, held in self.live.items() if at not in lost}
            case msg.Settled():
                self.deliveries.settled(message)

    def _let_go(self, ended: Callable[[Held], bool]) -> None:
        self.live = {at: held for at, held in self.live.items() if not ended(held)}

    def _offered(self, offer: msg.Offer) -> None:
        lonely = any(held.alone for held in self.live.values())
        before = len(self.live)
        self._offer = offer
        self.deliveries.offered(offer)
        took = len(self.live) > before
        assert not (took and lonely), "delivered beside an event that must be alone"
        assert not (took and offer.alone and before), "an event that must be alone is not"
        assert not took or len(self.live) <= self.deliveries.state.window.limit, "window exceeded"

    # --- what the delivering half sees of its actor -------------------------------------------

    def deliver(
        self, topic: str, lease_ms: int, deliveries: Sequence[tuple[int, int, bytes]], limit: int
    ) -> list[bytes]:
        """As a codec: the client has these deliveries."""
        offer = self._offer
        assert offer is not None
        for identifier, attempt, event in deliveries:
            self.live[identifier] = Held(number(event), offer.generation, offer.alone)
            self.known.append(identifier)
            self._delivered(self, offer, number(event), attempt)
        return []

    def send(self, frame: frames.Acked | frames.Extended) -> None:
        """An ack is answered: no id is stale that was not named."""
        assert isinstance(frame.ref, int)
        assert set(frame.stale) <= self.asked.pop(frame.ref), "stale ids that were not named"

    def fail(self, ref: int, failure: msg.Failure) -> None:
        """An ack is refused."""
        del self.asked[ref]

    def wake(self) -> None:
        """It asks for a turn."""
        self.awake = True

    # --- from the client ----------------------------------------------------------------------

    def ack(self, wanted: list[int], status: Any, delay_ms: int | None, *, ask: bool) -> None:
        """Settle these, whether it holds them or not."""
        window = self.deliveries.state.window
        held = set(wanted) & self.live.keys()
        before = window.in_flight
        ref = self._ask(wanted) if ask else None
        for identifier in held:
            del self.live[identifier]
        self.deliveries.ack(frames.Ack(ref, wanted, status, delay_ms))
        assert before - window.in_flight == len(held), "settles what it held"
        self.awake = True

    def extend(self, wanted: list[int], ack_wait_ms: int | None) -> None:
        """Ask for more time."""
        self.deliveries.extend(frames.Extend(self._ask(wanted), wanted, ack_wait_ms))
        self.awake = True

    def _ask(self, wanted: list[int]) -> int:
        self._refs += 1
        self.asked[self._refs] = frozenset(wanted)
        return self._refs

    def flow(self, limit: int, *, congested: bool) -> None:
        """Another window; and a client that reads, or does not."""
        self.deliveries.flow(limit)
        self.wire.unsent_bytes = OUTBOX_BYTES if congested else 0
        self.awake = True


def ids(pieces: Iterable[msg.Piece]) -> list[int]:
    """The delivery ids of these pieces."""
    return [first + at for first, offset, count in pieces for at in range(offset, offset + count)]
