"""The window of one connection: its delivery ids and what they stand for. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from actors import bits
from actors.messages import Piece, Run


class Grant:
    """Delivery ids `first_id` … `first_id + count - 1`, leased from one generation of a group.

    Attributes:
        open: the offsets still unsettled, as bits.
    """

    __slots__ = ("count", "first_id", "generation", "open", "topic")

    def __init__(self, topic: str, generation: int, first_id: int, count: int) -> None:
        self.topic = topic
        self.generation = generation
        self.first_id = first_id
        self.count = count
        self.open = bits.mask(0, count)


class Window:
    """Bounds and accounts for what is in flight on one connection, over all its topics.

    Args:
        limit: most unsettled deliveries (`max_in_flight`).
        first_id: the first delivery id; drawn at random below 2^52 (protocol: delivery ids).
    """

    def __init__(self, limit: int, first_id: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self._next_id = first_id
        self._grants: dict[int, Grant] = {}
        self._firsts: list[int] = []

    def room(self) -> int:
        """Deliveries that fit."""
        return max(self.limit - self.in_flight, 0)

    def grant(self, topic: str, generation: int, run: Run) -> int:
        """Put a run in flight; its first delivery id."""
        first_id = self._next_id
        self._next_id += run.count
        self._grants[first_id] = Grant(topic, generation, first_id, run.count)
        self._firsts.append(first_id)
        self.in_flight += run.count
        return first_id

    def next_id(self) -> int:
        """The id that the next delivery gets."""
        return self._next_id

    def settle(self, ids: Sequence[int]) -> tuple[dict[str, list[Piece]], list[int]]:
        """Take ids out of flight: the pieces by topic, and the ids that were stale."""
        return self._match(ids, close=True)

    def held(self, ids: Sequence[int]) -> tuple[dict[str, list[Piece]], list[int]]:
        """The pieces in flight that these ids name, and the ids that were stale."""
        return self._match(ids, close=False)

    def revoke(self, topic: str, generation: int, pieces: Iterable[Piece]) -> None:
        """The group has ended these leases."""
        for first_id, offset, count in pieces:
            grant = self._grants.get(first_id)
            if grant is not None and (grant.topic, grant.generation) == (topic, generation):
                self._close(grant, grant.open & bits.mask(offset, count))

    def forget(self, topic: str, below: int | None = None) -> None:
        """Drop what is in flight of a topic, of all generations or those below one."""
        for grant in list(self._grants.values()):
            if grant.topic == topic and (below is None or grant.generation < below):
                self._close(grant, grant.open)

    def generation(self, first_id: int) -> int | None:
        """The generation that a grant is of."""
        grant = self._grants.get(first_id)
        return None if grant is None else grant.generation

    def topics(self) -> set[str]:
        """Topics with something in flight."""
        return {grant.topic for grant in self._grants.values()}

    def _match(
        self, ids: Sequence[int], *, close: bool
    ) -> tuple[dict[str, list[Piece]], list[int]]:
        pieces: dict[str, list[Piece]] = {}
        stale: list[int] = []
        for first, count in consecutive(ids):
            for grant, chosen in self._find(first, count, stale):
                pieces.setdefault(grant.topic, []).extend(
                    (grant.first_id, offset, length) for offset, length in bits.runs(chosen)
                )
                if close:
                    self._close(grant, chosen)
        return pieces, stale

    def _find(self, first: int, count: int, stale: list[int]) -> Iterator[tuple[Grant, int]]:
        """The open parts of grants within a run of ids; the other ids go to `stale`."""
        end = first + count
        while first < end:
            place = bisect_right(self._firsts, first)
            grant = self._grants[self._firsts[place - 1]] if place else None
            if grant is None or first >= grant.first_id + grant.count:
                until = min(end, self._firsts[place]) if place < len(self._firsts) else end
                stale += range(first, until)
                first = until
                continue
            until = min(end, grant.first_id + grant.count)
            wanted = bits.mask(first - grant.first_id, until - first)
            chosen = grant.open & wanted
            if chosen != wanted:
                for offset, length in bits.runs(wanted & ~chosen):
                    stale += range(grant.first_id + offset, grant.first_id + offset + length)
            if chosen:
                yield grant, chosen
            first = until

    def _close(self, grant: Grant, chosen: int) -> None:
        grant.open &= ~chosen
        self.in_flight -= chosen.bit_count()
        if not grant.open:
            del self._grants[grant.first_id]
            del self._firsts[bisect_right(self._firsts, grant.first_id) - 1]


def consecutive(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Ids as (first, count) of ascending neighbours, in the order given."""
    if not ids:
        return []
    first, count = ids[0], len(ids)
    if ids[-1] - first == count - 1 and list(ids) == list(range(first, first + count)):
        return [(first, count)]  # what clients send that settle in order: compared in C
    found: list[tuple[int, int]] = []
    start = expected = first
    for number in ids:
        if number != expected:
            found.append((start, expected - start))
            start = number
        expected = number + 1
    found.append((start, expected - start))
    return found
