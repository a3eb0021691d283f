"""The answer to `inspect`: what the store knows, beside what this broker has counted."""

from typing import TYPE_CHECKING

from actorbus.frames import GroupStatus, Inspect, Inspected, TopicStatus
from actorbus.store import GroupInfo, TopicInfo
from actors.cells import GroupCell, TopicCell
from actors.counters import GroupCounters

if TYPE_CHECKING:
    from actors.supervisor import Supervisor

PAGE_GROUPS = 1_000
"""Groups after which a page ends: some 200 KB."""

PAGE_TOPICS = 200
"""Topics of a page at most."""


async def inspect(supervisor: "Supervisor", request: Inspect) -> Inspected:
    """One page of topics and groups, in the order of topic names."""
    found = await supervisor.store.topics(
        after=request.after, limit=PAGE_TOPICS + 1, only=request.topic
    )
    page: list[TopicStatus] = []
    groups = 0
    for topic in found[:PAGE_TOPICS]:
        page.append(_topic(supervisor, topic))
        groups += len(topic.groups)
        if groups >= PAGE_GROUPS:
            break
    more = len(found) > len(page)
    return Inspected(request.ref, page, page[-1].topic if more else None)


def _topic(supervisor: "Supervisor", topic: TopicInfo) -> TopicStatus:
    cell = supervisor.topics.get(topic.topic)
    now = supervisor.clock.now().wall
    published = 0 if cell is None else cell.counters.published
    return TopicStatus(topic.topic, published, [_group(cell, group, now) for group in topic.groups])


def _group(topic: TopicCell | None, group: GroupInfo, now: int) -> GroupStatus:
    cell: GroupCell | None = None if topic is None else topic.groups.get(group.app_id)
    counters = GroupCounters() if cell is None else cell.counters
    return GroupStatus(
        app_id=group.app_id,
        instances=counters.instances,
        backlog=group.backlog,
        in_flight=counters.in_flight,
        delivered=counters.delivered,
        redelivered=counters.redelivered,
        dead_lettered=counters.dead_lettered,
        dropped=counters.dropped,
        oldest_ms=None if group.oldest_at is None else max(now - group.oldest_at, 0),
    )
