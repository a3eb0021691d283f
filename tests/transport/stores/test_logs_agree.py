"""Memory and SQLite against a model that is too simple to be wrong."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from actorbus.store import Attempt, Store
from tests.conformance.kit import event, never_fails
from tests.transport.stores.sqlite.kit import query, sqlite
from transport.stores.memory import MemoryStore

TOPICS = ("t", "u")
APPS = ("a", "b", "c")


class Append(msgspec.Struct, frozen=True):
    topic: str
    count: int


class Join(msgspec.Struct, frozen=True):
    topic: str
    app_id: str
    earliest: bool


class Forget(msgspec.Struct, frozen=True):
    topic: str
    app_id: str


class Settle(msgspec.Struct, frozen=True):
    """Of the group's unsettled events, those with these indexes (modulo their number)."""

    topic: str
    app_id: str
    picks: tuple[int, ...]


class Try(msgspec.Struct, frozen=True):
    topic: str
    app_id: str
    pick: int
    attempts: int


class Reopen(msgspec.Struct, frozen=True):
    pass


Step = Append | Join | Forget | Settle | Try | Reopen
topics = st.sampled_from(("t", "t", "t", "u"))
apps = st.sampled_from(("a", "a", "a", "b", "c"))
picks = st.builds(lambda low, count: tuple(range(low, low + count)), *[st.integers(1, 6)] * 2)
start: list[Step] = [Join("t", "a", earliest=False)]
steps = st.one_of(
    st.builds(Append, topics, st.integers(1, 5)),
    st.builds(Append, topics, st.just(2)),
    st.builds(Join, topics, apps, st.booleans()),
    st.builds(Forget, topics, apps),
    st.builds(Settle, topics, apps, picks),
    st.builds(Settle, topics, apps, picks),
    st.builds(Settle, topics, apps, st.sampled_from([(0,), (0, 3), tuple(range(31))])),
    st.builds(Try, topics, apps, st.integers(0, 30), st.integers(1, 3)),
    st.just(Reopen()),
)


class Model:
    """Batches as lists of event numbers; groups as sets of the numbers not settled."""

    def __init__(self) -> None:
        self.batches: dict[str, list[list[int]]] = {topic: [] for topic in TOPICS}
        self.groups: dict[tuple[str, str], set[int]] = {}
        self.tried: dict[tuple[str, str, int], int] = {}
        self.numbers = 0

    def apply(self, step: Step) -> None:
        match step:
            case Append(topic, count):
                batch = [self.numbers + index for index in range(count)]
                self.numbers += count
                self.batches[topic].append(batch)
                for group in self.of(topic):
                    self.groups[group].update(batch)
            case Join(topic, app_id, earliest):
                kept = {n for batch in self.kept(topic) for n in batch} if earliest else set()
                self.groups.setdefault((topic, app_id), kept)
            case Forget(topic, app_id):
                self.groups.pop((topic, app_id), None)
                for key in [key for key in self.tried if key[:2] == (topic, app_id)]:
                    del self.tried[key]
            case Settle(topic, app_id):
                self.groups[topic, app_id].difference_update(self.picked(step))
            case Try(topic, app_id, _, attempts):
                for number in self.picked(step):
                    self.tried[topic, app_id, number] = attempts
        for topic in TOPICS:
            self.batches[topic] = self.kept(topic)

    def of(self, topic: str) -> list[tuple[str, str]]:
        return [group for group in self.groups if group[0] == topic]

    def kept(self, topic: str) -> list[list[int]]:
        wanted = set().union(*(self.groups[group] for group in self.of(topic)))
        return [batch for batch in self.batches[topic] if wanted.intersection(batch)]

    def picked(self, step: Settle | Try) -> list[int]:
        there = sorted(self.groups[step.topic, step.app_id])
        chosen = step.picks if isinstance(step, Settle) else (step.pick,)
        return sorted({there[index % len(there)] for index in chosen}) if there else []

    def possible(self, step: Step) -> bool:
        return not isinstance(step, Settle | Try) or (step.topic, step.app_id) in self.groups

    def backlogs(self) -> dict[tuple[str, str], int]:
        return {group: len(unsettled) for group, unsettled in self.groups.items()}

    def reads(self, group: tuple[str, str]) -> list[tuple[bytes, int]]:
        numbers = sorted(self.groups[group])
        return [(event(number), self.tried.get((*group, number), 0)) for number in numbers]


