"""Which events of which messages are still unsettled: bookkeeping without I/O.

Sets of a message's events are the bits of an integer (`actors.bits`): event `i` is bit `i`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from actorbus.store import Attempt, Batch, Stored
from actors.bits import mask, runs
from transport.stores.rabbitmq.memory import Memory
from transport.stores.rabbitmq.messages import FRESH, Arrived, History


class Held(msgspec.Struct, eq=False, gc=False):
    """A message in hand.

    Attributes:
        tag: its delivery tag on the channel.
        message_id: its AMQP message id, None if it has none.
        first: the position of its first event.
        arrived: its events.
        since: when it was received, monotonic seconds.
        size: its events' bytes.
        left: events that are neither settled nor moved.
        failed: those of them whose attempt has ended here.
        moving: those of them that are being published again.
        histories: of events that have one, by index.
    """

    tag: int
    message_id: str | None
    first: int
    arrived: Arrived
    since: float
    size: int
    left: int
    failed: int
    moving: int
    histories: dict[int, History]

    def history(self, index: int) -> History:
        """What happened to an event before."""
        return self.histories.get(index, FRESH)

    @property
    def untouched(self) -> bool:
        """Whether nothing is settled, moved or has failed here."""
        return self.left == mask(0, len(self.arrived.events)) and not (self.failed | self.moving)

    def whole(self, bits: int) -> bool:
        """Whether these events, all of them, may go back as the message that they came in."""
        return self.untouched and bits == self.left and not self.arrived.worn

    def stored(self, bits: int) -> list[Stored]:
        """What a fetch returns of these events: runs with the same history."""
        arrived = self.arrived
        batch = Batch(self.first, arrived.events, self.size, arrived.expires_at)
        if not self.histories:
            return [Stored(batch, index, count) for index, count in runs(bits)]
        return [
            Stored(batch, index, count, *history)
            for run in runs(bits)
            for index, count, history in self._alike(*run)
        ]

    def _alike(self, index: int, count: int) -> Iterator[tuple[int, int, History]]:
        start = index
        for at in range(index + 1, index + count + 1):
            if at == index + count or self.history(at) != self.history(start):
                yield start, at - start, self.history(start)
                start = at


class Ledger:
    """The messages in hand, by position and by tag.

    Attributes:
        position: the next message's first event gets it.
        size: bytes of all events of the messages in hand, the settled ones included.
        events: how many they are.
    """

    def __init__(self) -> None:
        self.position = 0
        self.size = 0
        self.events = 0
        self._firsts: list[int] = []
        self._held: list[Held] = []  # both ascending by position, and so by tag

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(tuple(self._held))

    def add(
        self, tag: int, message_id: str | None, arrived: Arrived, now: float, memory: Memory | None
    ) -> Held:
        """Take a message in hand; `memory` is what an earlier hand knew of it."""
        count = len(arrived.events)
        histories = dict(enumerate(arrived.histories)) if arrived.histories else {}
        left = mask(0, count)
        if memory is not None:
            left &= memory.left
            histories |= memory.histories
        size = sum(map(len, arrived.events))
        held = Held(tag, message_id, self.position, arrived, now, size, left, 0, 0, histories)
        self.position += count
        self.size += size
        self.events += count
        self._firsts.append(held.first)
        self._held.append(held)
        return held

    def remove(self, held: Held) -> None:
        """Let go of a message."""
        at = bisect_right(self._firsts, held.first) - 1
        if at >= 0 and self._held[at] is held:
            del self._firsts[at], self._held[at]
            self.size -= held.size
            self.events -= len(held.arrived.events)

    def find(self, position: int) -> tuple[Held, int] | None:
        """The message with this position and the event's index in it; None once it is gone."""
        at = bisect_right(self._firsts, position) - 1
        if at < 0:
            return None
        held = self._held[at]
        index = position - held.first
        return (held, index) if index < len(held.arrived.events) else None

    def settle(self, settled: Sequence[tuple[int, int]]) -> list[Held]:
        """Strike off events; returns the messages that this changed."""
        changed: dict[int, Held] = {}
        for position, count in settled:
            for held, bits in self.slices(position, count):
                if held.left & bits:
                    held.left &= ~bits
                    changed[held.first] = held
        return list(changed.values())

    def attempted(self, attempts: Iterable[Attempt]) -> list[Held]:
        """Note how attempts ended; returns the messages that this changed."""
        changed: dict[int, Held] = {}
        for attempt in attempts:
            found = self.find(attempt.position)
            if found is not None and found[0].left >> found[1] & 1:
                held, index = found
                held.failed |= 1 << index
                held.histories[index] = History(attempt.attempts, attempt.lost, attempt.not_before)
                changed[held.first] = held
        return list(changed.values())

    def cumulative(self, tags: set[int]) -> int | None:
        """The tag up to which all messages in hand and `tags` may be acknowledged at once.

        Args:
            tags: done messages that are no longer in hand and not yet acknowledged.
        """
        oldest = self._held[0].tag if self._held else None
        done = [tag for tag in tags if oldest is None or tag < oldest]
        return max(done) if done else None

    def slices(self, position: int, count: int) -> Iterator[tuple[Held, int]]:
        """The messages that a run of positions touches, with the run's events in each."""
        at = max(bisect_right(self._firsts, position) - 1, 0)
        end = position + count
        for held in self._held[at:]:
            if held.first >= end:
                return
            start = max(position - held.first, 0)
            stop = min(end - held.first, len(held.arrived.events))
            if start < stop:
                yield held, mask(start, stop - start)


def unwanted(held: Held, *, aged: bool) -> list[int]:
    """The positions that the group is asked to let go of, so that their message can end.

    An event that failed moves when all that is left of its message has failed too, or when the
    message has `aged`.
    """
    movable = held.left & held.failed & ~held.moving
    if not aged and held.left & ~(held.failed | held.moving):
        return []
    return [
        held.first + index + offset for index, count in runs(movable) for offset in range(count)
    ]
