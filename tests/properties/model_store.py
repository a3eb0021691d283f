"""The truth about each event, and two stores that keep it: a log and a queue."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from actorbus.store import Attempt, Batch, Fetched, Stored
from tests.actors.fakes import LOG, QUEUE

EVENT_BYTES = 6


class Truth(msgspec.Struct):
    """What has really happened to one event.

    Attributes:
        attempts: endings that count; `lost` of them by a lost connection.
        not_before: as recorded, wall clock.
        delivered: whether any client has ever had it.
        acked: settled with SUCCESS.
        let_go: given up with no dead-letter topic to go to.
        letter: whether its dead letter is durable.
        settled: the store was told so; `durable`: and has answered.
    """

    expires_at: int | None
    attempts: int = 0
    lost: int = 0
    kept_attempts: int = 0
    kept_lost: int = 0
    not_before: int = 0
    delivered: bool = False
    acked: bool = False
    let_go: bool = False
    letter: bool = False
    settled: bool = False
    durable: bool = False


def number(event: bytes) -> int:
    """Events are their own number in publish order."""
    return int(event)


def body(of: int) -> bytes:
    return b"%0*d" % (EVENT_BYTES, of)


class LogStore:
    """Batches one after the other; a position is the event's number."""

    abilities = LOG

    def __init__(self) -> None:
        self.truth: list[Truth] = []
        self.batches: list[Batch] = []

    def publish(self, count: int, expires_at: int | None) -> Batch:
        batch = _batch(len(self.truth), range(len(self.truth), len(self.truth) + count), expires_at)
        self.truth += [Truth(expires_at) for _ in range(count)]
        self.batches.append(batch)
        return batch

    def at(self, position: int) -> int:
        return position

    def floor(self) -> int:
        unsettled = (at for at, event in enumerate(self.truth) if not event.settled)
        return next(unsettled, len(self.truth))

    def open(self) -> int:
        return self.floor()

    def fetch(self, position: int, max_bytes: int) -> Fetched | None:
        runs: list[Stored] = []
        size = 0
        for batch in self.batches:
            end = batch.first + len(batch.events)
            wanted = [at for at in range(max(position, batch.first), end) if self._open(at)]
            if not wanted:
                continue
            if runs and size >= max_bytes:
                break
            runs += _stored(batch, [at - batch.first for at in wanted], self.truth)
            size += batch.size
            position = end
        return Fetched(tuple(runs), position)

    def _open(self, at: int) -> bool:
        return not self.truth[at].settled

    def release(self, runs: Sequence[tuple[int, int]]) -> int:
        return self.floor()

    def keep(self, attempts: Iterable[Attempt]) -> None:
        _keep(self.truth, attempts, self.at)

    def outside(self) -> list[int]:
        return []


class QueueStore:
    """Messages of events in a queue; what a feed has handed out has a position of its own."""

    abilities = replace(QUEUE, longest_lease_ms=2_000)

    def __init__(self) -> None:
        self.truth: list[Truth] = []
        self.queue: deque[list[int]] = deque()
        self.held: dict[int, int] = {}
        self._next = 0

    def publish(self, count: int, expires_at: int | None) -> Batch | None:
        first = len(self.truth)
        self.truth += [Truth(expires_at) for _ in range(count)]
        self.queue.append(list(range(first, first + count)))
        return None

    def at(self, position: int) -> int:
        return self.held[position]

    def open(self) -> int:
        """Everything unsettled goes back; a new feed numbers from 0."""
        back = sorted({of for of in self.held.values() if not self.truth[of].settled})
        self.held.clear()
        self._next = 0
        self.queue.extendleft([of] for of in reversed(back))
        return 0

    def fetch(self, position: int, max_bytes: int) -> Fetched | None:
        if not self.queue:
            return None
        numbers = self.queue.popleft()
        batch = _batch(self._next, numbers, self.truth[numbers[0]].expires_at)
        self.held.update(enumerate(numbers, self._next))
        self._next += len(numbers)
        histories = [self.truth[of] for of in numbers]
        return Fetched(tuple(_stored(batch, range(len(numbers)), histories, 0)), self._next)

    def release(self, runs: Sequence[tuple[int, int]]) -> int:
        positions = [at for first, count in runs for at in range(first, first + count)]
        back = [self.held.pop(at) for at in positions]
        self.queue.extendleft([of] for of in reversed(back))
        return self._next

    def move(self, attempt: Attempt) -> None:
        self.keep([attempt])
        self.queue.append([self.held.pop(attempt.position)])

    def keep(self, attempts: Iterable[Attempt]) -> None:
        _keep(self.truth, attempts, self.at)

    def outside(self) -> list[int]:
        return [of for numbers in self.queue for of in numbers]


Store = LogStore | QueueStore


def _batch(first: int, numbers: Iterable[int], expires_at: int | None) -> Batch:
    events = tuple(map(body, numbers))
    return Batch(first, events, EVENT_BYTES * len(events), expires_at)


def _stored(
    batch: Batch, indexes: Iterable[int], truth: Sequence[Truth], first: int | None = None
) -> list[Stored]:
    """Runs of untried neighbours, each tried event one of its own, as the stores do it."""
    runs: list[Stored] = []
    start = batch.first if first is None else first
    for index in indexes:
        event = truth[start + index]
        fresh = not event.kept_attempts
        last = runs[-1] if runs else None
        if fresh and last and not last.attempts and last.index + last.count == index:
            runs[-1] = Stored(batch, last.index, last.count + 1)
        else:
            runs.append(
                Stored(batch, index, 1, event.kept_attempts, event.kept_lost, event.not_before)
            )
    return runs


def _keep(truth: list[Truth], attempts: Iterable[Attempt], at: Callable[[int], int]) -> None:
    for attempt in attempts:
        event = truth[at(attempt.position)]
        event.kept_attempts, event.kept_lost = attempt.attempts, attempt.lost
        event.not_before = attempt.not_before