class Driver:
    """Does the model's steps on a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.positions: dict[tuple[str, int], int] = {}

    async def apply(self, step: Step, model: Model) -> None:
        match step:
            case Append(topic, count):
                await self._append(topic, range(model.numbers, model.numbers + count))
            case Join(topic, app_id, earliest):
                await self.store.join(topic, app_id, {}, "earliest" if earliest else "new")
            case Forget(topic, app_id):
                await self.store.forget(topic, app_id)
            case Settle(topic, app_id):
                runs = [(self.positions[topic, n], 1) for n in model.picked(step)]
                feed = await self.store.feed(topic, app_id, _Silent())
                await feed.settle(runs)
                await feed.close()
            case Try(topic, app_id, _, attempts):
                where = [self.positions[topic, n] for n in model.picked(step)]
                feed = await self.store.feed(topic, app_id, _Silent())
                await feed.attempted([Attempt(position, attempts, 0, 0) for position in where])
                await feed.close()

    async def _append(self, topic: str, numbers: Sequence[int]) -> None:
        batch = tuple(event(number) for number in numbers)
        appended = await self.store.append(topic, batch, None)
        if appended.batch is not None:
            for index, number in enumerate(numbers):
                self.positions[topic, number] = appended.batch.first + index

    async def backlogs(self) -> dict[tuple[str, str], int | None]:
        infos = await self.store.topics(after=None, limit=100)
        return {
            (info.topic, group.app_id): group.backlog for info in infos for group in info.groups
        }

    async def reads(self, group: tuple[str, str]) -> list[tuple[bytes, int]]:
        feed = await self.store.feed(*group, _Silent())
        got: list[tuple[bytes, int]] = []
        at = feed.position
        while (found := await feed.fetch(at, 20)).runs:
            at = found.next
            for run in found.runs:
                there = run.batch.events[run.index : run.index + run.count]
                got += [(one, run.attempts) for one in there]
        await feed.close()
        return got


class _Silent:
    def evict(self, positions: Sequence[int]) -> None:
        raise AssertionError(positions)

    def reset(self) -> None:
        raise AssertionError


async def agree(driver: Driver, model: Model) -> None:
    assert await driver.backlogs() == model.backlogs()
    for group in model.groups:
        assert await driver.reads(group) == model.reads(group)


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, min_size=30, max_size=60).map(start.__add__))
def test_memory_agrees_with_the_model(course: list[Step]) -> None:
    async def main() -> None:
        store, model = MemoryStore(), Model()
        await store.open(never_fails)
        driver = Driver(store)
        for step in filter(model.possible, course):
            await driver.apply(step, model)
            model.apply(step)
            await agree(driver, model)
            kept = {name: len(topic.kept) for name, topic in store._topics.items() if topic.kept}
            assert kept == {t: len(batches) for t, batches in model.batches.items() if batches}
        await store.close()

    asyncio.run(main())


@settings(max_examples=30, deadline=None)
@given(st.lists(steps, min_size=30, max_size=60).map(start.__add__))
def test_sqlite_agrees_with_the_model(course: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_sqlite_agrees(Path(directory) / "a.db", [*course, Reopen()]))


async def _sqlite_agrees(path: Path, course: Sequence[Step]) -> None:
    model = Model()
    positions: dict[tuple[str, int], int] = {}
    remaining = list(course)
    while remaining:
        async with sqlite(path) as store:
            driver = Driver(store)
            driver.positions = positions
            await agree(driver, model)
            while remaining and not isinstance(step := remaining.pop(0), Reopen):
                if model.possible(step):
                    await driver.apply(step, model)
                    model.apply(step)
                    await agree(driver, model)
        named = "SELECT t.name, count(*) FROM batches b JOIN topics t ON t.id=b.topic_id GROUP BY 1"
        kept = {topic: len(batches) for topic, batches in model.batches.items() if batches}
        assert dict(query(path, named)) == kept
        tried = [key for key in model.tried if key[2] in model.groups[key[:2]]]
        assert query(path, "SELECT count(*) FROM attempts") == [(len(tried),)]
