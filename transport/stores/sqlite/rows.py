"""Topics and groups of the SQLite store in memory, and the rows they are kept in."""

import msgspec.msgpack

from actorbus.store import GroupOptions
from transport.stores.log import LogGroup, LogTopic, Range
from transport.stores.settled import SettledSet
from transport.stores.sqlite.changes import Row, pack

_options = msgspec.msgpack.Decoder(GroupOptions)
_ranges = msgspec.msgpack.Decoder(list[Range])


class GroupRow(LogGroup):
    """A group with its row.

    Attributes:
        id: its row's.
        topic: whose events it gets.
        changed: positions whose history is not written yet; one without history is to be removed.
        forgotten: its row is gone, and it must not be written again.
        open: it has a feed.
        loaded: its attempts are in memory.
    """

    __slots__ = ("changed", "forgotten", "id", "loaded", "open", "topic")

    def __init__(
        self,
        group_id: int,
        topic: "TopicRow",
        app_id: str,
        options: GroupOptions,
        settled: SettledSet,
    ) -> None:
        super().__init__(app_id, options, settled)
        self.id = group_id
        self.topic = topic
        self.changed: set[int] = set()
        self.forgotten = False
        self.open = False
        self.loaded = False

    @classmethod
    def read(cls, topic: "TopicRow", row: Row) -> "GroupRow":
        """The group of a row: id, topic_id, app_id, options, floor, settled."""
        group_id, _, app_id, options, floor, packed = row
        settled = SettledSet.from_bytes(floor, packed)
        return cls(group_id, topic, app_id, _options.decode(options), settled)

    def row(self) -> Row:
        """Its row."""
        options = pack(self.options)
        packed = self.settled.to_bytes()
        return self.id, self.topic.id, self.app_id, options, self.settled.floor, packed

    def weight(self) -> int:
        """How much its rows are to make: numbers in them."""
        return 2 * self.settled.count() + len(self.changed)

    def attempt_rows(self) -> tuple[list[Row], list[Row]]:
        """Rows of `attempts` to be written, and keys of those to be removed."""
        kept: list[Row] = []
        settled: list[Row] = []
        for position in self.changed:
            known = self.attempts.get(position)
            if known is None:
                settled.append((self.id, position))
            else:
                kept.append((self.id, position, known.attempts, known.lost, known.not_before))
        return kept, settled

    def written(self) -> None:
        """Its row and its attempts' are durable; without a feed these can be read again."""
        self.changed.clear()
        if not self.open:
            self.attempts.clear()
            self.loaded = False


class TopicRow(LogTopic[GroupRow]):
    """A topic with its row.

    Attributes:
        id: its row's.
        saved: the gone ranges above the floor, as last written.
    """

    __slots__ = ("id", "saved")

    def __init__(self, topic_id: int, name: str, start: int) -> None:
        super().__init__(name, start)
        self.id = topic_id
        self.saved: list[Range] = []

    @classmethod
    def read(cls, row: Row, groups: list[Row], span: Range | None) -> "TopicRow":
        """The topic of a row (id, name, gone), of its groups' rows and of its batches' span.

        Where it ends follows from these: no event is beyond the last batch and beyond all that
        any group has settled. That saves writing a row of the topic with each append.
        """
        topic_id, name, gone = row
        topic = cls(topic_id, name, 0)
        for group_row in groups:
            group = GroupRow.read(topic, group_row)
            topic.groups[group.app_id] = group
        settled = max((group.settled.top() for group in topic.groups.values()), default=0)
        topic.next = max(settled, span[1] if span is not None else 0)
        topic.saved = _ranges.decode(gone)
        topic.gone = SettledSet(topic.next if span is None else span[0], topic.saved)
        return topic

    def row(self) -> Row:
        """Its row."""
        return self.id, self.name, pack(self.gone.ranges())

    def buried(self) -> Row:
        """Its row once no group is left: without a name, until its batches are removed."""
        return self.id, None, pack([])
