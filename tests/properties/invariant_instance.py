"""A model instance: plays the shell around the real window, and knows what its client holds."""

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from actors import messages as msg
from actors.instance_state import InstanceState, PendingAck
from tests.properties.invariant_stores import number

TOPIC = "orders"
PLENTY = 1 << 20


class Held(msgspec.Struct, frozen=True):
    """One delivery at the client."""

    event: int
    generation: int
    alone: bool


class Instance:
    """One connection.

    Attributes:
        inbox: from the group; `out`: to the group, whoever in the broker sends it.
        live: what its client holds, by delivery id.
        known: ids it has ever seen.
        window: the last `max_in_flight` it was given.
    """

    def __init__(self, member: int, limit: int) -> None:
        self.member = member
        self.state = InstanceState(limit, member * 1000)
        self.inbox: deque[msg.Message] = deque()
        self.out: deque[msg.Message] = deque()
        self.live: dict[int, Held] = {}
        self.known: list[int] = []
        self.generation: int | None = None
        self.subscribed = True
        self.gone = False
        self.congested = False
        self.unanswered = 0
        self.awake = False
        self.newest = -1
        self._short = False

    # --- a turn -------------------------------------------------------------------------------

    def turn(self, most: int) -> list[tuple[msg.Offer, list[msg.Run]]]:
        """Take in up to so many messages; the offers answered, with what was taken of each."""
        taken: list[tuple[msg.Offer, list[msg.Run]]] = []
        for _ in range(min(most, len(self.inbox))):
            message = self.inbox.popleft()
            match message:
                case msg.Opened():
                    self._opened(message)
                case msg.GroupDown():
                    self.generation = None
                    self._void(None)
                case msg.Offer() if message.generation == self.generation:
                    taken.append((message, self._offered(message)))
                case msg.Revoke():
                    self._revoked(message)
                case msg.Settled():
                    self._answered(self.state.answered(message.token, message.stale))
        self.tell_room()
        return taken

    def tell_room(self) -> None:
        """As at each turn's end: tell the group if it was told that there is none."""
        self.awake = False
        if not self._short or self.congested:
            return
        if self.state.turn() is not None:
            self._tell()
            self.awake = True
        elif not self.state.waits_to_be_alone() and self.state.room("") > 0:
            self._short = False
            self._tell()

    def _tell(self) -> None:
        if self.generation is not None:
            self.out.append(msg.Room(self.member, self.generation, self._report()))

    def _report(self) -> int:
        room = 0 if self.congested else self.state.room(TOPIC)
        self._short = self._short or room == 0
        return room

    # --- from the group -----------------------------------------------------------------------

    def _opened(self, message: msg.Opened) -> None:
        self._void(message.generation)
        self.generation = message.generation
        self._tell()

    def _void(self, below: int | None) -> None:
        for pending in self.state.void(TOPIC, below):
            self._answered(pending)
        self.live = {
            identifier: held
            for identifier, held in self.live.items()
            if below is not None and held.generation >= below
        }

    def _offered(self, offer: msg.Offer) -> list[msg.Run]:
        lonely = any(held.alone for held in self.live.values())
        before = len(self.live)
        open_bytes = PLENTY if self.subscribed and not self.congested else 0
        first_id, runs = self.state.take(offer, open_bytes)
        events = [number(event) for run in runs for event in run.events()]
        assert not (events and lonely), "delivered beside an event that must be alone"
        assert not (events and offer.alone and before), "an event that must be alone is not"
        for identifier, event in enumerate(events, first_id):
            self.live[identifier] = Held(event, offer.generation, offer.alone)
            self.known.append(identifier)
        assert not events or len(self.live) <= self.state.window.limit, "window exceeded"
        taken = msg.Taken(self.member, offer.generation, first_id, len(events), self._report())
        self.out.append(taken)
        return runs

    def _revoked(self, message: msg.Revoke) -> None:
        self.state.window.revoke(message.topic, message.generation, message.pieces)
        self._short = True
        for identifier in ids(message.pieces):
            held = self.live.get(identifier)
            if held is not None and held.generation == message.generation:
                del self.live[identifier]

    def _answered(self, pending: PendingAck | None) -> None:
        if pending is not None:
            self.unanswered -= 1

    # --- from the client ----------------------------------------------------------------------

    def ack(
        self, wanted: Sequence[int], status: msg.Status, delay_ms: int | None, *, ask: bool
    ) -> None:
        """Settle these, whether it holds them or not."""
        pieces, stale = self.state.settle(wanted)
        mine = pieces.get(TOPIC, [])
        settled = ids(mine)
        assert sorted(settled) == sorted(set(wanted) & set(self.live)), "settles what it held"
        for identifier in settled:
            del self.live[identifier]
        if not mine:
            return
        assert self.generation is not None
        self.out.append(
            msg.Settle(
                self.member,
                self.generation,
                tuple(mine),
                status,
                self._report(),
                delay_ms,
                None,
                self._wait(mine, stale) if ask else None,
            )
        )

    def extend(self, wanted: Sequence[int], ack_wait_ms: int | None) -> None:
        """Ask for more time."""
        pieces, stale = self.state.window.held(wanted)
        mine = pieces.get(TOPIC, [])
        if mine:
            assert self.generation is not None
            token = self._wait(mine, stale)
            self.out.append(
                msg.Extend(self.member, self.generation, tuple(mine), ack_wait_ms, token)
            )

    def _wait(self, pieces: list[msg.Piece], stale: list[int]) -> int:
        assert self.generation is not None
        self.unanswered += 1
        pending = PendingAck("ack", None, stale)
        return self.state.wait_for(pending, TOPIC, self.generation, pieces)


def ids(pieces: Iterable[msg.Piece]) -> list[int]:
    """The delivery ids of these pieces."""
    return [first + at for first, offset, count in pieces for at in range(offset, offset + count)]
