"""Whenever a broker is killed, or its machine, the next one has all that was acknowledged."""

import copy
import errno
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

from actorbus.errors import StoreUnavailableError, StoreUnusableError
from actorbus.store import Attempt
from tests.transport.stores.sqlite.kit import NAMES, Image, Room, killed, put, query
from transport.stores.sqlite import journal as sqlite_journal
from transport.stores.sqlite import storage as sqlite_storage
from transport.stores.sqlite import trim as sqlite_trim
from transport.stores.sqlite.journal_file import JournalFile, rounded_up
from transport.stores.sqlite.log import SqliteLog
from transport.stores.sqlite.rows import GroupRow
from transport.stores.sqlite.store import SqliteStore

DATABASE, WAL, JOURNAL = NAMES


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring that comes round soon; what can be trimmed is trimmed at once."""
    monkeypatch.setattr(sqlite_journal, "START_BYTES", 1_000)
    monkeypatch.setattr(sqlite_journal, "AHEAD_BYTES", 2_000)
    monkeypatch.setattr(sqlite_journal, "MOST_BYTES", 6_000)
    monkeypatch.setattr(sqlite_storage, "SLICE_BYTES", 300)
    monkeypatch.setattr(sqlite_storage, "CHECKPOINT_PAGES", 40)
    monkeypatch.setattr(sqlite_trim, "TRIM_SECONDS", 0.0)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator["Disk"]:
    monkeypatch.setattr(os, "O_DSYNC", 0)  # the disk here says itself what is durable
    disk = Disk()
    yield disk
    disk.unregister()


class Disk:
    """What the store writes to. Syncing costs nothing; what is durable is known.

    Attributes:
        look: called before and after each write, and in the middle of one to the journal.
        full: the files that find no room, by the ends of their names.
        error: what a write to a full journal ends with.
        whole: whether a write to a full journal is done before it fails; else half of it.
    """

    def __init__(self) -> None:
        self.look: Callable[[], None] = lambda: None
        self.full: tuple[str, ...] = ()
        self.whole = False
        self.error = errno.ENOSPC
        self.durable: dict[Path, bytes] = {}
        self._vfs = _Vfs(self)

    def unregister(self) -> None:
        self._vfs.unregister()

    def open(self, path: Path) -> SqliteLog:
        return SqliteStore(
            path,
            clock=lambda: 1_000,
            disk=Room(),
            vfs="recovery",
            open_journal=lambda journal: _Journal(self, journal),
        )._open()

    def synced(self, name: str) -> None:
        self.durable[Path(name)] = Path(name).read_bytes()

    def is_full(self, name: str) -> bool:
        return bool(self.full) and name.endswith(self.full)


class _Vfs(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__("recovery", "", maxpathname=0)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _File(self._disk, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        if self._disk.is_full(self._name):
            raise apsw.FullError("database or disk is full (injected)")
        self._disk.look()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        self._disk.look()
        self._disk.synced(self._name)
        self._disk.look()


class _Journal(JournalFile):
    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        super().__init__(path)

    def write(self, parts: Sequence[bytes], offset: int) -> None:
        whole = b"".join(parts)
        self._disk.look()
        super().write((whole[: len(whole) // 2],), offset)
        self._disk.look()
        full = self._disk.is_full(JOURNAL)
        if self._disk.whole or not full:
            super().write(parts, offset)
        if full:
            raise OSError(self._disk.error, os.strerror(self._disk.error))
        before = self._disk.durable.get(self._path, b"").ljust(offset, b"\0")
        self._disk.durable[self._path] = before[:offset] + whole + before[offset + len(whole) :]
        self._disk.look()


def powerless(path: Path, disk: Disk) -> Image:
    """What the next process finds when there is no power from now on."""
    image = killed(path)
    for name in image:
        image[name] = disk.durable.get(path.with_name(name), b"")
    return image


class Event(NamedTuple):
    """One unsettled event, as a group reads it."""

    position: int
    event: bytes
    attempts: int = 0
    lost: int = 0
    not_before: int = 0


class View(NamedTuple):
    """All that a store can be asked."""

    groups: dict[tuple[str, str], list[Event]]
    nexts: dict[str, int]


def group_of(log: SqliteLog, topic: str, app_id: str) -> GroupRow:
    group = log._topics[topic].groups[app_id]
    assert log.open_feed(topic, app_id) is group
    return group


def read_group(log: SqliteLog, topic: str, app_id: str, max_bytes: int = 1000) -> list[Event]:
    group = group_of(log, topic, app_id)
    seen: list[Event] = []
    at = log.floor(group)
    while (found := log.fetch(group, at, max_bytes)).runs:
        at = found.next
        seen += [
            Event(first + index, events[index], run.attempts, run.lost, run.not_before)
            for run in found.runs
            for first, events in ((run.batch.first, run.batch.events),)
            for index in range(run.index, run.index + run.count)
        ]
    return seen


def view(log: SqliteLog) -> View:
    groups: dict[tuple[str, str], list[Event]] = {}
    for info in log.topics(None, 1000, None):
        for group in info.groups:
            seen = read_group(log, info.topic, group.app_id)
            assert group.backlog == len(seen)
            assert (group.oldest_at is None) == (not seen)
            groups[info.topic, group.app_id] = seen
    return View(groups, {topic.name: topic.next for topic in log._topics.values() if topic.groups})


def recovered(disk: Disk, image: Image, directory: Path) -> View:
    log = disk.open(put(image, directory))
    seen = view(log)
    log.close(broken=True)
    return seen


def commit(log: SqliteLog) -> None:
    """One round of the store's thread."""
    log.commit()
    if log.untidy():
        log.tidy()


