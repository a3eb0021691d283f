"""The store port over lists (`actorbus.store` says what each call owes)."""

from collections.abc import Callable, Mapping, Sequence

from actorbus.errors import StoreUnavailableError, StoreUnusableError
from actorbus.store import (
    Abilities,
    Appended,
    Attempt,
    Feed,
    FeedListener,
    Fetched,
    GroupOptions,
    Start,
    Stored,
    TopicInfo,
)
from actorbus_example.log import Group, Topic


class ExampleStore:
    """A log store that keeps nothing beyond the process."""

    abilities = Abilities(
        log=True, earliest=False, exact_backlog=True, shared_options=True, settles_singly=True
    )

    def __init__(self) -> None:
        self._topics: dict[str, Topic] = {}
        self._reason: str | None = "the example store is not open"

    async def open(self, failed: Callable[[StoreUnusableError], None]) -> None:
        """Make ready; lists never fail, so nobody is told later."""
        del failed
        self._reason = None

    async def close(self) -> None:
        """Forget all."""
        self._reason = "the example store is closed"
        self._topics.clear()

    def health(self) -> str | None:
        """None while it is open."""
        return self._reason

    async def append(
        self, topic: str, events: tuple[bytes, ...], expires_at: int | None
    ) -> Appended:
        """Keep a batch."""
        found = self._topic(topic)
        return Appended(found.append(events, expires_at), len(found.groups))

    async def join(
        self, topic: str, app_id: str, changes: Mapping[str, int | str | None], start: Start
    ) -> GroupOptions:
        """Create a group or change its options; `earliest` never comes here without its ability."""
        del start
        found = self._topic(topic)
        group = found.groups.setdefault(app_id, Group(found.next))
        group.options = group.options.changed(changes)
        return group.options

    async def find(self, topic: str, app_id: str) -> GroupOptions | None:
        """A group's options."""
        group = self._topic(topic).groups.get(app_id)
        return None if group is None else group.options

    async def forget(self, topic: str, app_id: str) -> bool:
        """Remove a group."""
        found = self._topic(topic)
        found.groups.pop(app_id, None)
        found.trim()
        return True

    async def feed(self, topic: str, app_id: str, listener: FeedListener) -> Feed:
        """Open a feed; a log store has no use for the listener."""
        del listener
        found = self._topic(topic)
        if app_id not in found.groups:
            raise StoreUnavailableError(f"there is no group of {app_id} on {topic}")
        return ExampleFeed(found, found.groups[app_id])

    async def topics(
        self, *, after: str | None, limit: int, only: str | None = None
    ) -> list[TopicInfo]:
        """Topics that have groups, by name."""
        self._check()
        names = sorted(name for name, topic in self._topics.items() if topic.groups)
        wanted = [
            name for name in names if (only or name) == name and (after is None or name > after)
        ]
        return [self._topics[name].info() for name in wanted[:limit]]

    def _topic(self, name: str) -> Topic:
        self._check()
        return self._topics.setdefault(name, Topic(name))

    def _check(self) -> None:
        if self._reason is not None:
            raise StoreUnavailableError(self._reason)


class ExampleFeed:
    """One group's side."""

    def __init__(self, topic: Topic, group: Group) -> None:
        self._topic = topic
        self._group = group
        self.position = group.floor

    async def fetch(self, position: int, max_bytes: int) -> Fetched:
        """At least one batch that the group wants something of, then up to `max_bytes`."""
        runs: list[Stored] = []
        size = 0
        for batch in self._topic.batches:
            if size >= max_bytes:
                break
            end = batch.first + len(batch.events)
            found = self._group.runs(batch, position) if end > position else []
            if found:
                runs += found
                position, size = end, size + batch.size
        return Fetched(tuple(runs), position)

    async def settle(self, runs: Sequence[tuple[int, int]], *, awaited: bool = True) -> None:
        """Done with these, at once: there is nothing to share a commit with."""
        del awaited
        for first, count in runs:
            self._group.settle(first, count)
        self._topic.trim()

    async def attempted(self, attempts: Sequence[Attempt]) -> None:
        """Note their histories."""
        for attempt in attempts:
            if self._group.wants(attempt.position):
                self._group.attempts[attempt.position] = attempt

    async def move(self, attempt: Attempt) -> None:
        """Never asked for: a log store evicts nothing."""
        raise StoreUnavailableError(f"nothing was evicted, not {attempt.position} either")

    async def release(self, runs: Sequence[tuple[int, int]]) -> int:
        """Where to read from next: all that is not settled is still here."""
        del runs
        return self._group.floor

    async def close(self) -> None:
        """Nothing is held."""
