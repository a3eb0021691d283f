"""What apps were told and what they said, as seen from outside the broker."""

from collections import defaultdict

import msgspec

Group = tuple[str, str]
"""A topic and an app ID."""


class Lease(msgspec.Struct, frozen=True):
    """One delivery: of which event, to which connection, at which attempt."""

    connection: int
    identifier: int
    event: int
    attempt: int


class Books:
    """The books on every event of every group.

    An acknowledgement that was asked for and not answered may have been applied or not: what an
    app *said* is kept beside what the broker answered, and both have to fit what is delivered.

    Attributes:
        durable: events answered with `published`.
        said: events that an app has settled with SUCCESS, whether that was answered or not.
        acked: events whose SUCCESS was answered, and was not stale.
        wrong: promises broken. They are noted and not raised: it is an actor that writes here,
            and an actor that fails is restarted.
    """

    def __init__(self) -> None:
        self.durable: set[int] = set()
        self.said: defaultdict[Group, set[int]] = defaultdict(set)
        self.acked: defaultdict[Group, set[int]] = defaultdict(set)
        self.wrong: list[str] = []
        self._newest: dict[tuple[Group, int], Lease] = {}
        self._least: dict[tuple[Group, int], int] = {}

    def claim(self, promise: str, about: object, *, kept: bool) -> None:
        """Note a promise that was not kept."""
        if not kept:
            self.wrong.append(f"{promise}: {about}")

    def check(self) -> None:
        """Raise what has been noted."""
        assert not self.wrong, f"{len(self.wrong)} promises broken, first: {self.wrong[0]}"

    def delivered(self, group: Group, lease: Lease) -> None:
        """The broker has sent a delivery."""
        key = group, lease.event
        back = lease.event in self.acked[group]
        self.claim("a settled event does not come back", lease, kept=not back)
        counted = lease.attempt >= self._least.get(key, 1)
        self.claim("no attempt is forgotten", lease, kept=counted)
        self._newest[key] = lease
        self._least[key] = lease.attempt

    def answered(self, group: Group, lease: Lease, status: str) -> None:
        """The broker has answered an acknowledgement of a lease that was held."""
        key = group, lease.event
        if status == "RETRY":
            self._least[key] = max(self._least.get(key, 1), lease.attempt + 1)
            return
        newest = self._newest.get(key) == lease
        self.claim("an event has one live lease", lease, kept=newest)
        if status == "SUCCESS":
            once = lease.event not in self.acked[group]
            self.claim("an event is settled once", lease, kept=once)
            self.acked[group].add(lease.event)

    def lost(self, group: Group, dead: Group | None = None) -> set[int]:
        """Durable events that nobody in a group is done with.

        Args:
            group: that should have had everything.
            dead: where it finds what it has given up.
        """
        done = set(self.said[group])
        if dead is not None:
            done |= self.said[dead]
        return self.durable - done
