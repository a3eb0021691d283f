"""One topic as a log: batches in order, and what each group has settled of them."""

import time

from actorbus.store import Attempt, Batch, GroupInfo, GroupOptions, Stored, TopicInfo


class Group:
    """A group's progress.

    Attributes:
        floor: everything below is settled.
        settled: what is settled from there on.
        attempts: of events that were tried and are not settled.
    """

    def __init__(self, floor: int) -> None:
        self.options = GroupOptions()
        self.floor = floor
        self.settled: set[int] = set()
        self.attempts: dict[int, Attempt] = {}

    def settle(self, first: int, count: int) -> None:
        """Done with these positions."""
        for position in range(max(first, self.floor), first + count):
            self.settled.add(position)
            self.attempts.pop(position, None)
        while self.floor in self.settled:
            self.settled.remove(self.floor)
            self.floor += 1

    def wants(self, position: int) -> bool:
        """Whether it is not settled."""
        return position >= self.floor and position not in self.settled

    def runs(self, batch: Batch, start: int) -> list[Stored]:
        """What it wants of a batch from a position on, one by one (joining runs saves time)."""
        found = []
        for index in range(max(0, start - batch.first), len(batch.events)):
            position = batch.first + index
            if self.wants(position):
                known = self.attempts.get(position, Attempt(position, 0, 0, 0))
                found.append(Stored(batch, index, 1, known.attempts, known.lost, known.not_before))
        return found


class Topic:
    """A topic's log. It outlives its groups, so that no position comes twice."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.next = 0
        self.batches: list[Batch] = []
        self.groups: dict[str, Group] = {}
        self._appended_at: dict[int, int] = {}

    def append(self, events: tuple[bytes, ...], expires_at: int | None) -> Batch | None:
        """Keep a batch if any group wants it."""
        if not self.groups:
            return None
        batch = Batch(self.next, events, sum(map(len, events)), expires_at)
        self.next += len(events)
        self.batches.append(batch)
        self._appended_at[batch.first] = time.time_ns() // 1_000_000
        return batch

    def trim(self) -> None:
        """Drop batches that every group has settled."""
        floor = min((group.floor for group in self.groups.values()), default=self.next)
        while self.batches and self.batches[0].first + len(self.batches[0].events) <= floor:
            del self._appended_at[self.batches.pop(0).first]

    def info(self) -> TopicInfo:
        """The topic as `inspect` shows it."""
        return TopicInfo(
            self.name, tuple(self._info(app_id, group) for app_id, group in self.groups.items())
        )

    def _info(self, app_id: str, group: Group) -> GroupInfo:
        backlog = self.next - group.floor - len(group.settled)
        oldest = next((batch for batch in self.batches if group.runs(batch, 0)), None)
        at = None if oldest is None else self._appended_at[oldest.first]
        return GroupInfo(app_id, backlog, at)
