"""Actors on the event loop: the one place that knows pykka's inner seams.

Guarantees:

- A message told to a living actor is handled, in the order of telling, unless the actor fails or
  stops first; a message to a dead one is dropped and `tell` says so. Nothing is accepted late.
- Handlers run on the loop, one message at a time, at most `TURN` messages in one turn of an actor.
  Before the loop's other work goes on, each actor that is due gets a turn, so what connections
  read meanwhile is bounded; and those that these have told get theirs, up to `CHAIN` in all.
- An exception of any kind in a handler, `BaseException` included, ends this actor alone and is
  reported to who started it; it never reaches pykka's own loop, which would stop every actor.

Why not `pykka.ThreadingActor`: a thread costs 22 KiB and a chain of three passes 66,000 messages/s,
on the loop 370,000 (pykka 4.5, two cores).
"""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, Self
from weakref import WeakValueDictionary

import pykka
import structlog
from pykka._envelope import Envelope

from actorbus.errors import StoreUnavailableError

TURN: Final = 128
"""Messages one actor handles before others get their turn: some 0.5 ms."""

CHAIN: Final = 16
"""Turns in a row, unless more actors are due. A publish passes three of them on its way to the
store; with each turn a callback of its own, the store got it after all that the loop had to do in
between: with 32 callers over HTTP 1.4 ms later, and SQLite's disk was idle."""

CALL_DEADLINE: Final = 12.0
"""Seconds after which a call is given up; the store promises 10 (`actorbus.store`)."""

log = structlog.get_logger("actorbus.actors")

Ref = pykka.ActorRef[Any]


class Mergeable(Protocol):
    """A message that can take the place of an older one of its type."""

    def merge(self, older: Any) -> Self:
        """One message that says what both said."""


