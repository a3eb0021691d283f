"""The actor of one group: carries out what `actors.group_state` decides."""

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from actorbus import events
from actorbus.errors import StoreUnavailableError
from actorbus.store import Feed, Fetched, GroupOptions
from actors import effects as fx
from actors import messages as msg
from actors.cells import GroupCell
from actors.clock import Now
from actors.group_state import GroupState
from actors.runtime import LoopActor, Ref, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actors.supervisor import Supervisor

log = structlog.get_logger("actorbus.actors")

OPEN_PAUSE = 0.5
"""Seconds between attempts to open the feed while the store is away."""

DEAD_LETTER_SECONDS = 15.0
"""How long the dead-letter topic may take to answer; it promises 12."""


class GroupActor(LoopActor):
    """One subscription group of one topic (`SubscriptionGroupActor` in the design).

    Args:
        cell: the group's entry at the supervisor.
        generation: rises with each restart; leases of older generations are void.
        options: in force at the start; read from the store with the opening of the feed if None.
        supervisor: has the feed, and the dead-letter topic.
    """

    def __init__(
        self,
        cell: GroupCell,
        generation: int,
        options: GroupOptions | None,
        supervisor: "Supervisor",
    ) -> None:
        super().__init__()
        self.cell = cell
        self.generation = generation
        self._supervisor = supervisor
        self._clock = supervisor.clock
        self._now: Now | None = None
        self._state = GroupState(
            options or GroupOptions(),
            supervisor.store.abilities,
            cell.counters,
            lambda: random.uniform(0.5, 1.0),  # noqa: S311 - jitter, no secret
            self._clock.now(),
        )
        self._configured = options is not None
        self._feed: Feed | None = None
        self._refs: dict[int, Ref] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._letters: dict[int, asyncio.TimerHandle] = {}
        self._unanswered = 0
        self._quiet: asyncio.Future[None] | None = None

    def on_start(self) -> None:
        """Open the feed, and greet the members of the generation before."""
        self._open_feed()
        for member, ref in self.cell.members.items():
            self.on_receive(msg.Attach(member, ref))
        self._now = None  # no turn has begun
        self.wake()

    def _open_feed(self) -> None:
        def answer(result: tuple[Feed, GroupOptions] | None, error: Exception | None) -> object:
            if error is None and result is not None:
                return msg.FeedOpen(*result)
            if isinstance(error, StoreUnavailableError):
                return _FeedAway(error)
            return _Broken(error)

        groups = self._supervisor.groups
        self.call(groups.open_feed(self.cell, self.generation, _Listener(self)), answer)

    def on_receive(self, message: msg.Message) -> None:
        """Hand a message to the state, after what concerns the shell alone."""
        concern = _CONCERNS.get(type(message))
        rest = message if concern is None else concern(self, message)
        if rest is not None:
            self._state.handle(rest, self._time())

    def _time(self) -> Now:
        """Now, as it was when this turn first asked."""
        if self._now is None:
            self._now = self._clock.now()
        return self._now

    # What concerns the shell: each returns what is left for the state.

    def _attach(self, message: msg.Attach) -> msg.Attach:
        self._refs[message.member] = message.ref
        return message

    def _detach(self, message: msg.Detach) -> msg.Detach:
        self._refs.pop(message.member, None)
        return message

    def _current(self, message: "_OfMember") -> "_OfMember | None":
        """Nothing of an older generation changes anything."""
        if message.generation == self.generation:
            return message
        if isinstance(message, msg.Settle | msg.Extend) and message.token is not None:
            self._tell(message.member, msg.Settled(message.token, message.pieces))
        return None

    def _configure(self, message: msg.FeedOpen | msg.Configure) -> msg.FeedOpen | msg.Configure:
        """Options that were read while others were set are out of date."""
        if isinstance(message, msg.FeedOpen):
            self._feed = message.feed
            if not self._configured:
                self._state.handle(msg.Configure(message.options), self._time())
        self._configured = True
        return message

    def _on_answered(self, message: "_Answered") -> None:
        self.answered()
        self._carry_out(self._state.answered(message.answers, failed=message.failed))

    def _on_feed_away(self, message: "_FeedAway") -> None:
        log.debug("feed is away", topic=self.cell.topic, reason=str(message.error))
        self.loop.call_later(OPEN_PAUSE, self._reopen)

    def _on_not_released(self, _message: "_NotReleased") -> None:
        self._supervisor.groups.reset(self)

    def _on_broken(self, message: "_Broken") -> None:
        raise message.error or RuntimeError("the feed did not open")

    def _reopen(self) -> None:
        if not self.actor_stopped.is_set():
            self._open_feed()

    def answered(self) -> None:
        """A call that `quiet` waits for has ended."""
        self._unanswered -= 1
        if self._quiet is not None and not self._unanswered and not self._quiet.done():
            self._quiet.set_result(None)

    async def quiet(self) -> None:
        """Wait until what has been settled so far is durable and answered."""
        if self._unanswered:
            self._quiet = self.loop.create_future()
            await self._quiet

    def on_turn_end(self) -> None:
        """Carry out what the turn's messages have led to."""
        self._carry_out(self._state.pump(self._time()))
        self._now = None

    def on_stop(self) -> None:
        """No timer outlives the actor, and nobody waits for it."""
        for timer in (self._timer, *self._letters.values()):
            if timer is not None:
                timer.cancel()
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)

    # --- effects ------------------------------------------------------------------------------

    def _carry_out(self, effects: "Sequence[fx.Effect]") -> None:
        for effect in effects:
            self._act(effect)

    def _act(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Deliver():
                self._deliver(effect)
            case fx.StoreCall():
                self._call_store(effect)
            case fx.Reply():
                self._reply(effect.answer)
            case fx.SetTimer():
                self._set_timer(effect.at)
            case fx.Open():
                self._tell(
                    effect.member, msg.Opened(self.cell.topic, self.generation, self.actor_ref)
                )
            case fx.Revoked():
                revoke = msg.Revoke(self.cell.topic, self.generation, effect.pieces)
                self._tell(effect.member, revoke)
            case fx.DeadLetter():
                self._dead_letter(effect)
            case fx.Sleep():
                self._supervisor.groups.sleeps(self)

    def _call_store(self, effect: fx.StoreCall) -> None:
        feed = self._feed
        if feed is None:
            raise RuntimeError("the feed is not open")
        match effect:
            case fx.SettleRuns():
                self._unanswered += 1
                settled = feed.settle(effect.runs, awaited=bool(effect.answers))
                self.call(settled, _Durable(self, effect.answers))
            case fx.RecordAttempts():
                self._unanswered += 1
                self.call(feed.attempted(effect.attempts), _Durable(self, effect.answers))
            case fx.Fetch():
                self.call_openly(feed.fetch(effect.position, effect.max_bytes), self._fetched)
            case fx.GiveBack():
                self.call(feed.release(effect.runs), self._released)
            case fx.MoveEvent():
                self._move(feed, effect)

    def _tell(self, member: int, message: msg.Message) -> bool:
        """Tell a member, unless it has gone."""
        ref = self._refs.get(member)
        return ref is not None and tell(ref, message)

    def _deliver(self, effect: fx.Deliver) -> None:
        offer = msg.Offer(
            self.cell.topic,
            self.generation,
            self.actor_ref,
            effect.runs,
            self._state.lease_ms(),
            effect.alone,
        )
        if not self._tell(effect.member, offer):
            # the instance has failed; the supervisor's Detach is still to come
            self.actor_inbox.push(msg.Taken(effect.member, self.generation, 0, 0, 0))

    def _reply(self, answer: fx.Answer) -> None:
        failure = None
        if answer.failed:
            failure = msg.Failure(
                "store_unavailable", "settled, but not durable yet; it goes with the next commit"
            )
        self._tell(answer.member, msg.Settled(answer.token, answer.stale, failure))

    def _fetched(self, fetched: Fetched | None, error: Exception | None) -> msg.FetchDone:
        if error is not None:
            log.warning(
                "fetch failed", topic=self.cell.topic, app_id=self.cell.app_id, reason=str(error)
            )
        return msg.FetchDone(fetched)

    def _released(self, position: int | None, error: Exception | None) -> msg.Message:
        if isinstance(error, StoreUnavailableError):
            return _NotReleased()
        if error is not None or position is None:
            return _Broken(error)
        return msg.Released(position)

    def _move(self, feed: Feed, effect: fx.MoveEvent) -> None:
        position = effect.attempt.position
        self.call(feed.move(effect.attempt), lambda _, error: msg.MoveDone(position, error is None))

    # --- dead letters -------------------------------------------------------------------------

    def _dead_letter(self, effect: fx.DeadLetter) -> None:
        run = effect.run
        letters = tuple(
            events.dead_letter(
                event, reason=effect.reason, topic=self.cell.topic, attempts=run.attempts
            )
            for event in run.events()
        )
        token = effect.token
        request = msg.Publish(self.actor_ref, token, letters, sum(map(len, letters)), None)
        if not self._supervisor.publish(effect.topic, request):
            self.loop.call_soon(self._letter_lost, token)
            return
        self._forget_letter(token)
        self._letters[token] = self.loop.call_later(DEAD_LETTER_SECONDS, self._letter_lost, token)

    def _letter_answered(self, message: msg.PublishDone) -> msg.DeadLetterDone:
        self._forget_letter(message.token)
        return msg.DeadLetterDone(message.token, message.failure is None)

    def _letter_lost(self, token: int) -> None:
        self._letters.pop(token, None)
        tell(self.actor_ref, msg.DeadLetterDone(token, durable=False))

    def _forget_letter(self, token: int) -> None:
        timer = self._letters.pop(token, None)
        if timer is not None:
            timer.cancel()

    # --- time ---------------------------------------------------------------------------------

    def _set_timer(self, at: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        seconds = max(at - self._clock.now().mono, 0) / 1000
        self._timer = self.loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        tell(self.actor_ref, msg.Tick())


class _Durable:
    """What to tell the group when a settling or a count is durable, or is not yet."""

    __slots__ = ("_actor", "_answers")

    def __init__(self, actor: GroupActor, answers: tuple[fx.Answer, ...]) -> None:
        self._actor = actor
        self._answers = answers

    def __call__(self, _result: object, error: Exception | None) -> "_Answered | None":
        if error is not None:
            cell = self._actor.cell
            log.warning(
                "settling is not durable yet",
                topic=cell.topic,
                app_id=cell.app_id,
                reason=str(error),
            )
        if self._answers:
            return _Answered(self._answers, failed=error is not None)
        self._actor.answered()
        return None


class _Listener:
    """How the feed calls its group."""

    def __init__(self, actor: GroupActor) -> None:
        self._actor = actor

    def evict(self, positions: "Sequence[int]") -> None:
        """The store wants these events moved."""
        tell(self._actor.actor_ref, msg.Evict(tuple(positions)))

    def reset(self) -> None:
        """The feed has lost everything unsettled: a new generation begins."""
        self._actor._supervisor.groups.reset(self._actor)


class _Inner(msg.Message, frozen=True):
    """Base of what the actor tells itself and the state does not see."""


class _Answered(_Inner, frozen=True):
    answers: tuple[fx.Answer, ...]
    failed: bool


class _FeedAway(_Inner, frozen=True):
    error: Exception


class _NotReleased(_Inner, frozen=True):
    """The store is away: it has everything back, or will say so by a new feed."""


class _Broken(_Inner, frozen=True):
    error: Exception | None


_OfMember = msg.Settle | msg.Extend | msg.Room | msg.Taken

_CONCERNS: dict[type[msg.Message], Callable[[GroupActor, Any], msg.Message | None]] = {
    msg.Attach: GroupActor._attach,
    msg.Detach: GroupActor._detach,
    msg.Settle: GroupActor._current,
    msg.Extend: GroupActor._current,
    msg.Room: GroupActor._current,
    msg.Taken: GroupActor._current,
    msg.PublishDone: GroupActor._letter_answered,
    msg.FeedOpen: GroupActor._configure,
    msg.Configure: GroupActor._configure,
    _Answered: GroupActor._on_answered,
    _FeedAway: GroupActor._on_feed_away,
    _NotReleased: GroupActor._on_not_released,
    _Broken: GroupActor._on_broken,
}
