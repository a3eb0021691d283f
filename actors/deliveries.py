"""The delivering half of an instance: takes what groups offer, and tells them what was settled."""

from typing import TYPE_CHECKING

from actorbus import frames
from actorbus.errors import Ref as ClientRef
from actorbus.limits import FRAME_BYTES, OUTBOX_BYTES
from actors import messages as msg
from actors.instance_messages import Link
from actors.instance_state import InstanceState, PendingAck
from actors.runtime import tell

if TYPE_CHECKING:
    from actors.instance import InstanceActor


class Deliveries:
    """What is in flight on one connection, and its groups.

    Args:
        owner: the connection's actor, which sends and answers.
        limit: `max_in_flight`.
        first_id: of the deliveries.

    Attributes:
        state: the window.
        subscribed: the topics that may deliver.
    """

    def __init__(self, owner: "InstanceActor", limit: int, first_id: int) -> None:
        self.state = InstanceState(limit, first_id)
        self.subscribed: set[str] = set()
        self._owner = owner
        self._wire = owner.wire
        self._links: dict[str, Link] = {}
        self._short: set[str] = set()
        self._drain_refs: list[ClientRef] = []

    def turn_end(self) -> None:
        """Tell the groups that found no room if there is some, and `drain` that all is done."""
        if self._short:
            self._tell_room()
        if self._drain_refs and self.state.window.in_flight == 0:
            refs, self._drain_refs = self._drain_refs, []
            for ref in refs:
                self._owner.send(frames.Drained(ref))

    # --- room ---------------------------------------------------------------------------------

    def _tell_room(self) -> None:
        if self._wire.unsent() >= OUTBOX_BYTES:
            return
        topic = self.state.turn()
        if topic is not None:
            self._tell_topic(topic)
            self._owner.wake()  # the others are told once it has had its turn
        elif not self.state.waits_to_be_alone() and self.state.room("") > 0:
            short, self._short = self._short, set()
            for topic in short:
                self._tell_topic(topic)

    def _tell_topic(self, topic: str) -> None:
        link = self._links.get(topic)
        if link is not None:
            tell(link.group, msg.Room(self._owner.member, link.generation, self._report(topic)))

    def _report(self, topic: str) -> int:
        """The room there is for a topic, remembering whom it told that there is none."""
        room = self.state.room(topic) if self._wire.unsent() < OUTBOX_BYTES else 0
        if room == 0:
            self._short.add(topic)
        return room

    # --- from the groups ----------------------------------------------------------------------

    def opened(self, message: msg.Opened) -> None:
        """A group's generation begins."""
        self.void(message.topic, message.generation)
        self._links[message.topic] = Link(message.group, message.generation)
        self._tell_topic(message.topic)

    def down(self, topic: str) -> None:
        """A group's actor has ended."""
        self._links.pop(topic, None)
        self.void(topic, None)

    def void(self, topic: str, below: int | None) -> None:
        """Leases of a topic have ended with their generation."""
        for pending in self.state.void(topic, below):
            self._done(pending)

    def offered(self, message: msg.Offer) -> None:
        """Take what has room, and send it."""
        topic = message.topic
        link = self._links.get(topic)
        if link is None or link.generation != message.generation:
            return  # of a generation that has ended: nobody waits for the answer
        max_bytes = OUTBOX_BYTES - self._wire.unsent() if topic in self.subscribed else 0
        first_id, runs = self.state.take(message, max_bytes)
        deliveries: list[tuple[int, int, bytes]] = []
        number = first_id
        for run in runs:
            attempt = run.attempts + 1
            deliveries += [
                (identifier, attempt, event)
                for identifier, event in enumerate(run.events(), number)
            ]
            number += run.count
        if deliveries:
            codec = self._wire.codec
            self._wire.send(codec.deliver(topic, message.lease_ms, deliveries, FRAME_BYTES))
            self._owner.counters.delivered += len(deliveries)
        taken = msg.Taken(
            self._owner.member,
            message.generation,
            first_id,
            len(deliveries),
            self._report(topic),
        )
        tell(message.group, taken)

    def revoked(self, message: msg.Revoke) -> None:
        """Leases have ended by their deadline."""
        self.state.window.revoke(message.topic, message.generation, message.pieces)
        self._short.add(message.topic)

    def settled(self, message: msg.Settled) -> None:
        """A group answers for its share of an ack or extend."""
        self._done(self.state.answered(message.token, message.stale, message.failure))

    # --- from the client ----------------------------------------------------------------------

    def ack(self, frame: frames.Ack) -> None:
        """Settle deliveries, of whichever groups."""
        pieces, stale = self.state.window.settle(frame.ids)
        pending = None if frame.ref is None else PendingAck("ack", frame.ref, stale)
        for topic, mine in pieces.items():
            link = self._links[topic]
            token = self._wait(pending, topic, link, mine)
            settle = msg.Settle(
                self._owner.member,
                link.generation,
                tuple(mine),
                frame.status,
                self._report(topic),
                frame.delay_ms,
                frame.reason,
                token,
            )
            if not tell(link.group, settle) and token is not None:
                self._done(self.state.answered(token, None))
        if pending is not None and not pieces:
            self._done(pending)

    def extend(self, frame: frames.Extend) -> None:
        """Ask the groups for more time."""
        pieces, stale = self.state.window.held(frame.ids)
        pending = None if frame.ref is None else PendingAck("extend", frame.ref, stale)
        for topic, mine in pieces.items():
            link = self._links[topic]
            token = self._wait(pending, topic, link, mine)
            extend = msg.Extend(
                self._owner.member, link.generation, tuple(mine), frame.ack_wait_ms, token
            )
            if not tell(link.group, extend) and token is not None:
                self._done(self.state.answered(token, None))
        if pending is not None and not pieces:
            self._done(pending)

    def flow(self, limit: int) -> None:
        """Another window."""
        self.state.window.limit = limit

    def drain(self, frame: frames.Drain) -> None:
        """Nothing new from now on."""
        self.state.draining = True
        if frame.ref is not None:
            self._drain_refs.append(frame.ref)

    def _wait(
        self, pending: PendingAck | None, topic: str, link: Link, pieces: list[msg.Piece]
    ) -> int | None:
        if pending is None:
            return None
        return self.state.wait_for(pending, topic, link.generation, pieces)

    def _done(self, pending: PendingAck | None) -> None:
        if pending is None:
            return
        if pending.failure is not None:
            self._owner.fail(pending.ref, pending.failure)
            return
        stale = sorted(pending.stale)
        if pending.kind == "ack":
            self._owner.send(frames.Acked(pending.ref, stale))
        else:
            self._owner.send(frames.Extended(pending.ref, stale))
