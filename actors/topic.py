"""The actor of one topic: appends what is published and tells its groups."""

from typing import TYPE_CHECKING

import structlog

from actorbus.errors import ErrorCode, RefusedError, StoreUnavailableError
from actorbus.store import Appended, GroupOptions
from actors import messages as msg
from actors.cells import TopicCell
from actors.failures import failure_of
from actors.lane import Lane, Request
from actors.runtime import LoopActor, tell, tell_merged
from actors.subscribing import join_group
from actors.topic_state import Append, TopicState

if TYPE_CHECKING:
    from actors.supervisor import Supervisor

log = structlog.get_logger("actorbus.actors")


class TopicActor(LoopActor):
    """One topic. Its groups are listed in its cell, which outlives it.

    Args:
        cell: the topic's entry at the supervisor.
        supervisor: has the store and the groups.
    """

    def __init__(self, cell: TopicCell, supervisor: "Supervisor") -> None:
        super().__init__()
        self.cell = cell
        self._supervisor = supervisor
        self._store = supervisor.store
        self._state = TopicState(self._store.abilities.pipeline)
        self._lanes: dict[str, Lane] = {}
        self._creating: set[Request] = set()
        self.idle_since = supervisor.clock.now().mono

    def on_start(self) -> None:
        """An earlier actor of this topic may have appended what no group was told of."""
        self._notify(None)

    def idle(self) -> bool:
        """Whether nothing waits or is under way and no group is awake."""
        quiet = self._state.idle() and not self._lanes and self.actor_inbox.empty()
        return quiet and not self.cell.awake()

    def on_receive(self, message: msg.Message) -> None:
        """Handle one message."""
        match message:
            case msg.Publish():
                self._state.publish(message)
            case msg.AppendDone():
                self._on_append_done(message)
            case msg.Subscribe() | msg.Unsubscribe():
                self._on_request(message)
            case _JoinDone():
                self._on_join_done(message)
            case _ForgetDone():
                self._on_forget_done(message)
            case _:
                raise TypeError(message)

    def on_turn_end(self) -> None:
        """Start the appends that this turn's publishes and answers allow."""
        for effect in self._state.pump():
            self._append(effect)
        if not self.idle():
            self.idle_since = self._supervisor.clock.now().mono

    def _append(self, effect: Append) -> None:
        number = effect.number

        def answer(appended: Appended | None, error: Exception | None) -> msg.AppendDone:
            passing = isinstance(error, StoreUnavailableError)
            failure = None if error is None else failure_of(error)
            return msg.AppendDone(number, appended, failure, passing)

        self.call(self._store.append(self.cell.name, effect.events, effect.expires_at), answer)

    def _on_append_done(self, message: msg.AppendDone) -> None:
        requests = self._state.done(message.number)
        groups = None
        if message.failure is None and message.appended is not None:
            groups = message.appended.groups
            self._count(sum(len(request.events) for request in requests))
        else:
            log.warning("append failed", topic=self.cell.name, reason=message.failure)
        self._answer_publishes(requests, groups, message.failure)
        if message.passing:
            self._answer_publishes(self._state.give_up(), None, message.failure)
        self._notify(message.appended)

    def _answer_publishes(
        self, requests: tuple[msg.Publish, ...], groups: int | None, failure: msg.Failure | None
    ) -> None:
        for request in requests:
            self.cell.budget.release(request.size)
            tell(request.reply_to, msg.PublishDone(request.token, groups, failure))

    def _count(self, events: int) -> None:
        self.cell.counters.published += events
        self._supervisor.counters.published += events

    def _notify(self, appended: Appended | None) -> None:
        """Tell each group of the batch; of a failed append too: it may be durable all the same.

        A group without members reads nothing, and looks for itself when one comes.
        """
        if appended is not None and appended.batch is None:
            return
        notice = msg.Notice(() if appended is None or appended.batch is None else (appended.batch,))
        for group in self.cell.groups.values():
            if group.ref is not None and group.members:
                tell_merged(group.ref, notice)

    # --- groups -------------------------------------------------------------------------------

    def _on_request(self, request: Request) -> None:
        group = self.cell.groups.get(request.app_id)
        asleep = group is None or group.ref is None or request.app_id in self._lanes
        if asleep and isinstance(request, msg.Subscribe):
            self._creating.add(request)
            self._state.hold(request.reply_to)
        self._lanes.setdefault(request.app_id, Lane()).add(request)
        self._advance(request.app_id)

    def _advance(self, app_id: str) -> None:
        """Begin what the group's lane lets begin."""
        lane = self._lanes[app_id]
        while (request := lane.next()) is not None:
            try:
                if isinstance(request, msg.Subscribe):
                    self._join(request)
                else:
                    self._unsubscribe(request)
            except RefusedError as error:
                lane.done(request)
                self._answer(request, None, error)
        if lane.empty():
            del self._lanes[app_id]

    def _join(self, request: msg.Subscribe) -> None:
        self._supervisor.groups.reserve(self.cell, request.app_id)
        work = join_group(self._supervisor, self.cell.name, request)
        self.call(work, lambda options, error: _JoinDone(request, options, error))

    def _on_join_done(self, message: "_JoinDone") -> None:
        request = message.request
        self._lanes[request.app_id].done(request)
        self._answer(request, message.options, message.error)
        groups = self._supervisor.groups
        if message.error is None:
            connection = self._supervisor.connections.get(request.member)
            groups.attach(self.cell, request.app_id, request.member, connection, message.options)
        self._advance(request.app_id)
        if request.app_id not in self._lanes:  # no other join needs the cell
            groups.recount(self.cell, request.app_id)

    def _unsubscribe(self, request: msg.Unsubscribe) -> None:
        group = self.cell.groups.get(request.app_id)
        if request.forget:
            if group is not None and group.others(request.member):
                raise RefusedError(
                    ErrorCode.IN_USE,
                    f"group {request.app_id} of topic {self.cell.name} has other instances "
                    "subscribed; let them unsubscribe first",
                )
            work = self._supervisor.groups.forget(self.cell, request.app_id)
            self.call(work, lambda _, error: _ForgetDone(request, error))
            return
        if group is None or request.member not in group.members:
            raise RefusedError(
                ErrorCode.NOT_SUBSCRIBED,
                f"this connection is not subscribed to {self.cell.name}",
            )
        self._supervisor.groups.leave(group, request.member)
        self._lanes[request.app_id].done(request)
        self._answer(request, None, None)

    def _on_forget_done(self, message: "_ForgetDone") -> None:
        request = message.request
        self._lanes[request.app_id].done(request)
        self._answer(request, None, message.error)
        self._advance(request.app_id)

    def _answer(
        self, request: Request, options: GroupOptions | None, error: Exception | None
    ) -> None:
        failure = None if error is None else failure_of(error)
        if request in self._creating:
            self._creating.remove(request)
            away = isinstance(error, StoreUnavailableError)
            given_up = self._state.free(request.reply_to, given_up=away)
            self._answer_publishes(given_up, None, failure)
        token, topic = request.token, self.cell.name
        if isinstance(request, msg.Subscribe):
            tell(request.reply_to, msg.SubscribeDone(token, topic, options, failure))
        else:
            tell(request.reply_to, msg.UnsubscribeDone(token, topic, request.forget, failure))


class _JoinDone(msg.Message, frozen=True):
    request: msg.Subscribe
    options: GroupOptions | None
    error: Exception | None


class _ForgetDone(msg.Message, frozen=True):
    request: msg.Unsubscribe
    error: Exception | None
