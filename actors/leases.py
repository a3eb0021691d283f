"""The leases of one group: which events are out at which member, and until when. Pure."""

import heapq
from collections.abc import Iterable, Iterator

from actors import bits
from actors.messages import Piece, Run

SLACK = 256
"""Outdated deadlines that are not worth the work of dropping them."""


class Lease:
    """One grant: a run of events whose delivery ids at a member start at `first_id`.

    Attributes:
        terms: (deadline, offsets as bits) of the events still open; usually one, more once a
            client has extended some of them.
        started: when the events were taken, milliseconds, monotonic.
    """

    __slots__ = ("first_id", "member", "run", "started", "terms")

    def __init__(self, member: int, first_id: int, run: Run, started: int, deadline: int) -> None:
        self.member = member
        self.first_id = first_id
        self.run = run
        self.started = started
        self.terms = [(deadline, bits.mask(0, run.count))]

    def open(self) -> int:
        """The open offsets as bits."""
        if len(self.terms) == 1:
            return self.terms[0][1]
        total = 0
        for _, part in self.terms:
            total |= part
        return total

    def close(self, chosen: int) -> None:
        """End these offsets."""
        self.terms = [(at, part & ~chosen) for at, part in self.terms if part & ~chosen]

    def postpone(self, chosen: int, deadline: int) -> None:
        """Give these open offsets another deadline."""
        self.close(chosen)
        self.terms.append((deadline, chosen))

    def overdue(self, now: int) -> int:
        """The open offsets whose deadline has come, as bits."""
        late = 0
        for at, part in self.terms:
            if at <= now:
                late |= part
        return late

    def ends_at(self, deadline: int) -> bool:
        """Whether an open offset has this deadline."""
        return any(at == deadline for at, _ in self.terms)

    def pieces(self, chosen: int) -> list[Piece]:
        """These offsets as pieces."""
        return [(self.first_id, offset, count) for offset, count in bits.runs(chosen)]

    def runs(self, chosen: int) -> list[Run]:
        """The events at these offsets."""
        if chosen.bit_count() == self.run.count:
            return [self.run]
        return [self.run.part(offset, count) for offset, count in bits.runs(chosen)]


class LeaseTable:
    """All leases of one group.

    Attributes:
        count: events leased.
        held: events leased, by member.
    """

    def __init__(self) -> None:
        self.count = 0
        self.held: dict[int, int] = {}
        self._leases: dict[int, dict[int, Lease]] = {}
        self._deadlines: list[tuple[int, int, int]] = []
        self._compact_at = SLACK

    def grant(self, member: int, first_id: int, run: Run, now: int, wait: int) -> None:
        """Begin a lease that ends `wait` ms from now."""
        mine = self._leases.get(member)
        if mine is None:
            mine = self._leases[member] = {}
        mine[first_id] = Lease(member, first_id, run, now, now + wait)
        self._account(member, run.count)
        self._watch(now + wait, member, first_id)

    def settle(self, member: int, pieces: Iterable[Piece]) -> tuple[list[Run], list[Piece]]:
        """End the leases of these pieces: the events that were held, and what was stale."""
        runs: list[Run] = []
        stale: list[Piece] = []
        for lease, held in self._find(member, pieces, stale):
            runs += lease.runs(held)
            self._close(lease, held)
        return runs, stale

    def extend(
        self, member: int, pieces: Iterable[Piece], now: int, wait: int, longest: int | None
    ) -> list[Piece]:
        """Let these pieces end `wait` ms from now, no lease longer than `longest`.

        Returns:
            What was stale.
        """
        stale: list[Piece] = []
        for lease, held in self._find(member, pieces, stale):
            end = now + wait if longest is None else min(now + wait, lease.started + longest)
            lease.postpone(held, end)
            self._watch(end, member, lease.first_id)
        return stale

    def expire(self, now: int) -> Iterator[tuple[Lease, int]]:
        """End what is overdue: each lease with the offsets (bits) that it lost."""
        while self._deadlines and self._deadlines[0][0] <= now:
            _, member, first_id = heapq.heappop(self._deadlines)
            lease = self._get(member, first_id)
            late = 0 if lease is None else lease.overdue(now)
            if lease is not None and late:
                self._close(lease, late)
                yield lease, late

    def drop(self, member: int) -> list[Run]:
        """End all leases of a member: its events, in order of position."""
        leases = self._leases.pop(member, {}).values()
        self.count -= self.held.pop(member, 0)
        runs = [run for lease in leases for run in lease.runs(lease.open())]
        runs.sort(key=lambda run: run.position)
        return runs

    def none_before(self, at: int) -> bool:
        """Whether no lease ends before this; False if that is not known at once."""
        return not self._deadlines or self._deadlines[0][0] >= at

    def next_deadline(self) -> int | None:
        """When `expire` next has something to do, or None."""
        while self._deadlines:
            at, member, first_id = self._deadlines[0]
            lease = self._get(member, first_id)
            if lease is not None and lease.ends_at(at):
                return at
            heapq.heappop(self._deadlines)
        return None

    def _get(self, member: int, first_id: int) -> Lease | None:
        mine = self._leases.get(member)
        return None if mine is None else mine.get(first_id)

    def _find(
        self, member: int, pieces: Iterable[Piece], stale: list[Piece]
    ) -> Iterator[tuple[Lease, int]]:
        """Each lease with the offsets (bits) that are held of a piece; the rest goes to `stale`."""
        for piece in pieces:
            first_id, offset, count = piece
            lease = self._get(member, first_id)
            if lease is None:
                stale.append(piece)
                continue
            chosen = bits.mask(offset, count)
            held = lease.open() & chosen
            if held != chosen:
                stale += lease.pieces(chosen & ~held)
            if held:
                yield lease, held

    def _watch(self, deadline: int, member: int, first_id: int) -> None:
        """Look at a lease at its deadline.

        A lease that ends early leaves its entry in the heap. One old lease at the top would keep
        them all, for minutes at thousands a second, so they are dropped once they are the half.
        """
        heapq.heappush(self._deadlines, (deadline, member, first_id))
        if len(self._deadlines) < self._compact_at:
            return
        self._deadlines = [
            (at, lease.member, lease.first_id)
            for mine in self._leases.values()
            for lease in mine.values()
            for at, _ in lease.terms
        ]
        heapq.heapify(self._deadlines)
        self._compact_at = 2 * len(self._deadlines) + SLACK

    def _close(self, lease: Lease, chosen: int) -> None:
        lease.close(chosen)
        self._account(lease.member, -chosen.bit_count())
        if not lease.terms:
            mine = self._leases[lease.member]
            del mine[lease.first_id]
            if not mine:
                del self._leases[lease.member]

    def _account(self, member: int, change: int) -> None:
        self.count += change
        left = self.held.get(member, 0) + change
        if left:
            self.held[member] = left
        else:
            self.held.pop(member, None)
