"""The instances of one group and the choice among them. Pure."""

import heapq

import msgspec

PIECE = 16
"""Events that an instance gets at a time under load: finer costs more than it evens out."""


class Member(msgspec.Struct):
    """An instance as its group sees it.

    Attributes:
        room: deliveries it would take, as it last said; None until it has answered `Opened`.
        offered: events offered and not answered for.
        late: it missed a deadline and has not settled anything in time since.
        leaving: unsubscribed, with leases left.
        turn: when it was last chosen; smaller is longer ago.
    """

    room: int | None = None
    offered: int = 0
    late: bool = False
    leaving: bool = False
    turn: int = 0


class Members:
    """All members of one group, and whose turn it is."""

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}
        self._leaving = 0
        self._turn = 0

    def __len__(self) -> int:
        return len(self._members)

    def get(self, key: int) -> Member | None:
        """A member, or None."""
        return self._members.get(key)

    def add(self, key: int) -> None:
        """Add a member, or let it come back."""
        member = self._members.setdefault(key, Member())
        self._leaving -= member.leaving
        member.leaving = False

    def leave(self, key: int) -> None:
        """A member wants nothing more."""
        member = self._members.get(key)
        if member is not None and not member.leaving:
            member.leaving = True
            self._leaving += 1

    def remove(self, key: int) -> None:
        """Forget a member."""
        member = self._members.pop(key, None)
        if member is not None:
            self._leaving -= member.leaving

    def subscribed(self) -> int:
        """Members that are not leaving."""
        return len(self._members) - self._leaving

    def room(self, held: dict[int, int]) -> int:
        """Events that they would take beside what they have been offered; `held` as in `share`."""
        total = late = 0
        for key, member in self._members.items():
            if not member.room or member.leaving:
                continue
            if not member.late:
                total += max(member.room - member.offered, 0)
            elif not member.offered and not held.get(key):
                late += 1
        return total or late

    def share(self, events: int, held: dict[int, int]) -> list[tuple[int, int]]:
        """Share out `events` events: (member, how many) in the order to hand them out.

        The one with the most room comes first, the one longest not chosen among equals. Late
        members get one event at a time, and only if nobody else has room.

        Args:
            events: how many are to be shared out.
            held: events leased, by member.
        """
        open_members = [
            (key, member)
            for key, member in self._members.items()
            if member.room and not member.leaving and not member.offered
        ]
        heap = [(-(m.room or 0), m.turn, key) for key, m in open_members if not m.late]
        if not heap:
            heap = [(-1, m.turn, key) for key, m in open_members if not held.get(key)]
        return self._deal(events, heap)

    def first(self, held: dict[int, int]) -> int | None:
        """The member for one event that travels alone, if anyone has room."""
        shares = self.share(1, held)
        return shares[0][0] if shares else None

    def _deal(self, events: int, heap: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
        heapq.heapify(heap)
        piece = 1 if events < PIECE * len(heap) else max(PIECE, events // max(len(heap), 1))
        if len(heap) == 1:
            piece = events
        shares: list[tuple[int, int]] = []
        while events and heap:
            room, _, key = heapq.heappop(heap)
            count = min(piece, events, -room)
            shares.append((key, count))
            events -= count
            self._turn += 1
            self._members[key].turn = self._turn
            if room + count:
                heapq.heappush(heap, (room + count, self._turn, key))
        return shares
