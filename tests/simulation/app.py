"""An app's connection: takes deliveries, and settles them in every way."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actorbus import frames
from actorbus.codec import MSGPACK
from actors.instance import Closed, InstanceActor, Received
from actors.runtime import Ref, actor_of, tell
from tests.simulation.books import Group, Lease
from tests.simulation.casting import Part

if TYPE_CHECKING:
    from tests.simulation.world import World


class App:
    """One connection and the client behind it.

    Args:
        world: where it lives.
        number: of the connection, never used twice.
        part: what it is there for.

    Attributes:
        gone: the connection has ended.
        unanswered: refs of what it has asked and waits for.
    """

    codec = MSGPACK

    def __init__(self, world: "World", number: int, part: Part) -> None:
        self.world = world
        self.number = number
        self.part = part
        self.label = f"{part.app_id} {number}"
        self.gone = False
        self.unanswered: dict[str, Any] = {}
        self._random = world.loop.random
        self._refs = 0
        self._inbox: deque[dict[str, Any]] = deque()
        self._limit = self._random.choice((1, 3, 20))
        hello = frames.Hello(None, part.app_id, None, None, self._limit)
        self.ref: Ref = world.supervisor.connect(hello, self)
        if part.topic is not None:
            self._subscribe()

    @property
    def group(self) -> Group:
        """The group it works for."""
        assert self.part.topic is not None
        return self.part.topic, self.part.app_id

    # --- the wire's end at the broker ---------------------------------------------------------

    def send(self, messages: Sequence[bytes]) -> None:
        """The broker sends: the books see it now, the client a little later."""
        for message in messages:
            frame = self.codec.decode(message)
            self.world.trace.append((self.world.loop.time(), self.number, frame["type"]))
            if frame["type"] == "deliver":
                self._delivered(frame)
            elif frame["type"] == "acked":
                self._acked(frame)
            if not self._inbox:
                self._later(0, self._turn)
            self._inbox.append(frame)

    def unsent(self) -> int:
        return 0

    def close(self, code: int, reason: str) -> None:
        """The broker closes the connection."""
        self.world.lost(self)

    def _delivered(self, frame: dict[str, Any]) -> None:
        actor = actor_of(self.ref)
        assert isinstance(actor, InstanceActor)
        window = actor.deliveries.state.window
        kept = window.in_flight <= window.limit
        self.world.books.claim("no window is exceeded", window.in_flight, kept=kept)
        for one in frame["deliveries"]:
            lease = Lease(self.number, one["id"], one["event"]["data"], one["attempt"])
            if self.part.once:
                self.world.books.delivered(self.group, lease)
            pause = 0.01 if self.world.calm else self._random.choice((0, 0.01, 0.3, 3.0))
            self._later(pause, self._settle, lease)

    def _acked(self, frame: dict[str, Any]) -> None:
        about = self.unanswered.get(frame["ref"])
        self.world.books.claim("an ack is answered once", frame, kept=about is not None)
        if about is not None and not frame["stale"] and self.part.once:
            self.world.books.answered(self.group, *about)

    # --- the client ---------------------------------------------------------------------------

    def publish(self, topic: str, event: int) -> None:
        """Publish an event; the books know of it once that is answered."""
        self._ask("p", event, lambda ref: frames.Publish(ref, topic, [{"data": event}], None))

    def pause_or_go_on(self, *, full: bool) -> None:
        """Another window, perhaps none."""
        limit = self._limit if full else self._random.choice((0, 1, self._limit))
        self._say(frames.Flow(limit))

    def hang_up(self) -> None:
        """The connection is lost on the way."""
        tell(self.ref, Closed(counts=True))
        self.world.lost(self)

    def _subscribe(self) -> None:
        topic, options = self.group[0], dict(self.part.options)
        self._ask("s", None, lambda ref: frames.Subscribe(ref, topic, options))

    def _settle(self, lease: Lease) -> None:
        statuses: tuple[Any, ...] = ("SUCCESS",)
        if not self.world.calm:
            statuses = ("SUCCESS", "SUCCESS", "SUCCESS", "RETRY", "DROP")
        status = self._random.choice(statuses)
        if status == "DROP" and "dead_letter_topic" not in self.part.options:
            status = "SUCCESS"
        if status == "SUCCESS":
            self.world.books.said[self.group].add(lease.event)
        about = lease, status
        self._ask("a", about, lambda ref: frames.Ack(ref, [lease.identifier], status))

    def _ask(self, kind: str, about: Any, build: Any) -> None:
        self._refs += 1
        ref = f"{kind}{self._refs}"
        self.unanswered[ref] = about
        self._say(build(ref))

    def _say(self, frame: frames.ClientFrame) -> None:
        tell(self.ref, Received(frame, 0))

    def _turn(self) -> None:
        while self._inbox:
            self._take(self._inbox.popleft())

    def _take(self, frame: dict[str, Any]) -> None:
        ref = frame.get("ref")
        if ref is None:
            return
        assert ref in self.unanswered, "answered twice"
        about = self.unanswered.pop(ref)
        if frame["type"] == "published":
            self.world.books.durable.add(about)
        elif frame["type"] == "error" and ref.startswith("s"):
            self._later(self._random.choice((0.01, 0.5)), self._subscribe)

    def _later(self, pause: float, work: Any, *arguments: Any) -> None:
        def unless_gone() -> None:
            if not self.gone:
                work(*arguments)

        asyncio.get_running_loop().call_later(pause, unless_gone)
