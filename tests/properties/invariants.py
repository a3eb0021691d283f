"""Everything that must hold after a turn of the group."""

from typing import TYPE_CHECKING

from actors import messages as msg
from actors.group_state import GroupState
from tests.properties.instance import ids
from tests.properties.model_store import EVENT_BYTES, QueueStore, number

if TYPE_CHECKING:
    from tests.properties.world import World

MOST_OUTSTANDING = 12
"""Instead of `GROUP_OUTSTANDING`, so that a few events reach it."""

READ_AHEAD = 60
"""Instead of `GROUP_READ_AHEAD_BYTES`."""

MOST_PUBLISHED = 6
"""Events of one batch."""


def check_group(world: "World", group: GroupState) -> None:
    """No event is lost or in two places, the books agree, and no bound is exceeded."""
    _check_leases(world, group)
    _check_places(world, group)
    _check_counts(world, group)
    for event in world.store.truth:
        kept = (event.kept_attempts, event.kept_lost)
        assert event.settled or kept == (event.attempts, event.lost), "attempts are miscounted"
    _check_instances(world)
    # events that a store wants moved count while they move, and were first attempts before
    most = MOST_OUTSTANDING
    if isinstance(world.store, QueueStore):
        most += READ_AHEAD // EVENT_BYTES + MOST_PUBLISHED
    assert group.outstanding() <= most, "too much outstanding"


def _check_leases(world: "World", group: GroupState) -> None:
    theirs = {
        (member, lease.first_id + at): (number(lease.run.events()[at]), deadline)
        for member, mine in group.leases._leases.items()
        for lease in mine.values()
        for deadline, part in lease.terms
        for at in range(lease.run.count)
        if part >> at & 1
    }
    ours = {key: (lease.event, lease.deadline) for key, lease in world.books.leases.items()}
    assert theirs == ours, "leases differ from the books"
    assert group.leases.count == len(ours), "leases are miscounted"
    assert sum(group.leases.held.values()) == len(ours), "leases are miscounted by member"
    held = [event for event, _ in ours.values()]
    assert len(held) == len(set(held)), "two leases of one event"
    earliest = min((deadline for _, deadline in ours.values()), default=None)
    early = world.timer is not None and earliest is not None and world.timer <= earliest
    assert early or earliest is None or world.inboxes["self"], "no timer for a deadline"


def _check_places(world: "World", group: GroupState) -> None:
    """Each unsettled event that has been read is in exactly one place."""
    truth = world.store.truth
    found = inside(world, group)
    assert len(found) == len(set(found)), "an event is in two places"
    assert not any(truth[event].settled for event in found), "a settled event is kept"
    reading = group._reading
    if isinstance(world.store, QueueStore):
        every = found + world.store.outside() + _fetched(world) + world.calls.transit
        wanted = [at for at, event in enumerate(truth) if not event.settled]
        assert sorted(every) == wanted, "an event is lost, or in two places"
    elif reading.position is not None:
        read = 0 if reading.releasing else reading.position
        wanted = [at for at in range(read) if not truth[at].settled]
        assert sorted(found) == wanted, "an event is lost"


def inside(world: "World", group: GroupState) -> list[int]:
    """Every event in the group's hands, but for those being moved."""
    line = group.line
    runs = [*line.fresh, *line.again, *line.alone, *(one[2] for one in line._delayed)]
    runs += [run for offer in group._offers._runs.values() for run in offer]
    runs += [dying.run for dying in group._endings.letters._dying.values()]
    leased = [lease.event for lease in world.books.leases.values()]
    return leased + [number(event) for run in runs for event in run.events()]


def _fetched(world: "World") -> list[int]:
    return [
        number(event)
        for message in world.inboxes["store"]
        if isinstance(message, msg.FetchDone) and message.fetched is not None
        for run in message.fetched.runs
        for event in run.batch.events[run.index : run.index + run.count]
    ]


def _check_counts(world: "World", group: GroupState) -> None:
    line = group.line
    fresh = [run.position for run in line.fresh]
    assert fresh == sorted(fresh), "first attempts wait out of order"
    assert line.again_count == sum(run.count for run in line.again)
    assert line._delayed_count == sum(entry[2].count for entry in line._delayed)
    assert line.fresh_bytes == EVENT_BYTES * sum(run.count for run in line.fresh)
    assert group.tally.in_flight == len(world.books.leases)


def _check_instances(world: "World") -> None:
    """What instances hold is leased, about to be, or about to be taken from them."""
    holders: dict[int, int] = {}
    for instance in world.here():
        window = instance.deliveries.state.window
        assert window.in_flight == len(instance.live), "window miscounted"
        doomed = {
            identifier
            for message in instance.inbox
            if isinstance(message, msg.Revoke) and message.generation == world.generation
            for identifier in ids(message.pieces)
        }
        for identifier, held in instance.live.items():
            if held.generation != world.generation or identifier in doomed:
                continue
            other = holders.setdefault(held.event, instance.member)
            assert other == instance.member, "two instances hold one event"
