"""What actors tell each other: frozen values, of runs of events rather than single ones.

A *member* is an instance as its groups know it: a number that is never used twice in a broker.
A *grant* is what one offer's run became at the instance: `count` delivery ids from `first_id` on.
A *piece* is a part of a grant: `(first_id, offset, count)`.
"""

from typing import Any, Literal, Self

import msgspec

from actorbus.store import Appended, Batch, Fetched, GroupOptions, Start

Piece = tuple[int, int, int]

Status = Literal["SUCCESS", "RETRY", "DROP"]


class Message(msgspec.Struct, frozen=True, eq=False):
    """Base of the messages between actors."""


class Run(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Neighbouring events of one batch with the same history, up for delivery.

    Attributes:
        batch: where they are.
        index: the first one's index in the batch.
        count: how many.
        attempts: attempts that have ended without settling.
        lost: how many of those ended by a lost connection.
        missed: how many of the last ones in a row ended by a missed deadline.
    """

    batch: Batch
    index: int
    count: int
    attempts: int = 0
    lost: int = 0
    missed: int = 0

    @property
    def position(self) -> int:
        """The first event's position."""
        return self.batch.first + self.index

    @property
    def end(self) -> int:
        """The position behind the last event."""
        return self.batch.first + self.index + self.count

    def part(self, offset: int, count: int) -> "Run":
        """`count` of these events from `offset` on."""
        return Run(self.batch, self.index + offset, count, self.attempts, self.lost, self.missed)

    def events(self) -> tuple[bytes, ...]:
        """The events' canonical bytes."""
        return self.batch.events[self.index : self.index + self.count]


# --- instance → topic -------------------------------------------------------------------------


class Publish(Message, frozen=True):
    """Append these events; answered by `PublishDone` to `reply_to`."""

    reply_to: Any
    token: int
    events: tuple[bytes, ...]
    size: int
    expires_at: int | None


class Subscribe(Message, frozen=True):
    """Create or change a group and add the sender to its members; answered by `SubscribeDone`."""

    reply_to: Any
    member: int
    app_id: str
    changes: dict[str, int | str | None]
    start: Start
    token: int


class Unsubscribe(Message, frozen=True):
    """Take the sender out of a group's members; answered by `UnsubscribeDone`.

    Attributes:
        forget: remove the group and its backlog too.
    """

    reply_to: Any
    member: int
    app_id: str
    forget: bool
    token: int


# --- topic → instance or group ----------------------------------------------------------------


class Failure(msgspec.Struct, frozen=True):
    """Why something was not done: an error code of the protocol and a text."""

    code: str
    message: str


class PublishDone(Message, frozen=True):
    """The events are durable (groups as in `Appended`), or not (`failure`)."""

    token: int
    groups: int | None
    failure: Failure | None = None


class SubscribeDone(Message, frozen=True):
    """The group and its options are durable, or not."""

    token: int
    topic: str
    options: GroupOptions | None
    failure: Failure | None = None


class UnsubscribeDone(Message, frozen=True):
    """The instance is no member any more (and the group is gone), or nothing has changed."""

    token: int
    topic: str
    forget: bool
    failure: Failure | None = None


class TopicDown(Message, frozen=True):
    """A topic's actor failed: what it had not answered will not be answered."""

    topic: str


# --- topic → group ----------------------------------------------------------------------------


class Notice(Message, frozen=True):
    """Something was appended: the newest batches, none if there is only something to read."""

    batches: tuple[Batch, ...]

    def merge(self, older: Self) -> "Notice":
        """Collapse two waiting notices; past a few batches the group had better read."""
        batches = older.batches + self.batches
        complete = older.batches and self.batches and len(batches) <= NOTICE_BATCHES
        return Notice(batches if complete else ())


NOTICE_BATCHES = 16
"""Batches that a collapsed notice carries at most, so that its size is bounded."""


# --- supervisor or topic → group --------------------------------------------------------------


class Attach(Message, frozen=True):
    """An instance joins the group; it is offered nothing before it has answered `Opened`."""

    member: int
    ref: Any


class Leave(Message, frozen=True):
    """An instance unsubscribed: nothing more for it, but its leases stand."""

    member: int


class Detach(Message, frozen=True):
    """An instance is gone: its leases end.

    Attributes:
        counts: the ended attempts count (a lost connection), or not (the broker took them back).
    """

    member: int
    counts: bool


class Configure(Message, frozen=True):
    """The group's options have changed."""

    options: GroupOptions


class Shut(Message, frozen=True):
    """Stop offering: the broker is stopping, or the group is being forgotten."""


# --- group → instance -------------------------------------------------------------------------


class Opened(Message, frozen=True):
    """A generation of the group begins: leases of older ones are void. Answered by `Room`."""

    topic: str
    generation: int
    group: Any


class GroupDown(Message, frozen=True):
    """A group's actor has ended: leases from it are void, and what it owes is not answered."""

    topic: str


class Offer(Message, frozen=True):
    """Events for this instance; it takes what has room and answers `Taken`.

    Attributes:
        alone: to be delivered only with nothing else in flight at the instance.
    """

    topic: str
    generation: int
    group: Any
    runs: tuple[Run, ...]
    lease_ms: int
    alone: bool = False


class Revoke(Message, frozen=True):
    """The leases of these pieces have ended by their deadline."""

    topic: str
    generation: int
    pieces: tuple[Piece, ...]


class Settled(Message, frozen=True):
    """Answer to `Settle` and `Extend`: the pieces that the group did not hold any more."""

    token: int
    stale: tuple[Piece, ...]
    failure: Failure | None = None


# --- instance → group -------------------------------------------------------------------------


class Room(Message, frozen=True):
    """How many deliveries the instance would take now."""

    member: int
    generation: int
    room: int


class Taken(Message, frozen=True):
    """Answer to an offer: its first `count` events have the ids from `first_id` on."""

    member: int
    generation: int
    first_id: int
    count: int
    room: int


class Settle(Message, frozen=True):
    """A client settled these pieces.

    Attributes:
        token: to be answered by `Settled` once durable; None: no answer wanted.
    """

    member: int
    generation: int
    pieces: tuple[Piece, ...]
    status: Status
    room: int
    delay_ms: int | None = None
    reason: str | None = None
    token: int | None = None


class Extend(Message, frozen=True):
    """A client asks for more time for these pieces; answered by `Settled` if `token` is set."""

    member: int
    generation: int
    pieces: tuple[Piece, ...]
    ack_wait_ms: int | None
    token: int | None = None


# --- to the group from its own store calls and timer ------------------------------------------


class FeedOpen(Message, frozen=True):
    """The feed is open and begins at `position`."""

    feed: Any
    options: GroupOptions


class FetchDone(Message, frozen=True):
    """A fetch has ended; None: it failed."""

    fetched: Fetched | None


class Released(Message, frozen=True):
    """What was not leased has gone back; fetch from `position` next."""

    position: int


class Evict(Message, frozen=True):
    """The store wants these events moved unless they are leased."""

    positions: tuple[int, ...]


class MoveDone(Message, frozen=True):
    """An event has moved, or is the group's again."""

    position: int
    moved: bool


class DeadLetterDone(Message, frozen=True):
    """A dead letter is durable in its topic, or not yet."""

    token: int
    durable: bool


class Tick(Message, frozen=True):
    """The group's timer."""


class AppendDone(Message, frozen=True):
    """To a topic from its store: an append has ended.

    Attributes:
        passing: it failed because the store is away, as others would now.
    """

    number: int
    appended: Appended | None
    failure: Failure | None
    passing: bool = False
