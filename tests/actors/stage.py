"""Whole brokers without sockets: a supervisor, a store, and connections with fake wires."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from actorbus import frames
from actorbus.errors import Ref as ClientRef
from actorbus.store import Store
from actors.group import GroupActor
from actors.instance import Closed, InstanceActor, Received
from actors.runtime import LoopActor, actor_of, tell
from actors.supervisor import Supervisor
from actors.topic import TopicActor
from tests.actors.fakes import FakeWire, ManualClock
from tests.blocking import no_blocking
from transport.stores.memory import MemoryStore

SECONDS = 5.0
"""How long a test waits for what must come."""


class WaitingWire(FakeWire):
    """A wire on which a test can wait for frames."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.came = asyncio.Event()

    def send(self, frames: Sequence[bytes]) -> None:
        super().send(frames)
        self.came.set()

    def close(self, code: int, reason: str) -> None:
        super().close(code, reason)
        self.came.set()


class Peer:
    """A connection that has said hello, and its client."""

    def __init__(self, stage: "Stage", app_id: str, max_in_flight: int) -> None:
        self.wire = WaitingWire(app_id)
        hello = frames.Hello(None, app_id, None, None, max_in_flight)
        self.ref = stage.supervisor.connect(hello, self.wire)
        self._asked = 0

    @property
    def actor(self) -> InstanceActor:
        actor = actor_of(self.ref)
        assert isinstance(actor, InstanceActor)
        return actor

    def say(self, frame: frames.ClientFrame) -> None:
        """Send a frame."""
        tell(self.ref, Received(frame, 0))

    async def ask(self, build: Callable[[ClientRef], frames.ClientFrame]) -> dict[str, Any]:
        """Send a frame and wait for its answer."""
        self._asked += 1
        ref = self._asked
        self.say(build(ref))
        return await self.answer(ref)

    async def answer(self, ref: ClientRef) -> dict[str, Any]:
        """The answer to the frame with this ref."""
        return await self.find(lambda frame: frame.get("ref") == ref)

    async def find(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next frame that is wanted; it is taken out."""
        async with asyncio.timeout(SECONDS):
            while True:
                for frame in self.wire.frames:
                    if wanted(frame):
                        self.wire.frames.remove(frame)
                        return frame
                self.wire.came.clear()
                await self.wire.came.wait()

    async def closed(self) -> tuple[int, str]:
        """How the broker closed the connection."""
        async with asyncio.timeout(SECONDS):
            while self.wire.closed is None:
                self.wire.came.clear()
                await self.wire.came.wait()
        return self.wire.closed

    async def subscribe(self, topic: str = "orders", **options: Any) -> dict[str, Any]:
        return await self.ask(lambda ref: frames.Subscribe(ref, topic, options))

    async def publish(self, *data: Any, topic: str = "orders") -> dict[str, Any]:
        events: list[Any] = [{"data": one} for one in data]
        return await self.ask(lambda ref: frames.Publish(ref, topic, events, None))

    async def ack(self, *ids: int, status: Any = "SUCCESS") -> dict[str, Any]:
        return await self.ask(lambda ref: frames.Ack(ref, list(ids), status))

    async def delivered(self, count: int) -> list[tuple[int, int, Any]]:
        """The next deliveries: id, attempt and data."""
        found: list[tuple[int, int, Any]] = []
        while len(found) < count:
            frame = await self.find(lambda frame: frame["type"] == "deliver")
            found += [
                (one["id"], one["attempt"], one["event"]["data"]) for one in frame["deliveries"]
            ]
        assert len(found) == count
        return found

    def close(self) -> None:
        """The connection is lost."""
        tell(self.ref, Closed(counts=True))


class Stage:
    """One broker."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = ManualClock()
        self.fatal: list[str] = []
        self.supervisor = Supervisor(store, fatal=self.fatal.append, clock=self.clock)

    def app(self, app_id: str = "billing", max_in_flight: int = 256) -> Peer:
        return Peer(self, app_id, max_in_flight)

    def topic(self, name: str = "orders") -> TopicActor:
        ref = self.supervisor.topics[name].ref
        actor = None if ref is None else actor_of(ref)
        assert isinstance(actor, TopicActor)
        return actor

    def group(self, topic: str = "orders", app_id: str = "billing") -> GroupActor:
        ref = self.supervisor.topics[topic].groups[app_id].ref
        actor = None if ref is None else actor_of(ref)
        assert isinstance(actor, GroupActor)
        return actor


def fail(actor: LoopActor, error: BaseException) -> None:
    """Let an actor fail at its next message."""

    def on_receive(_message: Any) -> None:
        raise error

    actor.on_receive = on_receive  # type: ignore[method-assign, assignment]  # the fault
    actor.actor_inbox.push(None)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until something has happened."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - it is the loop's own turns that are waited for
            await asyncio.sleep(0)


async def turns(count: int = 20) -> None:
    """Let every actor have some turns."""
    for _ in range(count):
        await asyncio.sleep(0)


def play(script: Callable[[Stage], Coroutine[Any, Any, None]], store: Store | None = None) -> None:
    """Run a script against a broker on a memory store."""

    async def run() -> None:
        stage = Stage(store or MemoryStore())
        await stage.store.open(_unexpected)
        try:
            await script(stage)
        finally:
            stage.supervisor.stop()
            await stage.store.close()

    with structlog.testing.capture_logs(), no_blocking():
        asyncio.run(run())


def _unexpected(error: Exception) -> None:
    raise error
