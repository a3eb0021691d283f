"""What outlives an actor: the supervisor's entries for topics, groups and connections."""

import asyncio

from actorbus.limits import TOPIC_PENDING_BYTES
from actorbus.store import Feed
from actors.budget import Budget
from actors.counters import GroupCounters, TopicCounters
from actors.runtime import Ref


class Failures:
    """When something failed lately, for the back-off and the escalation.

    Attributes:
        limit: failures within `SPAN_MS` after which it is escalated.
    """

    SPAN_MS = 60_000
    FIRST_PAUSE = 0.05
    LONGEST_PAUSE = 1.5

    def __init__(self, limit: int = 5) -> None:
        self.limit = limit
        self._times: list[int] = []

    def add(self, now: int) -> float | None:
        """Count a failure: the seconds to wait before the restart, or None to escalate."""
        self._times = [time for time in self._times if time > now - self.SPAN_MS]
        self._times.append(now)
        if len(self._times) > self.limit:
            self._times.clear()
            return None
        return float(min(self.FIRST_PAUSE * 2 ** (len(self._times) - 1), self.LONGEST_PAUSE))


class GroupCell:
    """One group of one topic in this broker.

    Attributes:
        ref: its actor; None while it sleeps or is about to be restarted.
        generation: of the newest actor.
        members: the subscribed instances, by member.
        holders: all that may have leases: the members, and those that have unsubscribed.
        in_use: it counts against `groups_per_app`.
        feed: the open one, under `feed_lock`.
    """

    def __init__(self, topic: str, app_id: str) -> None:
        self.topic = topic
        self.app_id = app_id
        self.ref: Ref | None = None
        self.generation = 0
        self.members: dict[int, Ref] = {}
        self.holders: dict[int, Ref] = {}
        self.in_use = False
        self.counters = GroupCounters()
        self.failures = Failures()
        self.feed: Feed | None = None
        self.feed_lock = asyncio.Lock()

    def others(self, member: int) -> bool:
        """Whether an instance other than this one is subscribed."""
        return bool(self.members.keys() - {member})

    def awake(self) -> bool:
        """Whether it has an actor, or is about to."""
        return self.ref is not None or bool(self.members)


class TopicCell:
    """One topic in this broker.

    Attributes:
        ref: its actor; None while it sleeps or is about to be restarted.
        groups: by app ID, those that have been awake in this broker.
        budget: bounds the bytes that wait for the store.
        failing: its actor has failed and will be restarted after a pause.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.ref: Ref | None = None
        self.groups: dict[str, GroupCell] = {}
        self.counters = TopicCounters()
        self.failures = Failures()
        self.budget = Budget(TOPIC_PENDING_BYTES)
        self.failing = False

    def awake(self) -> bool:
        """Whether a group is awake or about to be."""
        return any(group.awake() for group in self.groups.values())


class Connection:
    """One connected instance.

    Attributes:
        groups: those that it is or was a member of, and may hold leases of.
    """

    def __init__(self, ref: Ref, app_id: str) -> None:
        self.ref = ref
        self.app_id = app_id
        self.groups: set[GroupCell] = set()
