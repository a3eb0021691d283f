"""The log of the SQLite store: topics and groups in memory, batches in the storage.

All of it belongs to the writer's thread, or for a commit to the loop (`fast_path`). What is changed
in memory is taken back when the commit fails, but for settling and attempts: these stay, marked as
not yet written.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import apsw
import msgspec

from actorbus.errors import StoreError, StoreUnavailableError
from actorbus.store import (
    Appended,
    Attempt,
    Batch,
    Fetched,
    GroupInfo,
    GroupOptions,
    Start,
    Stored,
    TopicInfo,
)
from transport.stores.disk import DiskSpace
from transport.stores.log import FETCH_BATCHES, page
from transport.stores.sqlite.changes import Changes, Row, pack
from transport.stores.sqlite.journal_file import JournalFile
from transport.stores.sqlite.kernel_writes import KernelWrites
from transport.stores.sqlite.rows import GroupRow, TopicRow
from transport.stores.sqlite.schema import damaged_at_work, meaning
from transport.stores.sqlite.storage import Storage
from transport.stores.sqlite.trim import Trimmer

RETRY_SECONDS: Final = 1.0
"""How soon what could not be written is tried again when no call does so before."""

CALM_SECONDS: Final = 0.002
"""A commit that begins so long before the tables have to be read surely does not read them."""

MOST_WEIGHT: Final = 2_000
"""Numbers in the rows of groups that a commit on the loop makes, some 0.1 ms of its time."""


class SqliteLog:
    """What the thread does with the file.

    Args:
        connection: the open database; closed by `close`.
        retain_ms: how long batches are kept at least.
        clock: the wall clock, in milliseconds.
        disk: tells when nothing new may be kept.
        open_journal: opens the journal's file.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        retain_ms: int,
        clock: Callable[[], int],
        disk: DiskSpace,
        open_journal: Callable[[Path], JournalFile] = JournalFile,
    ) -> None:
        self.reason: str | None = None
        self._connection = connection
        self._storage = Storage(connection, open_journal)
        self._retain_ms = retain_ms
        self._clock = clock
        self._disk = disk
        self._trimmer = Trimmer(self._storage, retain_ms=retain_ms, clock=clock)
        self._changes = Changes()
        self._started: tuple[Changes, Sequence[GroupRow]] = (self._changes, ())
        self._dirty: set[GroupRow] = set()
        self._topics: dict[str, TopicRow] = {}
        self._last_id = 0
        self._start = 0
        try:
            self._load()
        except BaseException:
            self._storage.close(broken=True)
            raise

    def _load(self) -> None:
        groups: defaultdict[int, list[Row]] = defaultdict(list)
        for row in self._storage.groups():
            groups[row[1]].append(row)
            self._last_id = max(self._last_id, row[0])
        for row in self._storage.topics():
            self._last_id = max(self._last_id, row[0])
            if row[1] is None:
                self._trimmer.bury(row[0])
                continue
            topic = TopicRow.read(row, groups[row[0]], self._storage.span(row[0]))
            self._topics[topic.name] = topic
            self._trimmer.whole(topic)

    # Writes: each returns at once, and is durable with the next commit.

    def append(self, name: str, events: tuple[bytes, ...], expires_at: int | None) -> Appended:
        """Add a batch, unless no group wants it and nothing is retained."""
        topic = self._topics.get(name)
        if not self._retain_ms and (topic is None or not topic.groups):
            return Appended(None, 0)
        self._need_room()
        if topic is None:
            topic = self._create(name)
        batch = Batch(topic.next, events, sum(map(len, events)), expires_at)
        self._changes.on_failure(partial(setattr, topic, "next", topic.next))
        topic.next += len(events)
        created_at = self._clock()
        packed = pack(events)
        row = (topic.id, batch.first, len(events), expires_at, created_at, packed)
        self._changes.batches.append(row)
        return Appended(batch, len(topic.groups))

    def join(
        self, name: str, app_id: str, changes: Mapping[str, int | str | None], start: Start
    ) -> GroupOptions:
        """Create a group or change its options."""
        topic = self._topics.get(name)
        group = topic.groups.get(app_id) if topic is not None else None
        if group is None:
            return self._add(name, app_id, GroupOptions().changed(changes), start)
        options = group.options.changed(changes)
        if options != group.options:
            self._changes.on_failure(partial(setattr, group, "options", group.options))
            group.options = options
            self._dirty.add(group)
        return options

    def _add(self, name: str, app_id: str, options: GroupOptions, start: Start) -> GroupOptions:
        self._need_room()
        topic = self._topics.get(name) or self._create(name)
        self._trimmer.remove_settled(topic, self._changes)
        group = GroupRow(self._next_id(), topic, app_id, options, topic.starting(start))
        topic.groups[app_id] = group
        self._dirty.add(group)
        self._changes.on_failure(partial(self._remove, group))
        return options

    def _remove(self, group: GroupRow) -> None:
        group.forgotten = True
        group.topic.groups.pop(group.app_id, None)
        self._dirty.discard(group)

    def forget(self, name: str, app_id: str) -> bool:
        """Remove a group, and its topic with the last one."""
        topic = self._topics.get(name)
        group = topic.groups.get(app_id) if topic is not None else None
        if topic is None or group is None:
            return True
        self._changes.on_failure(partial(self._restore, group))
        self._remove(group)
        self._changes.removed_groups.append(group.id)
        if topic.groups or self._retain_ms:
            self._trimmer.whole(topic)
        else:
            self._changes.topics[topic.id] = topic.buried()
            self._drop(topic)
            self._trimmer.bury(topic.id, topic)
            self._changes.on_failure(partial(self._exhume, topic))
        return True

    def _restore(self, group: GroupRow) -> None:
        group.forgotten = False
        group.topic.groups[group.app_id] = group
        self._dirty.add(group)

    def _exhume(self, topic: TopicRow) -> None:
        self._trimmer.exhume(topic.id)
        self._topics[topic.name] = topic

    def settle(self, group: GroupRow, runs: Sequence[tuple[int, int]]) -> None:
        """Events of a group are done with."""
        if group.forgotten:
            return
        group.changed.update(group.settle(runs))
        self._dirty.add(group)
        self._trimmer.settled(group.topic, runs)

    def attempted(self, group: GroupRow, attempts: Sequence[Attempt]) -> None:
        """Attempts of a group's events have ended."""
        if group.forgotten:
            return
        group.changed.update(group.attempted(attempts))
        self._dirty.add(group)

    def close_feed(self, group: GroupRow) -> None:
        """A group's feed is closed: what it has not written is written now."""
        group.open = False
        if not group.forgotten:
            self._dirty.add(group)

    # Reads.

    def open_feed(self, name: str, app_id: str) -> GroupRow:
        """The group, with its attempts in memory.

        Raises:
            StoreUnavailableError: there is no such group.
        """
        group = self._find(name, app_id)
        if group is None:
            raise StoreUnavailableError(f"no group of {app_id!r} on topic {name!r}: join it first")
        if not group.loaded:
            group.attempts = self._read_attempts(group)
            group.loaded = True
        group.open = True
        return group

    def _read_attempts(self, group: GroupRow) -> dict[int, Attempt]:
        try:
            known = self._storage.attempts(group.id)
        except apsw.Error as error:
            raise meaning(error, self._connection) from error
        stale = {position for position in known if position in group.settled}
        newer = group.changed | stale
        group.changed = newer
        return {p: known[p] for p in known.keys() - newer} | group.attempts

    def find(self, name: str, app_id: str) -> GroupOptions | None:
        """A group's options."""
        group = self._find(name, app_id)
        return group.options if group is not None else None

    def floor(self, group: GroupRow) -> int:
        """The lowest position that a group has not settled."""
        return group.settled.floor

    def fetch(self, group: GroupRow, position: int, max_bytes: int) -> Fetched:
        """A group's unsettled events from `position` on."""
        try:
            return self._fetch(group, position, max_bytes)
        except apsw.Error as error:
            raise meaning(error, self._connection) from error
        except msgspec.DecodeError as error:
            raise damaged_at_work(f"batch near {position} of {group.topic.name!r}") from error

    def _fetch(self, group: GroupRow, position: int, max_bytes: int) -> Fetched:
        runs: list[Stored] = []
        size = count = 0
        with closing(self._unsettled(group, position)) as batches:
            for batch in batches:
                runs += group.stored(batch, position)
                position = batch.first + len(batch.events)
                size += batch.size
                count += 1
                if size >= max_bytes or count >= FETCH_BATCHES:
                    break
        return Fetched(tuple(runs), position)

    def _unsettled(self, group: GroupRow, position: int) -> Generator[Batch, None, None]:
        """The batches with unsettled events; seeks past those that are settled as a whole."""
        at = group.settled.first_unsettled(position)
        while at < group.topic.next:
            for index, batch in enumerate(self._storage.batches(group.topic.id, at)):
                end = batch.first + len(batch.events)
                if end > at:
                    yield batch
                    at = group.settled.first_unsettled(end)
                elif index:
                    break
            else:
                return

    def topics(self, after: str | None, limit: int, only: str | None) -> list[TopicInfo]:
        """Topics by name."""
        names = page(self._topics, after=after, limit=limit, only=only)
        try:
            return [self._info(self._topics[name]) for name in names]
        except apsw.Error as error:
            raise meaning(error, self._connection) from error

    def _info(self, topic: TopicRow) -> TopicInfo:
        return TopicInfo(topic.name, tuple(map(self._group_info, topic.groups.values())))

    def _group_info(self, group: GroupRow) -> GroupInfo:
        backlog = group.topic.backlog(group)
        oldest = None
        if backlog:
            oldest = self._storage.last_before(group.topic.id, group.settled.floor + 1)
        return GroupInfo(group.app_id, backlog, oldest[2] if oldest is not None else None)

    # Commits.

    def commit(self) -> None:
        """Make all changes durable, with what earlier commits could not write and some trimming.

        Raises:
            StoreUnavailableError: nothing was changed; settling and attempts go with the next.
            StoreUnusableError: the file failed.
        """
        changes, self._changes = self._changes, Changes()
        dirty = tuple(self._dirty)
        try:
            self._fold(dirty, changes)
            if changes:
                self._storage.write(changes)
        except (apsw.Error, OSError) as error:
            raise self._failed(changes, error) from error
        self._written(dirty)
        self.reason = self._disk.shortage() if self.reason is not None else None

    def _failed(self, changes: Changes, error: apsw.Error | OSError) -> StoreError:
        """What to raise: these changes are not written."""
        changes.undo()
        failure = meaning(error, self._connection)
        self.reason = failure.message
        return failure

    def _written(self, dirty: Sequence[GroupRow]) -> None:
        self._dirty.difference_update(dirty)
        for group in dirty:
            group.written()

    # Commits whose write the kernel makes, on the loop.

    def calm(self) -> bool:
        """Whether a commit now writes to the journal, and does nothing else that takes time."""
        pause = self.pause()
        due = self.reason is not None or (pause is not None and pause < CALM_SECONDS)
        return not due and not self._disk.due()

    def clean(self) -> bool:
        """Whether there is nothing to commit."""
        return not self._changes and not self._dirty

    def start(self, writes: KernelWrites) -> bool:
        """Have the kernel begin `commit`; False: it does not, and `commit` has to be called.

        Only when it is `calm`; nothing else may be done with the log until `ended` was called.

        Raises: as `commit`, also for `ended`.
        """
        dirty = tuple(self._dirty)
        if sum(group.weight() for group in dirty) > MOST_WEIGHT:
            return False
        changes, self._changes = self._changes, Changes()
        try:
            self._fold(dirty, changes)
            started = self._storage.start(changes, writes)
        except (apsw.Error, OSError) as error:
            raise self._failed(changes, error) from error
        if started:
            self._started = changes, dirty
        else:
            self._changes = changes
        return started

    def ended(self, writes: KernelWrites) -> bool:
        """Whether what was started is durable, now that it has ended; else `commit` it."""
        changes, dirty = self._started
        try:
            durable = self._storage.ended(changes, writes)
        except OSError as error:
            raise self._failed(changes, error) from error
        if durable:
            self._written(dirty)
        else:
            self._changes = changes
        return durable

    def _fold(self, dirty: Sequence[GroupRow], changes: Changes) -> None:
        for group in dirty:
            changes.groups.append(group.row())
            if group.changed:
                kept, settled = group.attempt_rows()
                changes.attempts += kept
                changes.settled_attempts += settled
        for topic in self._trimmer.plan(changes, self._topics.values()):
            changes.removed_topics.append(topic.id)
            changes.topics.pop(topic.id, None)
            changes.on_failure(partial(self._topics.__setitem__, topic.name, topic))
            self._drop(topic)

    def untidy(self) -> bool:
        """Whether there is something for `tidy` to do."""
        return self._storage.untidy()

    def tidy(self) -> None:
        """Look after the journal."""
        try:
            self._storage.tidy(may_grow=self._disk.shortage() is None)
        except (apsw.Error, OSError) as error:
            failure = meaning(error, self._connection)
            self.reason = failure.message
            raise failure from error

    def pause(self) -> float | None:
        """When to commit although nobody calls: to try again, or to remove what is settled."""
        if self.reason is not None:
            return RETRY_SECONDS
        pauses = (self._trimmer.wait(), RETRY_SECONDS if self._dirty else None)
        return min((pause for pause in pauses if pause is not None), default=None)

    def close(self, *, broken: bool) -> None:
        """Write what is not written, bring all into one file, close it.

        A broken file is left as it is: what recovery makes of it, it makes at the next start.
        """
        try:
            if not broken:
                self._trimmer.hurry()
                self.commit()
        except StoreError:
            self._storage.close(broken=True)
            raise
        try:
            self._storage.close(broken=broken)
        except (apsw.Error, OSError) as error:
            raise meaning(error, self._connection) from error

    def _need_room(self) -> None:
        shortage = self._disk.shortage()
        if shortage is not None:
            self.reason = shortage
            raise StoreUnavailableError(shortage)

    def _create(self, name: str) -> TopicRow:
        topic = TopicRow(self._next_id(), name, self._start)
        self._topics[name] = topic
        self._changes.topics[topic.id] = topic.row()
        self._changes.on_failure(partial(self._topics.pop, name, None))
        return topic

    def _drop(self, topic: TopicRow) -> None:
        # A later topic of this name starts here: no position ever comes twice in a run.
        self._start = max(self._start, topic.next)
        self._topics.pop(topic.name, None)

    def _find(self, name: str, app_id: str) -> GroupRow | None:
        topic = self._topics.get(name)
        return topic.groups.get(app_id) if topic is not None else None

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id
