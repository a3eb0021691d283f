"""What the tables do not have yet is read as if they had it, and gets there as it would have."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import apsw
import pytest

from actorbus.store import Start
from tests.transport.stores.sqlite.kit import Room, query
from transport.stores.sqlite import journal as sqlite_journal
from transport.stores.sqlite import storage as sqlite_storage
from transport.stores.sqlite import trim as sqlite_trim
from transport.stores.sqlite.changes import Changes, Removed, Row, pack
from transport.stores.sqlite.journal import Place
from transport.stores.sqlite.log import SqliteLog
from transport.stores.sqlite.schema import open_database
from transport.stores.sqlite.statements import LARGE_BYTES, statements
from transport.stores.sqlite.storage import Storage
from transport.stores.sqlite.tables import Tables
from transport.stores.sqlite.unapplied import Unapplied

TABLES: Final = {
    "topics": "SELECT id, name, gone FROM topics ORDER BY id",
    "groups": "SELECT id, topic_id, app_id, options, floor, settled FROM groups ORDER BY id",
    "batches": "SELECT * FROM batches ORDER BY topic_id, first",
    "attempts": "SELECT * FROM attempts ORDER BY group_id, position",
}


@pytest.fixture
def storage(path: Path) -> Iterator[Storage]:
    storage = Storage(open_database(path))
    yield storage
    storage.close(broken=True)


def place(number: int) -> Place:
    return Place(number, 100 * number)


def batch(topic_id: int, first: int, count: int = 1, size: int = 1) -> Row:
    events = tuple(b"%d" % (first + index) + bytes(size) for index in range(count))
    return topic_id, first, count, None, 1000 + first, pack(events)


def of(**parts: Any) -> Changes:
    """Changes with these parts."""
    changes = Changes()
    changes.topics = {row[0]: row for row in parts.pop("topics", [])}
    for name, rows in parts.items():
        setattr(changes, name, list(rows))
    return changes


def holding(*records: Changes) -> Unapplied:
    unapplied = Unapplied()
    for number, changes in enumerate(records):
        unapplied.add(changes, place(number))
    return unapplied


def firsts(unapplied: Unapplied, topic_id: int) -> list[int]:
    return [row[1] for row in unapplied.batches(topic_id, 0)]


def dump(storage: Storage) -> dict[str, list[Row]]:
    """All rows of the tables, as they are."""
    return {
        name: storage._connection.execute(statement).fetchall()
        for name, statement in TABLES.items()
    }


# The sum.


def test_of_each_row_the_last_state_counts() -> None:
    unapplied = holding(
        of(topics=[(1, "t", b"")], groups=[(2, 1, "a", b"", 0, b"")], attempts=[(2, 5, 1, 0, 0)]),
        of(topics=[(1, "t", b"x")], groups=[(2, 1, "a", b"", 7, b"")], attempts=[(2, 5, 2, 1, 9)]),
        of(settled_attempts=[(2, 6)], attempts=[(2, 7, 1, 0, 0)]),
        of(settled_attempts=[(2, 7)]),
    )
    assert unapplied.topics == {1: (1, "t", b"x")}
    assert unapplied.groups == {2: (2, 1, "a", b"", 7, b"")}
    assert unapplied.attempts == {2: {5: (2, 5, 2, 1, 9), 6: None, 7: None}}


def test_what_is_removed_is_gone_from_the_sum_and_removed_from_the_tables() -> None:
    unapplied = holding(
        of(topics=[(1, "t", b"")], groups=[(2, 1, "a", b"", 0, b"")], attempts=[(2, 5, 1, 0, 0)]),
        of(removed_groups=[2], removed_topics=[1]),
    )
    assert (unapplied.topics, unapplied.groups, unapplied.attempts) == ({}, {}, {})
    assert (unapplied.removed_groups, unapplied.removed_topics) == ([2], [1])


def test_batches_that_never_were_in_the_table_are_not_removed_from_it() -> None:
    unapplied = holding(
        of(batches=[batch(1, 10), batch(1, 11), batch(1, 12), batch(2, 0)]),
        of(removed_batches=[Removed(1, 10, 12)]),
    )
    assert unapplied.removed_batches == []
    assert firsts(unapplied, 1) == [12]
    assert firsts(unapplied, 2) == [0]


def test_batches_that_may_be_in_the_table_are_removed_from_it_too() -> None:
    unapplied = holding(
        of(batches=[batch(1, 10), batch(1, 11)]),
        of(removed_batches=[Removed(1, 9, 11), Removed(2, 0, 5)]),
        of(removed_batches=[Removed(1, 11, 12)]),
        of(removed_batches=[Removed(1, 12, 13)]),
    )
    assert unapplied.removed_batches == [Removed(1, 9, 11), Removed(2, 0, 5), Removed(1, 12, 13)]
    assert firsts(unapplied, 1) == []
    assert unapplied.first_place() is None


def test_the_first_place_is_that_of_the_first_batch_that_is_left() -> None:
    unapplied = holding(
        of(attempts=[(1, 1, 1, 0, 0)]),
        of(batches=[batch(1, 0)]),
        of(batches=[batch(1, 1), batch(2, 0)]),
        of(batches=[batch(2, 1)]),
    )
    assert unapplied.first_place() == place(1)
    unapplied.add(of(removed_batches=[Removed(1, 0, 2)]), place(4))
    assert unapplied.first_place() == place(2)
    unapplied.applied(unapplied.oldest(0))
    assert unapplied.first_place() == place(2)
    unapplied.applied(unapplied.oldest(1))
    assert unapplied.first_place() == place(3)
    unapplied.applied(unapplied.oldest(None))
    assert unapplied.first_place() is None


def test_the_oldest_are_whole_records() -> None:
    """The journal goes on after the last one that is applied, and brings none of it again."""
    rows = [batch(1, number, size=10) for number in range(6)]
    size = len(rows[0][-1])
    unapplied = holding(of(batches=rows[:1]), of(batches=rows[1:4]), of(batches=rows[4:]))

    def taken(most: int | None) -> list[int]:
        return [pending.row[1] for pending in unapplied.oldest(most)]

    assert taken(0) == []
    assert taken(1) == taken(size) == [0]
    assert taken(size + 1) == taken(3 * size) == taken(4 * size) == [0, 1, 2, 3]
    assert taken(4 * size + 1) == taken(None) == [0, 1, 2, 3, 4, 5]
    for most, after in ((0, place(0)), (1, place(1)), (size + 1, place(2)), (None, None)):
        assert unapplied.place_after(unapplied.oldest(most)) == after


def test_what_is_applied_is_here_no_more() -> None:
    unapplied = holding(
        of(batches=[batch(1, 0), batch(2, 0)], topics=[(1, "t", b"")]),
        of(
            batches=[batch(1, 1)],
            groups=[(3, 1, "a", b"", 0, b"")],
            attempts=[(3, 0, 1, 0, 0)],
            removed_batches=[Removed(9, 0, 1)],
            removed_groups=[9],
            removed_topics=[9],
        ),
    )
    unapplied.applied(unapplied.oldest(1))
    assert (firsts(unapplied, 1), firsts(unapplied, 2)) == ([1], [])
    assert not unapplied.begins_by(2, 100)
    assert not any(
        (
            unapplied.topics,
            unapplied.groups,
            unapplied.attempts,
            unapplied.removed_batches,
            unapplied.removed_groups,
            unapplied.removed_topics,
        )
    )


def test_batches_of_a_topic_are_found_by_position() -> None:
    unapplied = holding(of(batches=[batch(1, 10, 3), batch(1, 13, 2), batch(1, 15)]))

    def last_before(end: int) -> int | None:
        row = unapplied.last_before(1, end)
        return None if row is None else row[1]

    def first_from(start: int) -> int | None:
        row = unapplied.first_from(1, start)
        return None if row is None else row[1]

    assert [last_before(end) for end in (10, 11, 13, 14, 99)] == [None, 10, 10, 13, 15]
    assert [first_from(start) for start in (0, 10, 11, 15, 16)] == [10, 10, 13, 15, None]
    assert [unapplied.begins_by(1, at) for at in (9, 10, 99)] == [False, True, True]
    assert [row[1] for row in unapplied.batches(1, 12)] == [10, 13, 15]
    assert [row[1] for row in unapplied.batches(1, 13)] == [13, 15]
    assert [row[1] for row in unapplied.batches(1, 99)] == [15]
    assert unapplied.last_before(2, 99) is unapplied.first_from(2, 0) is None
    assert list(unapplied.batches(2, 0)) == []


# Into the tables.


def test_a_name_may_be_taken_again_before_its_first_row_was_removed(storage: Storage) -> None:
    """Both ways: the row that is in its way is in the table, or was to come there."""
    storage.write(of(topics=[(1, "t", b"")], groups=[(2, 1, "a", b"1", 0, b"")]))
    storage.apply()
    storage.write(of(removed_groups=[2], groups=[(3, 1, "a", b"2", 0, b"")]))
    storage.write(of(removed_groups=[3], topics=[(1, None, b"")]))
    storage.write(of(topics=[(4, "t", b"")], groups=[(5, 4, "a", b"3", 0, b"")]))
    storage.write(of(removed_topics=[1]))
    storage.apply()
    assert dump(storage)["topics"] == [(4, "t", b"")]
    assert dump(storage)["groups"] == [(5, 4, "a", b"3", 0, b"")]


def test_a_name_may_be_taken_again_while_the_batches_of_its_first_topic_are_there(
    storage: Storage,
) -> None:
    storage.write(of(topics=[(9, "t", b"")]))
    storage.apply()
    storage.write(of(topics=[(8, "other", b"")]))
    storage.write(of(topics=[(9, None, b"")]))
    storage.write(of(topics=[(7, "t", b"")]))
    storage.apply()
    assert dump(storage)["topics"] == [(7, "t", b""), (8, "other", b""), (9, None, b"")]


def test_all_of_a_large_sum_is_applied_or_nothing(storage: Storage) -> None:
    before = dump(storage)
    rows = [batch(1, number) for number in range(200)]
    clash = [batch(1, 500, size=LARGE_BYTES), batch(1, 500, size=LARGE_BYTES + 1)]
    unapplied = holding(of(topics=[(1, "t", b"")], batches=rows + clash[:1]), of(batches=clash[1:]))
    pending = unapplied.oldest(None)
    twice = [*pending, pending[-1]]
    with pytest.raises(apsw.ConstraintError):
        storage._tables.write(statements(unapplied, twice, (b"salt", 7, 7)))
    assert dump(storage) == before
    assert storage._tables.journal()[1:] == (0, 0)
    assert not storage._connection.in_transaction


def test_a_slice_moves_the_beginning_of_the_journal_to_the_first_that_is_left(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage._journal, "is_short", lambda _=None: True)
    monkeypatch.setattr(sqlite_storage, "SLICE_BYTES", 1)
    for number in range(3):
        storage.write(of(batches=[batch(1, number)], attempts=[(2, number, 1, 0, 0)]))
    storage.tidy(may_grow=False)
    assert [row[1] for row in dump(storage)["batches"]] == [0]
    assert [row[1] for row in dump(storage)["attempts"]] == [0, 1, 2]
    place_of_1 = storage._unapplied.first_place()
    assert storage._journal.tail == place_of_1
    assert storage._tables.journal() == (storage._salt, *(place_of_1 or ()))


# Compared with tables that have it all.


class Everything:
    """Changes as the log makes them, at random: to be valid they need to know what there is."""

    def __init__(self, seed: int) -> None:
        self.choice = random.Random(seed)
        self._id = 0
        self._topics: dict[int, str] = {}
        self._graves: list[int] = []
        self._groups: dict[int, tuple[int, str]] = {}
        self._next: dict[int, int] = {}
        self._there: dict[int, list[tuple[int, int]]] = {}

    def reads(self, storage: Storage, places: list[int]) -> list[object]:
        """What the storage answers to everything that the log may ask of it."""
        answers: list[object] = [storage.attempts(group_id) for group_id in self._groups]
        for topic_id in self._next:
            for at in places:
                answers += [storage.last_before(topic_id, at), storage.first_from(topic_id, at)]
                batches = storage.batches(topic_id, at)
                answers.append([(one.first, one.events, one.size) for one in batches])
        return answers

    def next(self) -> Changes:
        changes = Changes()
        for _ in range(self.choice.randrange(1, 5)):
            self.choice.choice(
                (
                    self._join,
                    self._publish,
                    self._publish,
                    self._settle,
                    self._attempt,
                    self._attempt,
                    self._trim,
                    self._trim,
                    self._forget,
                    self._dig,
                )
            )(changes)
        return changes

    def _new(self) -> int:
        self._id += 1
        return self._id

    def _join(self, changes: Changes) -> None:
        name = self.choice.choice("rst")
        topic_id = next((one for one, its in self._topics.items() if its == name), None)
        if topic_id is None:
            topic_id = self._new()
            self._topics[topic_id] = name
            self._next[topic_id] = self.choice.randrange(100)
            self._there[topic_id] = []
            changes.topics[topic_id] = (topic_id, name, b"")
        app_id = self.choice.choice("abc")
        if (topic_id, app_id) not in self._groups.values():
            group_id = self._new()
            self._groups[group_id] = (topic_id, app_id)
            self._row(changes, group_id)

    def _row(self, changes: Changes, group_id: int) -> None:
        changes.groups = [row for row in changes.groups if row[0] != group_id]
        settled = self.choice.randbytes(2)
        topic_id, app_id = self._groups[group_id]
        changes.groups.append((group_id, topic_id, app_id, b"", self.choice.randrange(9), settled))

    def _publish(self, changes: Changes) -> None:
        if not self._topics:
            return
        topic_id = self.choice.choice(list(self._topics))
        count = self.choice.randrange(1, 4)
        first = self._next[topic_id]
        self._next[topic_id] += count
        self._there[topic_id].append((first, count))
        size = self.choice.choice((0, 0, 100, 1000, LARGE_BYTES))
        changes.batches.append(batch(topic_id, first, count, size))

    def _settle(self, changes: Changes) -> None:
        if self._groups:
            self._row(changes, self.choice.choice(list(self._groups)))

    def _attempt(self, changes: Changes) -> None:
        if not self._groups:
            return
        group_id, position = self.choice.choice(list(self._groups)), self.choice.randrange(6)
        noted = {row[:2] for row in (*changes.attempts, *changes.settled_attempts)}
        if (group_id, position) in noted:
            return  # a record has each once
        if self.choice.randrange(2):
            changes.settled_attempts.append((group_id, position))
        else:
            changes.attempts.append((group_id, position, self.choice.randrange(9), 0, 5))

    def _trim(self, changes: Changes) -> None:
        there = [one for one in self._topics if self._there[one]]
        if not there or changes.batches:
            return
        topic_id = self.choice.choice(there)
        batches = self._there[topic_id]
        low = self.choice.choice((0, self.choice.randrange(len(batches))))
        high = self.choice.randrange(low, len(batches)) + 1
        start, end = batches[low][0], sum(batches[high - 1])
        changes.removed_batches.append(Removed(topic_id, start, end))
        changes.topics[topic_id] = (topic_id, self._topics[topic_id], self.choice.randbytes(3))
        del batches[low:high]

    def _forget(self, changes: Changes) -> None:
        if not self._groups or self.choice.randrange(2):
            return
        group_id = self.choice.choice(list(self._groups))
        topic_id, _ = self._groups.pop(group_id)
        changes.groups = [row for row in changes.groups if row[0] != group_id]
        changes.removed_groups.append(group_id)
        if all(its != topic_id for its, _ in self._groups.values()):
            del self._topics[topic_id]
            self._graves.append(topic_id)
            changes.topics[topic_id] = (topic_id, None, b"")

    def _dig(self, changes: Changes) -> None:
        if self._graves and not changes.batches:
            topic_id = self._graves.pop(0)
            changes.removed_batches.append(Removed(topic_id, 0, 2**62))
            changes.removed_topics.append(topic_id)
            changes.topics.pop(topic_id, None)


@pytest.mark.parametrize("seed", range(4))
def test_reads_are_those_of_tables_that_have_every_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(sqlite_journal, "START_BYTES", 20_000)
    monkeypatch.setattr(sqlite_journal, "AHEAD_BYTES", 50_000)
    monkeypatch.setattr(sqlite_journal, "MOST_BYTES", 120_000)
    monkeypatch.setattr(sqlite_storage, "SLICE_BYTES", 5_000)
    everything = Everything(seed)
    choice = random.Random(-seed)
    tested = Storage(open_database(tmp_path / "tested.db"))
    at_once = Storage(open_database(tmp_path / "at-once.db"))
    tested._connection.pragma("synchronous", 0)
    at_once._connection.pragma("synchronous", 0)
    most = 0
    for step in range(80):
        changes = everything.next()
        tested.write(changes)
        Tables.write(at_once._tables, statements(holding(changes), all_of(changes), (b"", 0, 0)))
        if tested.untidy() or not choice.randrange(10):
            tested.tidy(may_grow=bool(choice.randrange(2)))
        places = sorted(choice.sample(range(130), 3))
        assert everything.reads(tested, places) == everything.reads(at_once, places), step
        most = max(most, len(tested._unapplied.oldest(None)))
        if not choice.randrange(20):
            tested.apply()
        if not choice.randrange(20):
            tested._apply(tested._unapplied, choice.choice((0, 1, 5_000)))
            for table in ("topics", "groups", "attempts"):  # never behind
                assert dump(tested)[table] == dump(at_once)[table]
    assert most > 3
    tested.apply()
    assert dump(tested) == dump(at_once)
    tested.close(broken=False)
    for name, statement in TABLES.items():
        assert query(tmp_path / "tested.db", statement) == dump(at_once)[name]
    at_once.close(broken=True)


class Twins:
    """Two logs that are told the same; one of them has all in its tables at any time."""

    def __init__(self, directory: Path, seed: int, retain_ms: int) -> None:
        self._choice = random.Random(seed)
        self._now = 0
        self._at_once, self._later = (
            SqliteLog(
                open_database(directory / f"{name}.db"),
                retain_ms=retain_ms,
                clock=lambda: self._now,
                disk=Room(),
            )
            for name in ("at-once", "later")
        )
        self._both = (self._at_once, self._later)
        for log in self._both:
            log._connection.pragma("synchronous", 0)

    def commit(self) -> None:
        self._now += 1
        for _ in range(self._choice.randrange(1, 4)):
            topic, app_id = self._choice.choice("tu"), self._choice.choice("ab")
            kind = self._choice.randrange(8)
            if kind == 0:
                start: Start = self._choice.choice(("new", "earliest"))
                self._each(lambda log: log.join(topic, app_id, {}, start))  # noqa: B023 - at once
            elif kind < 4:
                events = tuple(bytes(self._choice.randrange(40)) for _ in range(kind))
                self._each(lambda log: log.append(topic, events, None))  # noqa: B023 - at once
            elif kind < 7:
                self._settle(topic, app_id)
            elif not self._choice.randrange(3):
                self._each(lambda log: log.forget(topic, app_id))  # noqa: B023 - at once
        self._each(SqliteLog.commit)
        self._at_once._storage.apply()

    def _each(self, act: Callable[[SqliteLog], object]) -> None:
        for log in self._both:
            act(log)

    def _settle(self, topic: str, app_id: str) -> None:
        part, most = self._choice.random(), self._choice.randrange(1, 9)
        for log in self._both:
            if log.find(topic, app_id) is not None:
                group = log.open_feed(topic, app_id)
                first = int(part * group.topic.next)
                log.settle(group, [(first, min(most, group.topic.next - first))])

    def tidy(self) -> None:
        if self._later.untidy():
            self._later.tidy()

    def compare(self) -> int:
        """That they are alike; how many batches only the journal of one of them has."""
        at_once, later = map(self._seen, self._both)
        assert later == at_once
        return len(self._later._storage._unapplied.oldest(None))

    def _seen(self, log: SqliteLog) -> list[object]:
        seen: list[object] = [log.topics(None, 9, None)]
        for row in log._topics.values():
            seen.append((row.name, row.next, row.gone))
            for group in row.groups.values():
                fetched = log.fetch(group, log.floor(group), 200)
                runs = [(run.batch.first, run.index, run.count) for run in fetched.runs]
                seen.append((group.app_id, group.settled, runs, fetched.next))
        return seen

    def close(self) -> None:
        for log in self._both:
            log.close(broken=True)


@pytest.mark.parametrize("retain_ms", [0, 15], ids=["no retention", "retention"])
@pytest.mark.parametrize("seed", range(3))
def test_a_log_reads_and_trims_as_one_whose_tables_have_every_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, retain_ms: int
) -> None:
    monkeypatch.setattr(sqlite_journal, "MOST_BYTES", 20_000)
    monkeypatch.setattr(sqlite_journal, "START_BYTES", 20_000)
    monkeypatch.setattr(sqlite_trim, "TRIM_SECONDS", 0.0)
    monkeypatch.setattr(sqlite_trim, "TRIM_EVENTS", 7)
    monkeypatch.setattr(sqlite_trim, "retention_pause", lambda _: 0.0)
    twins = Twins(tmp_path, seed, retain_ms)
    most = 0
    for _ in range(250):
        twins.commit()
        most = max(most, twins.compare())
        twins.tidy()
        twins.compare()
    assert most > 5
    twins.close()


def all_of(changes: Changes) -> list[Any]:
    return holding(changes).oldest(None)


def test_changes_are_unpacked_as_they_were_packed() -> None:
    changes = of(
        batches=[batch(1, 2), (1, 3, 1, 99, 4, b"")],
        topics=[(1, "t", b"gone"), (2, None, b"")],
        groups=[(3, 1, "a", b"o", 4, b"s")],
        attempts=[(3, 2, 1, 0, 2**40)],
        settled_attempts=[(3, 1)],
        removed_batches=[Removed(2, 0, 2**62)],
        removed_groups=[4],
        removed_topics=[5],
    )
    again = Changes.unpack(changes.pack())
    assert again._parts() == changes._parts()
    assert again.topics == changes.topics
    assert isinstance(again.removed_batches[0], Removed)