class Life:
    """A log under random use, and what it must hold: as acknowledged, and with what is under way.

    Attributes:
        acknowledged: the view that a crash must leave; None while nobody can tell.
        under_way: the view that it may leave as well.
        crashes: what crashes at some moments would have left, and the views that are right then.
    """

    def __init__(self, disk: Disk, path: Path, seed: int) -> None:
        self.choice = random.Random(seed)
        self.disk = disk
        self.path = path
        self.log = disk.open(path)
        self.acknowledged = self.under_way = View({}, {})
        self.crashes: list[tuple[Image, list[View]]] = []
        self.frequency = 0.0
        self._published: dict[str, dict[int, bytes]] = {}
        self._count = 0
        disk.look = self._look

    def _look(self) -> None:
        if self.choice.random() < self.frequency:
            image = killed(self.path)
            if self.choice.randrange(2):
                image = powerless(self.path, self.disk)
            self.crashes.append((image, [self.acknowledged, self.under_way]))

    def go_on(self, path: Path) -> None:
        """With another log on these files; the old one is not closed as it should be."""
        old, self.disk.look = self.log, lambda: None
        self.disk.durable.update(
            (path.with_name(name), data) for name, data in killed(path).items()
        )
        self.path, self.log = path, self.disk.open(path)
        old.close(broken=True)
        self.disk.look = self._look

    def commit(self) -> None:
        """Do something, and have it acknowledged."""
        self.under_way = copy.deepcopy(self.acknowledged)
        for _ in range(self.choice.randrange(1, 5)):
            self.choice.choice(
                (
                    self._publish,
                    self._publish,
                    self._publish,
                    self._join,
                    self._settle,
                    self._settle,
                    self._settle,
                    self._attempt,
                    self._forget,
                )
            )()
        self.log.commit()
        self.acknowledged = self.under_way
        if not self.choice.randrange(4):
            assert view(self.log) == self.acknowledged
        if self.log.untidy():
            self.log.tidy()

    def _event(self) -> bytes:
        self._count += 1
        size = self.choice.choice((0, 0, 0, 50, 200, 700, 1500, 7000 * self.choice.randrange(2)))
        return b"%d:" % self._count + bytes(size)

    def _publish(self) -> None:
        topic = self.choice.choice("tuv")
        events = tuple(self._event() for _ in range(self.choice.randrange(1, 4)))
        batch = self.log.append(topic, events, None).batch
        if batch is None:
            assert topic not in self.under_way.nexts
            return
        assert batch.first == self.under_way.nexts[topic]
        self.under_way.nexts[topic] += len(events)
        new = [Event(batch.first + index, event) for index, event in enumerate(events)]
        self._published[topic].update((one.position, one.event) for one in new)
        for (name, _), kept in self.under_way.groups.items():
            if name == topic:
                kept.extend(new)

    def _join(self) -> None:
        topic, app_id = self.choice.choice("tuv"), self.choice.choice("abc")
        self.log.join(topic, app_id, {}, self.choice.choice(("new", "earliest")))
        if (topic, app_id) in self.under_way.groups:
            return
        row = self.log._topics[topic]
        if topic not in self.under_way.nexts:
            self._published[topic] = {}
            self.under_way.nexts[topic] = row.next
        settled = row.groups[app_id].settled
        self.under_way.groups[topic, app_id] = [
            Event(position, event)
            for position, event in self._published[topic].items()
            if position not in settled
        ]

    def _forget(self) -> None:
        if not self.under_way.groups or self.choice.randrange(2):
            return
        topic, app_id = self.choice.choice(sorted(self.under_way.groups))
        self.log.forget(topic, app_id)
        del self.under_way.groups[topic, app_id]
        if all(name != topic for name, _ in self.under_way.groups):
            del self.under_way.nexts[topic]

    def _some(self, most: int) -> tuple[GroupRow | None, list[Event], list[Event]]:
        """A group, what it has, and some of that."""
        if not self.under_way.groups:
            return None, [], []
        key = self.choice.choice(sorted(self.under_way.groups))
        kept = self.under_way.groups[key]
        some = kept[: self.choice.randrange(most)]
        if self.choice.randrange(2):
            some = self.choice.sample(kept, min(len(kept), self.choice.randrange(most)))
        return group_of(self.log, *key), kept, some

    def _settle(self) -> None:
        group, kept, some = self._some(12)
        if group is not None and some:
            self.log.settle(group, [(one.position, 1) for one in some])
            gone = {one.position for one in some}
            kept[:] = [one for one in kept if one.position not in gone]

    def _attempt(self) -> None:
        group, kept, some = self._some(4)
        if group is None:
            return
        tried = [Attempt(one.position, one.attempts + 1, one.lost, self._count) for one in some]
        self.log.attempted(group, tried)
        by_position = {one.position: one for one in tried}
        kept[:] = [
            one._replace(attempts=known.attempts, not_before=known.not_before)
            if (known := by_position.get(one.position))
            else one
            for one in kept
        ]
        if self.choice.randrange(2):
            self.log.close_feed(group)  # what it has tried is read from the disk next time