class _Turns:
    """The turns that the actors of one loop are due, oldest first."""

    __slots__ = ("__weakref__", "_due", "_loop", "_scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def add(self, turn: Callable[[], None]) -> None:
        self._due.append(turn)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        due = self._due
        try:
            for _ in range(max(CHAIN, len(due))):
                if not due:
                    return
                due.popleft()()
        finally:
            self._scheduled = bool(due)
            if due:
                self._loop.call_soon(self._run)


_turns: Final[WeakValueDictionary[asyncio.AbstractEventLoop, _Turns]] = WeakValueDictionary()


def _turns_of(loop: asyncio.AbstractEventLoop) -> _Turns:
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = _Turns(loop)
    return turns


class LoopInbox:
    """An actor's inbox: wakes its actor when it was empty, and is emptied in turns.

    A list: most actors are idle, and an empty deque is 760 bytes.

    Attributes:
        actor: None before its start and after its end; what tells whether it lives, since it is
            asked for with each message.
    """

    __slots__ = ("_queue", "_turn", "_turns", "_wake", "actor")

    def __init__(self) -> None:
        self._queue: list[Any] = []
        self._turns: _Turns | None = None
        self._turn: Callable[[], None] | None = None
        self._wake = False
        self.actor: LoopActor | None = None

    def start(self, actor: "LoopActor", turn: Callable[[], None]) -> None:
        """Begin to schedule turns; what is already waiting gets the first."""
        self.actor = actor  # pykka's references to actors are weak: this keeps it alive
        self._turns = _turns_of(actor.loop)
        self._turn = turn
        if self._queue:
            self.wake()

    def wake(self) -> None:
        """Schedule a turn unless one is."""
        if not self._wake and self._turns is not None and self._turn is not None:
            self._wake = True
            self._turns.add(self._turn)

    def take(self) -> list[Any]:
        """Begin a turn: the oldest messages, as many as may be handled in one."""
        self._wake = False
        taken = self._queue
        self._queue = taken[TURN:]
        del taken[TURN:]
        return taken

    def push(self, message: Any) -> None:
        """Add a message."""
        self._queue.append(message)
        if not self._wake:
            self.wake()

    def push_merged(self, message: Mergeable) -> None:
        """Add a message, or merge it with the newest one waiting if that is of its type."""
        if self._queue and type(self._queue[-1]) is type(message):
            self._queue[-1] = message.merge(self._queue[-1])
        else:
            self.push(message)

    def close(self) -> None:
        """Drop what waits and schedule no more turns."""
        self._queue.clear()
        self._turn = self.actor = None

    def put(self, envelope: Envelope[Any], /) -> None:
        """Pykka's door (`ActorRef.tell`); replies are messages here, so only tells are taken."""
        if envelope.reply_to is not None:
            msg = "ask is not supported: tell, and let the reply be a message"
            raise TypeError(msg)
        self.push(envelope.message)

    def get(self) -> Envelope[Any]:
        """Pykka's door; the runtime itself uses `take`."""
        return Envelope(self._queue.pop(0))

    def empty(self) -> bool:
        """Pykka's door."""
        return not self._queue


class _Flag(threading.Event):
    """Whether an actor has stopped.

    It is set and read on the loop alone: without the lock and the waiters of its base, which are
    1.1 KiB an actor.
    """

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """It has stopped."""
        self._set = True

    def is_set(self) -> bool:
        """Whether it has."""
        return self._set


class LoopActor(pykka.Actor):
    """An actor whose inbox is drained on the asyncio loop it was started on.

    A subclass implements `on_receive`, and `on_turn_end` for what is better done once for many
    messages.
    """

    actor_inbox: LoopInbox
    _on_crash: Callable[[Any, BaseException], None] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.actor_stopped = self.actor_ref.actor_stopped = _Flag()

    @classmethod
    def start(
        cls,
        *args: Any,
        crash: Callable[[Any, BaseException], None] | None = None,
        **kwargs: Any,
    ) -> pykka.ActorRef[Self]:
        """Create the actor and run `on_start` at once.

        pykka's registry is left out: it is a list with linear look-up and removal. The supervisor
        keeps actors by name.

        Args:
            args: for the constructor.
            crash: called with the actor and the error after a failure.
            kwargs: for the constructor.
        """
        actor = cls(*args, **kwargs)
        actor._on_crash = crash
        actor._start_actor_loop()
        return actor.actor_ref

    @staticmethod
    def _create_actor_inbox() -> LoopInbox:
        return LoopInbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        msg = "futures are not supported: replies are messages"
        raise TypeError(msg)

    def _start_actor_loop(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.actor_inbox.start(self, self._turn)
        try:
            self.on_start()
        except BaseException as error:  # noqa: BLE001 - the failure policy above
            self.crash(error)

    def _turn(self) -> None:
        inbox = self.actor_inbox
        if inbox.actor is None:
            return  # stopped after this turn was scheduled
        try:
            for message in inbox.take():
                self.on_receive(message)
                if inbox.actor is None:
                    return
            self.on_turn_end()
        except BaseException as error:  # noqa: BLE001 - the failure policy above
            self.crash(error)
            return
        if not inbox.empty():
            inbox.wake()

    def on_turn_end(self) -> None:
        """Run after each turn's messages."""

    def crash(self, error: BaseException) -> None:
        """End with this failure, and report it."""
        self._end()
        if self._on_crash is not None:
            # on the loop's next turn: a failure while starting must not meet a half-made entry
            self.loop.call_soon(self._on_crash, self, error)

    def _end(self) -> None:
        self.actor_stopped.set()
        self.actor_inbox.close()

    def stop(self) -> None:
        """Stop at once: what waits in the inbox is dropped."""
        if not self.actor_stopped.is_set():
            self._end()
            self.on_stop()

    def wake(self) -> None:
        """Ask for a turn, so that `on_turn_end` runs soon."""
        self.actor_inbox.wake()

    def call(self, work: Awaitable[Any], answer: Callable[[Any, Exception | None], Any]) -> None:
        """Tell this actor `answer(result, error)` when `work` is done, or late, as an error.

        An answer that returns None has done what there was to do: no turn is made for it.
        """
        _Call(self, work, answer, CALL_DEADLINE)

    def call_openly(
        self, work: Awaitable[Any], answer: Callable[[Any, Exception | None], Any]
    ) -> None:
        """As `call`, for work that may wait for ever (until it is cancelled at its source)."""
        _Call(self, work, answer, None)


class _Call:
    """One awaitable whose outcome becomes a message."""

    __slots__ = ("_actor", "_answer", "_future", "_timer")

    def __init__(
        self,
        actor: LoopActor,
        work: Awaitable[Any],
        answer: Callable[[Any, Exception | None], Any],
        deadline: float | None,
    ) -> None:
        self._actor = actor
        self._answer: Callable[[Any, Exception | None], Any] | None = answer
        self._timer: asyncio.TimerHandle | None = None
        self._future = work if isinstance(work, asyncio.Future) else asyncio.ensure_future(work)
        if self._future.done():  # as the memory store's: nothing has to be waited for
            self._done(self._future)
            return
        if deadline is not None:
            self._timer = actor.loop.call_later(deadline, self._late)
        self._future.add_done_callback(self._done)

    def _done(self, future: asyncio.Future[Any]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if future.cancelled():
            self._tell(None, StoreUnavailableError("the call was cancelled"))
            return
        error = future.exception()
        if error is None:
            self._tell(future.result(), None)
        elif isinstance(error, Exception):
            self._tell(None, error)
        else:
            self._tell(None, StoreUnavailableError(f"the call ended with {error!r}"))

    def _late(self) -> None:
        """Answer now: work that resists being cancelled must not hold up who waits for it."""
        self._tell(None, StoreUnavailableError("the call took too long and was given up"))
        self._future.cancel()

    def _tell(self, result: Any, error: Exception | None) -> None:
        answer, self._answer = self._answer, None
        if answer is None or self._actor.actor_inbox.actor is None:
            return
        try:
            message = answer(result, error)
        except BaseException as failure:  # noqa: BLE001 - an actor must not wait for ever
            self._actor.crash(failure)
            return
        if message is not None:
            self._actor.actor_inbox.push(message)


def tell(ref: Ref, message: Any) -> bool:
    """Tell an actor; False if it is dead (pykka's own `tell` raises in the sender)."""
    inbox: LoopInbox = ref.actor_inbox  # type: ignore[assignment]  # every actor here has one
    if inbox.actor is None:
        return False
    inbox.push(message)
    return True


def tell_merged(ref: Ref, message: Mergeable) -> bool:
    """Tell an actor, collapsing with the newest waiting message of the same type."""
    inbox: LoopInbox = ref.actor_inbox  # type: ignore[assignment]  # as above
    if inbox.actor is None:
        return False
    inbox.push_merged(message)
    return True


def actor_of(ref: Ref) -> LoopActor | None:
    """The living actor behind a reference, for the supervisor."""
    actor: LoopActor | None = ref.actor_inbox.actor  # type: ignore[attr-defined]  # as above
    return actor


def stop(ref: Ref) -> None:
    """Stop an actor at once, if it lives."""
    actor = actor_of(ref)
    if actor is not None:
        actor.stop()
