"""The detector of loss: what publishers were promised, against what each group has handled."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Final

from actorbus.client.delivery import Delivery

COMPLETE_SECONDS: Final = 30.0


class GroupRecord:
    """What one group's instances saw.

    Attributes:
        missing: ids acknowledged to a publisher, and not handled here yet.
        handled: deliveries handled, by id.
        settled: ids whose settling the broker has confirmed as durable.
        returned: deliveries of an event after that, although it was published only once.
        attempts: the attempts seen of each event, by id.
    """

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.handled: Counter[str] = Counter()
        self.settled: set[str] = set()
        self.returned = 0
        self.attempts: defaultdict[str, list[int]] = defaultdict(list)

    def duplicates(self) -> int:
        """Deliveries beyond the first of their event."""
        return self.handled.total() - len(self.handled)

    def highest_attempt(self) -> int:
        """The highest attempt of any delivery; 0 without deliveries."""
        return max((max(attempts) for attempts in self.attempts.values()), default=0)


class Record:
    """Kept by the apps alone: it knows nothing of the broker's inside.

    Args:
        groups: app IDs, each of which must get every event.

    Attributes:
        acknowledged: ids of which a publisher has been told that they are durable.
        repeated: ids whose answer may have been lost, so that they may be in the log twice.
        groups: by app ID.
    """

    def __init__(self, groups: Iterable[str]) -> None:
        self.acknowledged: set[str] = set()
        self.repeated: set[str] = set()
        self.groups = {group: GroupRecord() for group in groups}
        self._unanswered: set[str] = set()
        self._changed = asyncio.Event()

    def publishing(self, ids: Iterable[str]) -> None:
        """A publish has been called."""
        self._unanswered.update(ids)

    def published(self, ids: Iterable[str]) -> None:
        """The broker has acknowledged these events to their publisher."""
        ids = set(ids)
        self.acknowledged |= ids
        self._unanswered -= ids
        for group in self.groups.values():
            group.missing.update(event_id for event_id in ids if event_id not in group.handled)
        self._changed.set()

    def interrupted(self) -> None:
        """A fault hits now: what is unanswered at this moment may be published twice."""
        self.repeated |= self._unanswered

    def delivered(self, app_id: str, delivery: Delivery) -> None:
        """An instance has an event in hand and is done with it."""
        group, event_id = self.groups[app_id], delivery.event["id"]
        if event_id in group.settled and event_id not in self.repeated:
            group.returned += 1
        group.attempts[event_id].append(delivery.attempt)
        group.handled[event_id] += 1
        group.missing.discard(event_id)
        self._changed.set()

    def settled(self, app_id: str, event_id: str) -> None:
        """The broker has confirmed that the settling of an event is durable."""
        self.groups[app_id].settled.add(event_id)
        self._changed.set()

    def lost(self) -> dict[str, int]:
        """For each group, how many acknowledged events it has not got."""
        return {app_id: len(group.missing) for app_id, group in self.groups.items()}

    def backlog(self) -> int:
        """How many acknowledged events the slowest group has not got yet."""
        return max(self.lost().values())

    async def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until the record says so; False if it never did."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def complete(self, seconds: float = COMPLETE_SECONDS) -> bool:
        """Wait until every group has everything that was acknowledged."""
        return await self.wait_for(lambda: self.backlog() == 0, seconds)