@pytest.mark.parametrize("seed", range(4))
def test_a_crash_at_any_moment_loses_nothing_and_brings_nothing_back(
    tmp_path: Path, path: Path, disk: Disk, seed: int
) -> None:
    life = Life(disk, path, seed)
    for lives in range(4):
        life.frequency = 0.1
        for _ in range(40):
            life.commit()
            assert view(life.log) == life.acknowledged
        life.frequency = 0.0
        for image, right in life.crashes:
            assert recovered(disk, image, tmp_path / "look") in right
        life.crashes.clear()
        image = killed(life.path) if lives % 2 else powerless(life.path, disk)
        life.go_on(put(image, tmp_path / f"life-{lives}"))
        assert view(life.log) == life.acknowledged
    life.log.close(broken=False)
    assert [*killed(life.path)] == [DATABASE]
    assert recovered(disk, killed(life.path), tmp_path / "closed") == life.acknowledged


@pytest.mark.parametrize("seed", range(2))
def test_opening_and_closing_may_be_cut_short_at_any_moment(
    tmp_path: Path, path: Path, disk: Disk, seed: int
) -> None:
    life = Life(disk, path, seed)
    for _ in range(40):
        life.commit()
    image, right = killed(path), life.acknowledged
    seen: list[Image] = []
    again = put(image, tmp_path / "again")
    disk.durable.update((again.with_name(name), image[name]) for name in NAMES)
    disk.look = lambda: seen.extend((killed(again), powerless(again, disk)))
    log = disk.open(again)
    opening = len(seen)
    log.close(broken=False)
    disk.look = lambda: None
    assert len(seen) > opening + 4
    for crash in seen:
        assert recovered(disk, crash, tmp_path / "look") == right
    life.log.close(broken=True)


# One crash.


def started(disk: Disk, path: Path, *sizes: int) -> SqliteLog:
    """A log with a group, and a record for each event of these sizes."""
    log = disk.open(path)
    log.join("t", "a", {}, "new")
    commit(log)
    log._storage.apply()
    for number, size in enumerate(sizes):
        log.append("t", (event(number, size),), None)
        commit(log)
    return log


