"""What a store owes one group, in the simplest words: a log, and a queue."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from actorbus.store import Abilities, Attempt, Batch, Fetched, Stored

LOG = Abilities(
    log=True, earliest=True, exact_backlog=True, shared_options=True, settles_singly=True
)
QUEUE = Abilities(
    log=False,
    earliest=False,
    exact_backlog=False,
    shared_options=False,
    settles_singly=False,
    return_after_ms=5_000,
    longest_lease_ms=1_200_000,
)
FETCH = 3


class ModelStore(Protocol):
    """Both stores: what is settled is known by the events' bytes, which are all different."""

    abilities: Abilities
    settled: list[bytes]

    def publish(self, events: tuple[bytes, ...], expires_at: int | None) -> Batch | None:
        """Append; the batch that a notice carries, if any."""

    def open(self) -> int:
        """A new feed: nothing is held by the group any more."""

    def fetch(self, position: int) -> Fetched:
        """What a fetch finds now."""

    def settle(self, runs: Sequence[tuple[int, int]]) -> list[bytes]:
        """Done with these; which they were."""

    def attempted(self, attempts: Iterable[Attempt]) -> None:
        """Keep histories."""

    def release(self, runs: Sequence[tuple[int, int]]) -> int:
        """The group lets go; where it reads next."""

    def move(self, attempt: Attempt) -> None:
        """The event comes again at another position."""

    def unread(self, position: int | None) -> list[bytes]:
        """What a group that reads from here on will still find."""


class LogStore:
    """Batches one after the other, and a set of settled positions."""

    abilities = LOG

    def __init__(self) -> None:
        self.settled: list[bytes] = []
        self._batches: list[Batch] = []
        self._open: set[int] = set()
        self._histories: dict[int, Attempt] = {}

    def publish(self, events: tuple[bytes, ...], expires_at: int | None) -> Batch | None:
        first = sum(len(batch.events) for batch in self._batches)
        batch = Batch(first, events, sum(map(len, events)), expires_at)
        self._batches.append(batch)
        self._open |= set(range(first, first + len(events)))
        return batch

    def open(self) -> int:
        return min(self._open, default=sum(len(batch.events) for batch in self._batches))

    def fetch(self, position: int) -> Fetched:
        runs: list[Stored] = []
        found = [b for b in self._batches if b.first + len(b.events) > position][:FETCH]
        for batch in found:
            end = batch.first + len(batch.events)
            positions = range(max(position, batch.first), end)
            runs += [self._stored(batch, at) for at in positions if at in self._open]
            position = end
        return Fetched(tuple(runs), position)

    def _stored(self, batch: Batch, at: int) -> Stored:
        known = self._histories.get(at)
        if known is None:
            return Stored(batch, at - batch.first, 1)
        return Stored(batch, at - batch.first, 1, known.attempts, known.lost, known.not_before)

    def settle(self, runs: Sequence[tuple[int, int]]) -> list[bytes]:
        positions = [at for first, count in runs for at in range(first, first + count)]
        assert len(set(positions)) == len(positions)
        assert set(positions) <= self._open, "settled twice"
        self._open -= set(positions)
        events = [self._event(at) for at in positions]
        self.settled += events
        return events

    def attempted(self, attempts: Iterable[Attempt]) -> None:
        self._histories.update((attempt.position, attempt) for attempt in attempts)

    def release(self, runs: Sequence[tuple[int, int]]) -> int:
        return self.open()

    def move(self, attempt: Attempt) -> None:
        raise AssertionError("a log moves nothing")

    def unread(self, position: int | None) -> list[bytes]:
        start = self.open() if position is None else position
        return [self._event(at) for at in self._open if at >= start]

    def _event(self, position: int) -> bytes:
        return next(
            b.events[position - b.first]
            for b in self._batches
            if b.first <= position < b.first + len(b.events)
        )


class QueueStore:
    """Events in a line; what a feed hands out has a number until it is settled or returned."""

    abilities = QUEUE

    def __init__(self) -> None:
        self.settled: list[bytes] = []
        self._line: list[Stored] = []
        self._held: dict[int, Stored] = {}
        self._next = 0

    def publish(self, events: tuple[bytes, ...], expires_at: int | None) -> Batch | None:
        self._line += [
            Stored(Batch(-1, (event,), len(event), expires_at), 0, 1) for event in events
        ]
        return None

    def open(self) -> int:
        self._line[:0] = self._held.values()
        self._held.clear()
        return self._next

    def fetch(self, position: int) -> Fetched:
        runs = []
        for stored in self._line[:FETCH]:
            events = stored.batch.events
            batch = Batch(self._next, events, len(events[0]), stored.batch.expires_at)
            held = Stored(batch, 0, 1, stored.attempts, stored.lost, stored.not_before)
            self._held[self._next] = held
            self._next += 1
            runs.append(held)
        del self._line[:FETCH]
        return Fetched(tuple(runs), self._next)

    def settle(self, runs: Sequence[tuple[int, int]]) -> list[bytes]:
        events = [
            self._held.pop(at).batch.events[0]
            for first, count in runs
            for at in range(first, first + count)
        ]
        self.settled += events
        return events

    def attempted(self, attempts: Iterable[Attempt]) -> None:
        for one in attempts:
            batch = self._held[one.position].batch
            self._held[one.position] = Stored(batch, 0, 1, one.attempts, one.lost, one.not_before)

    def release(self, runs: Sequence[tuple[int, int]]) -> int:
        positions = [at for first, count in runs for at in range(first, first + count)]
        self._line[:0] = [self._held.pop(at) for at in positions]
        return self._next

    def move(self, attempt: Attempt) -> None:
        self.attempted([attempt])
        self._line.append(self._held.pop(attempt.position))

    def unread(self, position: int | None) -> list[bytes]:
        return [stored.batch.events[0] for stored in self._line]
