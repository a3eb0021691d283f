"""The store port: what the broker needs of whatever keeps its events.

Three stores come with the broker (memory, SQLite, RabbitMQ). Another distribution adds one by
naming a factory in the entry-point group `actorbus.stores` under its URL scheme:

    [options.entry_points]
    actorbus.stores =
        example = my_package:open_store

The factory is called as `factory(url)` and returns a `Store` that is not open yet. It raises
`StoreUnusableError` for a URL that makes no sense; `docs/stores.md` shows such a distribution.

All calls are made on the event loop's thread. A method that returns an `Awaitable` starts its work
at the call, in the order of calls, whether or not anyone awaits the result; it may be a coroutine
function (the broker then makes it a task at once) or return a future. Passing faults are raised as
`StoreUnavailableError`. Every call ends within `CALL_SECONDS`.

Positions: events of a group are numbered. A *log store* (memory, SQLite) numbers the events of a
topic, one after the other, for all groups alike. A *queue store* (RabbitMQ) numbers what one feed
hands out, from 0 on. Positions never repeat within the life of a feed.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from actorbus.errors import StoreUnusableError

CALL_SECONDS: Final = 10.0
"""No store call takes longer; publishers are promised an answer within 10 s."""

Start = Literal["new", "earliest"]


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a store can do; an option it lacks is refused, a number it can't know is null."""

    log: bool
    """Appended batches carry positions, and notices of them feed the groups (a log store)."""
    earliest: bool
    """`start: earliest` is possible."""
    exact_backlog: bool
    """It knows how many events each group still has to settle."""
    shared_options: bool
    """Group options are seen by every broker on the same store."""
    settles_singly: bool
    """After a crash exactly the unsettled events return (else: the rest of their message may)."""
    pipeline: int = 1
    """Appends of one topic that may be under way at once."""
    return_after_ms: int | None = None
    """Fetched events that found no window for so long are given back (`Feed.release`)."""
    longest_lease_ms: int | None = None
    """A lease ends so long after its delivery at the latest, all extensions included."""