def event(number: int, size: int = 0) -> bytes:
    return b"%d:" % number + bytes(size)


def left(disk: Disk, path: Path) -> list[bytes]:
    """What the group has not settled, of files that nobody has open."""
    log = disk.open(path)
    seen = read_group(log, "t", "a")
    log.close(broken=True)
    return [one.event for one in seen]


def refusal(disk: Disk, path: Path) -> str:
    with pytest.raises(StoreUnusableError) as caught:
        disk.open(path)
    assert caught.value.exit_status == 78
    assert "\n" not in caught.value.message
    return caught.value.message


def record_at(image: Image, number: int) -> int:
    """Where in the journal the record with event `number` has its last byte."""
    return image[JOURNAL].index(b"%d:" % number) + 1


def test_an_event_that_no_table_has_is_there_after_a_crash(
    tmp_path: Path, path: Path, disk: Disk
) -> None:
    log = started(disk, path, 0, 0)
    image = killed(path)
    assert query(put(image, tmp_path / "bare"), "SELECT count(*) FROM batches") == [(0,)]
    log.close(broken=True)
    assert left(disk, path) == [event(0), event(1)]


def test_a_torn_record_at_the_end_was_not_acknowledged(
    tmp_path: Path, path: Path, disk: Disk
) -> None:
    log = started(disk, path, 0, 0, 300)
    log.close(broken=True)
    image = killed(path)
    torn = record_at(image, 2) + 20
    image[JOURNAL] = image[JOURNAL][:torn] + b"\xff" * 200
    assert left(disk, put(image, tmp_path / "torn")) == [event(0), event(1)]
    image[JOURNAL] = image[JOURNAL][:torn]
    assert left(disk, put(image, tmp_path / "short")) == [event(0), event(1)]


def test_a_damaged_record_is_refused_and_left_alone(path: Path, disk: Disk) -> None:
    log = started(disk, path, 0, 0, 0)
    number = log._storage._journal.head.number - 2
    log.close(broken=True)
    image = killed(path)
    damaged = bytearray(image[JOURNAL])
    damaged[record_at(image, 1)] ^= 1
    put({**image, JOURNAL: bytes(damaged)}, path.parent)
    journal = path.with_name(JOURNAL)
    for _ in range(2):
        assert refusal(disk, path) == (
            f"{path} is damaged (record {number} can't be read, although later ones can): "
            "restore a backup"
        )
        assert journal.read_bytes() == damaged
    journal.write_bytes(image[JOURNAL])
    assert left(disk, path) == [event(0), event(1), event(2)]


def test_a_missing_journal_is_refused_until_it_is_back(
    tmp_path: Path, path: Path, disk: Disk
) -> None:
    log = started(disk, path, 0, 0)
    log.close(broken=True)
    journal = path.with_name(JOURNAL)
    journal.rename(tmp_path / "elsewhere")
    for _ in range(2):
        assert refusal(disk, path) == (
            f"{journal} is missing, and may hold events: put it back beside the database"
        )
        assert not journal.exists()
    (tmp_path / "elsewhere").rename(journal)
    assert left(disk, path) == [event(0), event(1)]


def test_a_journal_that_can_t_be_read_is_refused(path: Path, disk: Disk) -> None:
    started(disk, path, 0).close(broken=True)
    journal = path.with_name(JOURNAL)
    journal.unlink()
    journal.mkdir()
    message = refusal(disk, path)
    assert message.startswith(f"{journal} can't be opened: is a directory: ")


def test_a_file_of_version_1_is_brought_up_to_date_with_all_it_has(
    tmp_path: Path, path: Path, disk: Disk
) -> None:
    started(disk, path, 0, 5000).close(broken=False)
    query(path, "DROP TABLE journal")
    query(path, "PRAGMA user_version=1")
    path.with_name(JOURNAL).write_bytes(b"of somebody else")
    log = disk.open(path)
    assert [one.event for one in read_group(log, "t", "a")] == [event(0), event(1, 5000)]
    log.append("t", (event(2),), None)
    commit(log)
    image = killed(path)
    log.close(broken=False)
    assert query(path, "PRAGMA user_version") == [(2,)]
    assert query(path, "SELECT salt FROM journal") == [(None,)]
    for file in (path, put(image, tmp_path / "killed")):
        assert left(disk, file) == [event(0), event(1, 5000), event(2)]


