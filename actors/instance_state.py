"""What an instance decides about its window, as a pure state machine.

It is the sole owner of the connection's window and of what each delivery id stands for. Groups
offer; it takes what has room. A group that found no room is told once there is some.
"""

from collections.abc import Iterable, Sequence

import msgspec

from actorbus.errors import Ref
from actors.messages import Failure, Offer, Piece, Run
from actors.window import Window


class PendingAck(msgspec.Struct):
    """An `ack` or `extend` that waits for its groups.

    Attributes:
        kind: the frame to be answered.
        stale: ids whose lease was not held, so far.
        waits: topics that have not answered yet.
    """

    kind: str
    ref: Ref
    stale: list[int]
    waits: int = 0
    failure: Failure | None = None


class Part(msgspec.Struct, frozen=True):
    """One group's share of a pending ack."""

    pending: PendingAck
    topic: str
    generation: int
    pieces: tuple[Piece, ...]


class InstanceState:
    """The window of one connection, its groups, and the acks that wait for them.

    Args:
        limit: `max_in_flight`.
        first_id: of the deliveries.
    """

    def __init__(self, limit: int, first_id: int) -> None:
        self.window = Window(limit, first_id)
        self.draining = False
        self._alone = False
        self._wanted: dict[str, None] = {}
        self._called = False
        self._parts: dict[int, Part] = {}
        self._token = 0

    # --- taking -------------------------------------------------------------------------------

    def room(self, topic: str) -> int:
        """Deliveries it would take of a topic now."""
        if self.window.in_flight == 0:
            self._alone = False
        if self.draining or self._alone or (self._wanted and not self._has_turn(topic)):
            return 0
        return self.window.room()

    def take(self, offer: Offer, max_bytes: int) -> tuple[int, list[Run]]:
        """Take of an offer what has room: the first delivery id, and the runs.

        Args:
            offer: from a group.
            max_bytes: bytes the connection would still queue; one event always goes if any.
        """
        room = self.room(offer.topic) if max_bytes > 0 else 0
        if offer.alone:
            room = self._room_alone(offer.topic, room)
        first_id = self.window.next_id()
        taken = list(_fitting(offer.runs, room, max_bytes))
        for run in taken:
            self.window.grant(offer.topic, offer.generation, run)
        if taken and self._wanted:
            self._pass_by(offer.topic)
        return first_id, taken

    # --- events that travel alone -------------------------------------------------------------

    def _room_alone(self, topic: str, room: int) -> int:
        """Room for an event that must have the connection to itself; if none, it gets a turn."""
        if room and not self.window.in_flight:
            self._alone = True
            return room
        if not self.draining:
            self._wanted[topic] = None
        return 0

    def _has_turn(self, topic: str) -> bool:
        return self.window.in_flight == 0 and topic == next(iter(self._wanted))

    def turn(self) -> str | None:
        """The topic that may now deliver its event alone: to be told before all others.

        It is given one turn. Asked again, it has let that pass (its event went elsewhere), and
        the next one has its turn.
        """
        if self.window.in_flight or not self._wanted or not self.window.room():
            return None
        if self._called:
            self._pass_by(next(iter(self._wanted)))
        self._called = bool(self._wanted)
        return next(iter(self._wanted), None)

    def waits_to_be_alone(self) -> bool:
        """Whether an event waits for the connection to itself."""
        return bool(self._wanted)

    def _pass_by(self, topic: str) -> None:
        self._called = False
        self._wanted.pop(topic, None)

    # --- acknowledgements ---------------------------------------------------------------------

    def settle(self, ids: Sequence[int]) -> tuple[dict[str, list[Piece]], list[int]]:
        """Take ids out of flight: the pieces by topic, and the stale ids."""
        return self.window.settle(ids)

    def wait_for(
        self, pending: PendingAck, topic: str, generation: int, pieces: Sequence[Piece]
    ) -> int:
        """Let an ack wait for one group; the token for its answer."""
        self._token += 1
        pending.waits += 1
        self._parts[self._token] = Part(pending, topic, generation, tuple(pieces))
        return self._token

    def answered(
        self, token: int, stale: Iterable[Piece] | None, failure: Failure | None = None
    ) -> PendingAck | None:
        """A group has answered (stale None: it can't, all is stale): the ack if it is complete."""
        part = self._parts.pop(token, None)
        if part is None:
            return None
        pending = part.pending
        for first_id, offset, count in part.pieces if stale is None else stale:
            pending.stale += range(first_id + offset, first_id + offset + count)
        pending.failure = pending.failure or failure
        pending.waits -= 1
        return None if pending.waits else pending

    def void(self, topic: str, below: int | None) -> list[PendingAck]:
        """A topic's group has ended, in all generations or those below one: so have its leases.

        Returns:
            The acks that are complete now that it won't answer.
        """
        self.window.forget(topic, below)
        self._pass_by(topic)
        tokens = [
            token
            for token, part in self._parts.items()
            if part.topic == topic and (below is None or part.generation < below)
        ]
        done = [self.answered(token, None) for token in tokens]
        return [pending for pending in done if pending is not None]


def _fitting(runs: Iterable[Run], room: int, max_bytes: int) -> Iterable[Run]:
    """The runs cut to `room` events and about `max_bytes`."""
    for run in runs:
        if room <= 0 or max_bytes <= 0:
            return
        count = min(run.count, room)
        if run.batch.size > max_bytes:  # a batch's size bounds each of its runs
            count = _within(run, count, max_bytes)
        yield run if count == run.count else run.part(0, count)
        if count < run.count:
            return
        room -= count
        max_bytes -= run.batch.size * count // len(run.batch.events)


def _within(run: Run, count: int, max_bytes: int) -> int:
    """How many of the run's first events reach `max_bytes`, at least one."""
    fits = 0
    for event in run.events()[:count]:
        fits += 1
        max_bytes -= len(event)
        if max_bytes <= 0:
            break
    return fits