class Batch(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Events that were appended together.

    Attributes:
        first: the position of the first event.
        events: each one complete CloudEvent, in the canonical MessagePack of `actorbus.events`.
        size: the events' bytes, summed.
        expires_at: wall clock, milliseconds since the epoch; None: never.
    """

    first: int
    events: tuple[bytes, ...]
    size: int
    expires_at: int | None = None


class Stored(msgspec.Struct, frozen=True, eq=False):
    """A run of unsettled events of one batch with the same history.

    Attributes:
        batch: where they are.
        index: the first one's index in `batch.events`.
        count: how many.
        attempts: earlier attempts that ended by RETRY, a missed deadline or a lost connection.
        lost: how many of those ended by a lost connection.
        not_before: wall clock, milliseconds: not to be delivered earlier; 0 for at once.
    """

    batch: Batch
    index: int
    count: int
    attempts: int = 0
    lost: int = 0
    not_before: int = 0


class Fetched(msgspec.Struct, frozen=True):
    """What a fetch found.

    Attributes:
        runs: unsettled events in order. Empty: nothing there now, an append's notice will tell.
        next: the position to fetch from next time.
    """

    runs: tuple[Stored, ...]
    next: int


class Appended(msgspec.Struct, frozen=True):
    """A durable append.

    Attributes:
        batch: the batch with its positions; None from a queue store, or where nothing was kept.
        groups: how many groups it reached; 0 for surely none; None where the store can't know.
    """

    batch: Batch | None
    groups: int | None


class Attempt(msgspec.Struct, frozen=True):
    """An event's history after one more attempt has ended (fields as in `Stored`)."""

    position: int
    attempts: int
    lost: int
    not_before: int


class GroupOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A group's options with the protocol's defaults (protocol: subscriptions)."""

    ack_wait_ms: int = 30_000
    max_attempts: int = 0
    backoff_ms: int = 1_000
    max_backoff_ms: int = 60_000
    dead_letter_topic: str | None = None
    max_in_flight: int = 0

    def changed(self, changes: Mapping[str, int | str | None]) -> "GroupOptions":
        """These options with `changes` applied; None puts an option back to its default.

        The values have been checked by whoever took them from a client.
        """
        defaults = GroupOptions()
        return msgspec.structs.replace(
            self,
            **{
                name: getattr(defaults, name) if value is None else value
                for name, value in changes.items()
            },
        )

    def as_map(self) -> dict[str, int | str | None]:
        """Name and value of every option, as `subscribed` tells them."""
        return msgspec.structs.asdict(self)


class GroupInfo(msgspec.Struct, frozen=True):
    """What the store knows of one group; None where it can't know.

    Attributes:
        backlog: unsettled events, the leased ones included.
        oldest_at: when the oldest unsettled event was appended, wall clock in milliseconds.
    """

    app_id: str
    backlog: int | None
    oldest_at: int | None


class TopicInfo(msgspec.Struct, frozen=True):
    """A topic that has groups or kept events."""

    topic: str
    groups: tuple[GroupInfo, ...]


class FeedListener(Protocol):
    """How a feed calls its group (on the loop's thread; the calls return at once)."""

    def evict(self, positions: Sequence[int]) -> None:
        """Ask for `Feed.move` of these events, those that are not leased at this moment."""

    def reset(self) -> None:
        """Everything unsettled has gone back to the store: leases are void, open a new feed."""


class Feed(Protocol):
    """One group's side of the store. At most one feed of a group is open in a broker."""

    position: int
    """Where the first fetch starts."""

    def fetch(self, position: int, max_bytes: int) -> Awaitable[Fetched]:
        """Unsettled events from `position` on: at least one batch, then up to `max_bytes`.

        A log store answers at once, with no runs at the log's end. A queue store ignores
        `position` and answers as soon as it has something. One fetch at a time. Events that have
        been fetched and not settled do not come again before `release` or a new feed.
        """

    def settle(self, runs: Sequence[tuple[int, int]], *, awaited: bool = True) -> Awaitable[None]:
        """These events (position, count) are done with; returns when that is durable.

        Unless it is `awaited`, nobody is told when: the store may keep it for some milliseconds,
        to make it durable together with other work.

        When it raises, the settling is kept in memory and goes with the next; the events do not
        come again in this run either way.
        """

    def attempted(self, attempts: Sequence[Attempt]) -> Awaitable[None]:
        """Attempts of these events ended without settling; returns when the counts are durable.

        A queue store may note them in memory and make them durable by moving the event.
        """

    def move(self, attempt: Attempt) -> Awaitable[None]:
        """Answer to `FeedListener.evict`: the group has let go of this event.

        The store appends it to the group again with its history and settles the original. It
        comes back by `fetch` at another position. When it raises, the group has the event again.
        """

    def release(self, runs: Sequence[tuple[int, int]]) -> Awaitable[int]:
        """The group lets go of these fetched, unsettled events (position, count).

        Returns the position to fetch from next. A log store is asked only when the group holds
        nothing else, and answers with its first unsettled position. A queue store returns the
        events to the queue, and fetches no more until the next `fetch`; one that waits ends empty.
        """

    async def close(self) -> None:
        """Release, make what was settled durable, and free what the feed holds."""


class Store(Protocol):
    """Keeps events and groups."""

    abilities: Abilities

    async def open(self, failed: Callable[[StoreUnusableError], None]) -> None:
        """Make ready, or raise `StoreUnusableError` with one line for the operator.

        `failed` is called at most once, later, when the store must not be used any more.
        """

    async def close(self) -> None:
        """Make everything durable that was accepted, then free all."""

    def health(self) -> str | None:
        """None when it takes work, else the reason in one line, without secrets."""

    def append(
        self, topic: str, events: tuple[bytes, ...], expires_at: int | None
    ) -> Awaitable[Appended]:
        """Keep one batch for every group of `topic`; returns when it is durable."""

    async def join(
        self,
        topic: str,
        app_id: str,
        changes: Mapping[str, int | str | None],
        start: Start,
    ) -> GroupOptions:
        """Create the group or change its options; returns those in force, once durable.

        `start` counts only at creation.
        """

    async def find(self, topic: str, app_id: str) -> GroupOptions | None:
        """The group's options, or None if there is no such group."""

    async def forget(self, topic: str, app_id: str) -> bool:
        """Remove the group and its backlog; False if another broker's instances use it.

        Its feed, if any, has been closed before. A group that does not exist is no error.
        """

    async def feed(self, topic: str, app_id: str, listener: FeedListener) -> Feed:
        """Open the feed of a group that exists."""

    async def topics(
        self, *, after: str | None, limit: int, only: str | None = None
    ) -> list[TopicInfo]:
        """Topics in the order of their names (by code point), from the one behind `after` on.

        With `only`, that topic if it exists.
        """