def test_the_journal_of_a_database_that_was_closed_is_not_read(path: Path, disk: Disk) -> None:
    """As when the broker is killed after its last commit, before the journal is deleted."""
    log = started(disk, path, 0, 0)
    log.settle(group_of(log, "t", "a"), [(0, 1)])
    journal = killed(path)[JOURNAL]
    log.close(broken=False)
    path.with_name(JOURNAL).write_bytes(journal)
    assert left(disk, path) == [event(1)]


def test_the_journal_of_another_opening_is_not_read(path: Path, disk: Disk) -> None:
    """A backup is put back, and the journal of a later time is still there."""
    started(disk, path, 0).close(broken=False)
    backup = killed(path)
    log = disk.open(path)
    log.append("t", (event(1),), None)
    commit(log)
    log.close(broken=True)
    later = killed(path)[JOURNAL]
    put(backup, path.parent)
    path.with_name(JOURNAL).write_bytes(later)
    assert left(disk, path) == [event(0)]


def test_a_crash_at_once_after_a_recovery_brings_nothing_twice(path: Path, disk: Disk) -> None:
    log = started(disk, path, 0, 0, 0)
    log.close(broken=True)
    for _ in range(3):
        assert left(disk, path) == [event(0), event(1), event(2)]


def test_each_journal_marks_its_records_anew(path: Path, disk: Disk) -> None:
    """The next opening after a crash goes on with the journal that it finds."""
    salts: list[bytes | None] = []
    for broken in (True, True, False, True, False, False):
        log = disk.open(path)
        salts.append(log._storage._salt)
        assert log._storage._tables.journal()[0] == log._storage._salt
        log.close(broken=broken)
    assert salts[0] == salts[1] == salts[2]
    assert salts[3] == salts[4]
    assert len(set(salts)) == 3


def test_a_record_that_only_memory_had_is_durable_when_more_come_after_it(
    tmp_path: Path, path: Path, disk: Disk
) -> None:
    """After an I/O error the next opening reads from memory what the disk does not have."""
    log = started(disk, path, 0)
    disk.full, disk.error, disk.whole = (JOURNAL,), errno.EIO, True
    log.append("t", (event(7),), None)
    with pytest.raises(StoreUnusableError, match="the store's file failed"):
        log.commit()
    log.close(broken=True)
    disk.full = ()
    log = disk.open(path)
    seen = [one.event for one in read_group(log, "t", "a")]
    published_one(log, event(8))
    crash = powerless(path, disk)
    log.close(broken=True)
    assert left(disk, put(crash, tmp_path / "look")) == [*seen, event(8)]


