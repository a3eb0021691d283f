"""A broker in virtual time, its apps, and everything that may go wrong."""

import asyncio
from collections import deque

from actors.runtime import LoopActor, Ref, actor_of
from actors.supervisor import Supervisor
from tests.simulation.app import App
from tests.simulation.books import Books, Group
from tests.simulation.casting import BILLING, CAST, LOST, ORDERS, PUBLISHES, STOCK, Part
from tests.simulation.moody_store import MoodyStore
from tests.simulation.virtual_time import VirtualClock, VirtualLoop

EVENTS = 100
"""Published on each of the two days."""

CALM_SECONDS = 1_000
"""In which everything must come to rest once nothing breaks any more."""

NIGHT_SECONDS = 300
"""Long enough for groups, and then topics, to go to sleep."""


class BrokenOnPurposeError(Exception):
    """The only failure that an actor may have here."""


class World:
    """The play: apps publish and settle while actors fail and connections come and go.

    Attributes:
        books: what was promised and said.
        calm: nothing breaks any more, and every app settles what it gets.
        trace: what the broker sent, when and to whom.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.random = loop.random
        self.store = MoodyStore(loop)
        self.supervisor = Supervisor(self.store, fatal=self._fatal, clock=VirtualClock(loop))
        self.books = Books()
        self.apps: list[App] = []
        self.calm = False
        self.trace: list[tuple[float, int, str]] = []
        self._night = False
        self._faults: dict[str, deque[float]] = {}
        self._connections = 0

    def _fatal(self, reason: str) -> None:
        raise AssertionError(reason)

    # --- what apps tell -----------------------------------------------------------------------

    def lost(self, app: App) -> None:
        """A connection has ended: by day its app comes back."""
        if app.gone:
            return
        app.gone = True
        self.apps.remove(app)
        self.loop.call_later(self.random.choice((0, 0.1, 3.0)), self._come_back, app)

    def _come_back(self, app: App) -> None:
        if not self._night:
            self._enter(app.part)

    def _enter(self, part: Part) -> None:
        self._connections += 1
        self.apps.append(App(self, self._connections, part))

    # --- the play -----------------------------------------------------------------------------

    async def play(self) -> None:
        """Everything, from the first connection to an orderly stop."""
        await self.store.open(lambda error: self._fatal(str(error)))
        for part in CAST:
            if part.topic is not None:
                await self.store.join(part.topic, part.app_id, part.options, "new")
            self._enter(part)
        self.supervisor.start()
        await self._day(range(EVENTS))
        await self._sleep_over()
        await self._day(range(EVENTS, 2 * EVENTS))
        await self._come_to_rest()
        await self._stop()

    async def _day(self, events: range) -> None:
        for event in events:
            for app in self.apps:
                if app.part is PUBLISHES:
                    app.publish(ORDERS, event)
            await asyncio.sleep(self.random.choice((0, 0.001, 0.2, 1.0)))
            self._trouble()

    async def _sleep_over(self) -> None:
        """All go home, actors go to sleep, and all come back."""
        self._night = True
        for app in list(self.apps):
            app.hang_up()
        await asyncio.sleep(NIGHT_SECONDS)
        assert not any(cell.ref for cell in self.supervisor.topics.values()), "a topic is awake"
        self._night = False
        for part in CAST:
            self._enter(part)

    async def _come_to_rest(self) -> None:
        """Nothing breaks any more: every durable event must be settled by every app."""
        self.calm = True
        self.store.moody = False
        until = self.loop.time() + CALM_SECONDS
        while self.loop.time() < until:
            await asyncio.sleep(5)
            for app in self.apps:
                app.pause_or_go_on(full=True)
            if len(self.apps) == len(CAST) and not await self._backlog():
                break
        self.books.check()
        assert await self._backlog() == 0, "an event is stuck"
        await asyncio.sleep(5)  # the last answers
        assert self.books.lost((ORDERS, BILLING)) == set(), "an event is lost"
        assert self.books.lost((ORDERS, STOCK), (LOST, STOCK)) == set(), "an event is lost"
        assert len(self.books.durable) > EVENTS
        self.books.check()
        assert [ref for app in self.apps for ref in app.unanswered] == [], "not answered"

    async def _backlog(self) -> int:
        """Events that some group has not settled, as the store has it."""
        topics = await self.store.topics(after=None, limit=10)
        return sum(group.backlog or 0 for topic in topics for group in topic.groups)

    async def _stop(self) -> None:
        self._night = True
        self.supervisor.go_away("the play is over", 0)
        await self.supervisor.flushed()
        await self.supervisor.close_feeds()
        self.supervisor.close_connections()
        await asyncio.sleep(1)
        assert self.supervisor.connections == {}, "a connection is left"
        self.supervisor.stop()
        await self.store.close()

    # --- trouble ------------------------------------------------------------------------------

    def _trouble(self) -> None:
        """Now and then something breaks or leaves."""
        if not self.apps:
            return
        app = self.random.choice(self.apps)
        kind = self.random.random()
        if kind < 0.06:
            self._break_group(
                self.random.choice([(ORDERS, BILLING), (ORDERS, STOCK), (LOST, STOCK)])
            )
        elif kind < 0.08:
            self._break(ORDERS, 2, self.supervisor.topics[ORDERS].ref)
        elif kind < 0.11:
            self._break(app.label, 1, app.ref)
        elif kind < 0.15:
            app.hang_up()
        elif kind < 0.20:
            app.pause_or_go_on(full=False)

    def _break_group(self, group: Group) -> None:
        topic, app_id = group
        cell = self.supervisor.topics.get(topic)
        if cell is not None and app_id in cell.groups:
            # the sixth within a minute takes the topic with it
            self._break(f"{topic} {app_id}", 6, cell.groups[app_id].ref)

    def _break(self, name: str, most: int, ref: Ref | None) -> None:
        """Let an actor fail, but not so often that the broker has to give up."""
        actor = None if ref is None else actor_of(ref)
        times = self._faults.setdefault(name, deque())
        while times and times[0] < self.loop.time() - 60:
            times.popleft()
        if actor is not None and len(times) < most:
            times.append(self.loop.time())
            break_actor(actor, self.random.choice(("on_receive", "on_turn_end")))


def break_actor(actor: LoopActor, where: str) -> None:
    """Let an actor fail in its next turn: before its first message, or after all of them."""

    def broken(*_message: object) -> None:
        raise BrokenOnPurposeError

    setattr(actor, where, broken)
    actor.wake()