def test_the_journal_s_name_is_durable_before_the_tables_ask_for_it(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[list[tuple[object]]] = []

    def noted(_: int) -> None:
        files = {name: data for name, data in killed(path).items() if name != JOURNAL}
        syncs.append(query(put(files, path.parent / "look"), "SELECT salt FROM journal"))

    monkeypatch.setattr(os, "fsync", noted)
    log = disk.open(path)
    assert syncs == [[(None,)]]
    log.close(broken=True)


def test_after_a_clean_stop_a_journal_begins_at_its_beginning(path: Path, disk: Disk) -> None:
    log = started(disk, path, 300, 300)
    assert log._storage._journal.head.offset > 600
    log.close(broken=False)
    log = disk.open(path)
    assert log._storage._journal.head == (0, 0)
    log.close(broken=True)


def test_who_may_not_read_the_database_may_not_read_its_journal(path: Path, disk: Disk) -> None:
    started(disk, path, 0).close(broken=False)
    path.chmod(0o600)
    log = disk.open(path)
    assert [path.with_name(name).stat().st_mode & 0o777 for name in NAMES] == [0o600] * 3
    log.close(broken=True)


def test_records_larger_than_the_ring_are_kept_among_others(
    tmp_path: Path, path: Path, disk: Disk
) -> None:
    log = started(disk, path, 10, 9000, 20, 7000, 7000, 30)
    image = killed(path)
    assert len(image[JOURNAL]) <= 6000
    assert [one.event for one in read_group(log, "t", "a")] == [
        event(number, size) for number, size in enumerate((10, 9000, 20, 7000, 7000, 30))
    ]
    log.settle(group_of(log, "t", "a"), [(1, 3)])
    commit(log)
    for crash in (killed(path), powerless(path, disk)):
        assert left(disk, put(crash, tmp_path / "look")) == [
            event(0, 10),
            event(4, 7000),
            event(5, 30),
        ]
    log.close(broken=True)


def test_the_journal_and_what_is_not_applied_stay_small(path: Path, disk: Disk) -> None:
    """Whatever comes, with a group that settles nothing."""
    log = started(disk, path)
    group = group_of(log, "t", "a")
    for number in range(300):
        log.append("t", (event(number, 50),), None)
        log.attempted(group, [Attempt(number, 1, 0, 0)])
        commit(log)
        unapplied = log._storage._unapplied
        assert sum(len(pending.row[-1]) for pending in unapplied.oldest(None)) <= 6000
        assert sum(map(len, unapplied.attempts.values())) <= 300
        assert path.with_name(JOURNAL).stat().st_size <= rounded_up(6000)
    for _ in range(300):
        log.join("u", "a", {}, "new")
        commit(log)
        log.forget("u", "a")
        commit(log)
        assert len(unapplied.removed_groups) + len(unapplied.removed_topics) <= 200
    log.close(broken=True)


# Disks that are full.


def published(log: SqliteLog, numbers: Sequence[int]) -> list[int]:
    """Publish these events one by one; which of them were acknowledged."""
    kept: list[int] = []
    for number in numbers:
        try:
            log.append("t", (event(number, 50),), None)
            log.commit()
        except StoreUnavailableError:
            continue
        kept.append(number)
        try:
            log.tidy()
        except StoreUnavailableError as error:
            assert "no room on the disk" in error.message  # noqa: PT017 - it need not come
    return kept


def test_while_only_the_tables_find_no_room_the_journal_takes_what_it_can(
    tmp_path: Path, path: Path, disk: Disk
) -> None:
    log = started(disk, path)
    disk.full = (WAL,)
    kept = published(log, range(200))
    assert 20 < len(kept) < 150
    assert kept == [*range(len(kept))]
    assert log.reason is not None
    assert "no room on the disk" in log.reason
    wanted = [event(number, 50) for number in kept]
    assert [one.event for one in read_group(log, "t", "a")] == wanted
    image = killed(path)
    disk.full = ()
    assert left(disk, put(image, tmp_path / "killed")) == wanted
    more = published(log, range(200, 250))
    assert more == [*range(200, 250)]
    assert log.reason is None
    wanted += [event(number, 50) for number in more]
    assert [one.event for one in read_group(log, "t", "a")] == wanted
    assert left(disk, put(killed(path), tmp_path / "later")) == wanted
    log.close(broken=False)
    assert left(disk, path) == wanted


def test_what_is_settled_while_the_tables_find_no_room_stays_settled(
    tmp_path: Path, path: Path, disk: Disk
) -> None:
    log = started(disk, path, *[20] * 10)
    log._storage.apply()
    disk.full = (WAL, DATABASE)
    log.settle(group_of(log, "t", "a"), [(0, 3), (5, 2)])
    log.commit()
    with pytest.raises(StoreUnavailableError, match="no room on the disk"):
        log.tidy()
    wanted = [event(number, 20) for number in (3, 4, 7, 8, 9)]
    assert [one.event for one in read_group(log, "t", "a")] == wanted
    image = killed(path)
    disk.full = ()
    assert left(disk, put(image, tmp_path / "killed")) == wanted
    log.tidy()
    rows = log._connection.execute("SELECT first FROM batches ORDER BY first").fetchall()
    assert rows == [(3,), (4,), (7,), (8,), (9,)]
    log.close(broken=True)


def test_when_there_is_no_room_at_the_end_nothing_is_lost(path: Path, disk: Disk) -> None:
    log = started(disk, path, 0, 0)
    disk.full = (WAL,)
    with pytest.raises(StoreUnavailableError, match="no room on the disk"):
        log.close(broken=False)
    disk.full = ()
    assert left(disk, path) == [event(0), event(1)]


def test_when_there_is_no_room_at_the_start_all_is_there(path: Path, disk: Disk) -> None:
    started(disk, path, 0, 0).close(broken=True)
    disk.full = (WAL, DATABASE)
    for _ in range(2):
        assert left(disk, path) == [event(0), event(1)]
    disk.full = ()
    assert left(disk, path) == [event(0), event(1)]


def test_when_something_is_to_be_removed_at_the_start_and_there_is_no_room_the_operator_reads_so(
    path: Path, disk: Disk
) -> None:
    log = started(disk, path, 0, 0)
    log._storage.apply()
    log.settle(group_of(log, "t", "a"), [(0, 1)])
    log.commit()
    log.close(broken=True)
    disk.full = (WAL,)
    for _ in range(2):
        assert refusal(disk, path) == f"{path} can't be opened: its disk is full: make room there"
    disk.full = ()
    assert left(disk, path) == [event(1)]


def test_without_room_to_lengthen_the_journal_a_store_opens_and_works(
    tmp_path: Path, path: Path, disk: Disk
) -> None:
    """And has all it has acknowledged when the journal is lengthened later."""
    disk.full = (JOURNAL,)
    log = disk.open(path)
    disk.full = ()
    log.join("t", "a", {}, "new")
    commit(log)
    for number in range(60):
        log.append("t", (event(number, 100),), None)
        commit(log)
        if number % 4 == 0:
            wanted = [event(one, 100) for one in range(number + 1)]
            assert left(disk, put(killed(path), tmp_path / "look")) == wanted
    log.close(broken=True)


@pytest.mark.parametrize("seed", range(4))
def test_what_found_no_room_now_and_then_is_exactly_what_is_missing(
    tmp_path: Path, path: Path, disk: Disk, seed: int
) -> None:
    choice = random.Random(seed)
    log = started(disk, path)
    group = group_of(log, "t", "a")
    wanted: dict[int, bytes] = {}
    refused = 0
    for number in range(150):
        disk.full = choice.choice(((), (), (), (JOURNAL,), (WAL,), (WAL, JOURNAL)))
        one = event(number, choice.choice((0, 100, 600, 6500)))
        try:
            batch = log.append("t", (one,), None).batch
            log.commit()
        except StoreUnavailableError:
            refused += 1
        else:
            assert batch is not None
            wanted[batch.first] = one
        disk.full = disk.full[:1] if choice.randrange(2) else ()
        if choice.randrange(3) and wanted:
            position = choice.choice(sorted(wanted))
            log.settle(group, [(position, 1)])
            del wanted[position]
        try:
            log.tidy()
        except StoreUnavailableError:
            refused += 1
        seen = {each.position: each.event for each in read_group(log, "t", "a")}
        assert seen == wanted
        disk.full = ()
        if not choice.randrange(5):
            log.commit()
            image = killed(path) if choice.randrange(2) else powerless(path, disk)
            assert left(disk, put(image, tmp_path / "look")) == [
                *dict(sorted(seen.items())).values()
            ]
    assert refused > 20
    log.close(broken=False)
    assert left(disk, path) == [wanted[position] for position in sorted(wanted)]


@pytest.mark.parametrize("larger", [700, 6500], ids=["elsewhere", "into the tables"])
def test_a_record_that_failed_and_yet_was_written_is_not_in_the_way(
    tmp_path: Path, path: Path, disk: Disk, larger: int
) -> None:
    """The disk has no room for what it took already: a quota, or a thin volume."""
    log = started(disk, path, 300, 300, 100)
    log.settle(group_of(log, "t", "a"), [(0, 3)])
    commit(log)
    log._storage.apply()
    journal = log._storage._journal
    while journal.head.offset < 5500:
        published_one(log, event(0, 100))
        log.settle(group_of(log, "t", "a"), [(0, log._topics["t"].next)])
        commit(log)
    log._storage.apply()
    assert journal._end - journal.head.offset < 700 < journal.tail.offset
    disk.full, disk.whole = (JOURNAL,), True
    with pytest.raises(StoreUnavailableError, match="no room on the disk"):
        published_one(log, event(7))
    disk.full = ()
    published_one(log, event(8, larger))
    assert left(disk, put(killed(path), tmp_path / "look")) == [event(8, larger)]
    published_one(log, event(9))
    assert left(disk, put(killed(path), tmp_path / "look")) == [event(8, larger), event(9)]
    log.close(broken=True)


def published_one(log: SqliteLog, one: bytes) -> None:
    log.append("t", (one,), None)
    log.commit()
