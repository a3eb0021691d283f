"""The actor of one connected instance: takes its client's frames, and delivers to it."""

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actorbus import frames
from actorbus.errors import ErrorCode, InvalidEventError, RefusedError
from actorbus.errors import Ref as ClientRef
from actorbus.events import EventEncoder
from actorbus.limits import PUBLISH_BYTES
from actorbus.options import check_options
from actors import messages as msg
from actors.deliveries import Deliveries
from actors.failures import error_frame, failure_of
from actors.inspection import inspect
from actors.instance_messages import (
    Closed,
    Encoded,
    GoAway,
    InspectDone,
    Received,
    Refused,
    WireDrained,
)
from actors.pending import PendingPublish, Pendings
from actors.runtime import LoopActor
from actors.wire import Wire

if TYPE_CHECKING:
    from actors.supervisor import Supervisor

__all__ = ["Closed", "GoAway", "InstanceActor", "Received", "Refused", "WireDrained"]

FIRST_IDS = 2**52
"""Delivery ids begin at random below this (protocol: delivery ids)."""


class InstanceActor(LoopActor):
    """One connection after its `hello`.

    Args:
        member: its number, never used twice in this broker.
        hello: what it said.
        wire: its connection.
        supervisor: finds topics.
    """

    def __init__(
        self, member: int, hello: frames.Hello, wire: Wire, supervisor: "Supervisor"
    ) -> None:
        super().__init__()
        self.member = member
        self.app_id = hello.app_id
        self.instance = hello.instance or wire.label
        self.wire = wire
        self._hello = hello
        self._supervisor = supervisor
        self._policy = supervisor.policy
        self._window = self._policy.window(hello.max_in_flight)
        self._encoder = EventEncoder(hello.app_id, supervisor.specversion)
        self.counters = supervisor.counters
        first_id = secrets.randbelow(FIRST_IDS)
        self.deliveries: Deliveries = Deliveries(self, self._window, first_id)
        self._pending = Pendings()
        self._going = False
        self.budget = supervisor.publish_budget()

    def on_start(self) -> None:
        """Greet the client."""
        welcome = frames.Welcome(
            ref=self._hello.ref,
            version=1,
            connection=self.wire.label,
            instance=self.instance,
            max_in_flight=self._window,
            limits=self._supervisor.limits,
        )
        self.send(welcome)

    def on_receive(self, message: msg.Message) -> None:
        """Handle one message."""
        _HANDLERS[type(message)](self, message)

    def on_turn_end(self) -> None:
        """Tell the groups that found no room if there is some, and `drain` that all is done."""
        self.deliveries.turn_end()

    # --- the client's frames ------------------------------------------------------------------

    def _on_received(self, message: Received) -> None:
        try:
            _FRAMES[type(message.frame)](self, message.frame)
        except RefusedError as error:
            self._refuse(getattr(message.frame, "ref", None), error.code, error.message)

    def _on_refused(self, message: Refused) -> None:
        self._refuse(message.ref, message.code, message.message)

    def _on_hello(self, frame: frames.Hello) -> None:
        self._refuse(frame.ref, ErrorCode.MALFORMED, "hello was said already on this connection")

    def _on_publish(self, frame: frames.Publish) -> None:
        if self._may_publish(frame):
            ids, encoded, errors = self._encode(frame.events)
            size = sum(map(len, encoded))
            pending = PendingPublish(frame.ref, frame.topic, ids, errors, size)
            if encoded:
                self._append(pending, tuple(encoded), frame.ttl_ms)
            else:
                self._send_published(pending, 0)

    def _on_encoded(self, message: Encoded) -> None:
        try:
            if self._may_publish(message):
                size = sum(map(len, message.events))
                pending = PendingPublish(message.ref, message.topic, [], [], size)
                self._append(pending, message.events, message.ttl_ms)
        except RefusedError as error:
            self._refuse(message.ref, error.code, error.message)

    def _may_publish(self, asked: frames.Publish | Encoded) -> bool:
        """Whether the broker takes it; if not, that has been answered, unless it is raised."""
        if self._going:
            self._refuse(
                asked.ref, ErrorCode.SHUTTING_DOWN, "the broker is stopping; publish again later"
            )
            return False
        self._policy.check_publish(self.app_id, asked.topic)
        return True

    def _append(
        self, pending: PendingPublish, events: tuple[bytes, ...], ttl_ms: int | None
    ) -> None:
        ttl_ms = self._policy.ttl_ms if ttl_ms is None else ttl_ms
        expires_at = None if ttl_ms is None else self._supervisor.clock.now().wall + ttl_ms
        token = self._pending.add(pending)
        request = msg.Publish(self.actor_ref, token, events, pending.size, expires_at)
        if self.budget.full() or not self._supervisor.publish(pending.topic, request):
            self._pending.pop(token)
            self._overloaded(pending.ref)
            return
        self.budget.add(pending.size)

    def _overloaded(self, ref: ClientRef) -> None:
        self._refuse(
            ref,
            ErrorCode.OVERLOADED,
            f"more than {PUBLISH_BYTES} bytes are unanswered, or the store lags; publish again",
        )

    def _encode(
        self, events: list[object]
    ) -> tuple[list[str | None], list[bytes], list[frames.EventError]]:
        ids: list[str | None] = []
        encoded: list[bytes] = []
        errors: list[frames.EventError] = []
        encode = self._encoder.encode
        for index, event in enumerate(events):
            try:
                event_id, body = encode(event)
            except InvalidEventError as error:
                ids.append(None)
                errors.append(frames.EventError(index, error.code, error.message))
                self.counters.refuse(error.code)
            else:
                ids.append(event_id)
                encoded.append(body)
        return ids, encoded, errors

    def _on_publish_done(self, message: msg.PublishDone) -> None:
        pending = self._pending.pop(message.token)
        if pending is None:
            return
        self.budget.release(pending.size)
        if message.failure is None:
            self._send_published(pending, message.groups)
        else:
            self._refuse(pending.ref, message.failure.code, message.failure.message)

    def _send_published(self, pending: PendingPublish, groups: int | None) -> None:
        if pending.ref is not None:
            self.send(frames.Published(pending.ref, pending.ids, groups, pending.errors))
        else:
            for error in pending.errors:
                self.send(error_frame(None, error.code, f"event {error.index}: {error.message}"))

    def _on_topic_down(self, message: msg.TopicDown) -> None:
        publishes, asked = self._pending.of_topic(message.topic)
        for pending in publishes:
            self.budget.release(pending.size)
        for ref in [*(pending.ref for pending in publishes), *asked]:
            self._refuse(
                ref,
                ErrorCode.INTERNAL,
                f"topic {message.topic} failed and restarts; try again",
                retryable=True,
            )

    def _on_subscribe(self, frame: frames.Subscribe) -> None:
        if self._going:
            self._refuse(frame.ref, ErrorCode.SHUTTING_DOWN, "the broker is stopping; come back")
            return
        changes, start = check_options(frame.options)
        self._policy.check_subscribe(self.app_id, frame.topic, changes.get("dead_letter_topic"))
        token = self._pending.ask(frame.ref, frame.topic)
        request = msg.Subscribe(self.actor_ref, self.member, self.app_id, changes, start, token)
        self._supervisor.tell_topic(frame.topic, request)

    def _on_subscribe_done(self, message: msg.SubscribeDone) -> None:
        ref, waiting = self._pending.answer(message.token)
        if not waiting:
            return
        if message.failure is not None or message.options is None:
            self.fail(ref, message.failure)
        else:
            self.deliveries.subscribed.add(message.topic)
            self._reply(ref, frames.Subscribed(ref, message.topic, message.options.as_map()))

    def _on_unsubscribe(self, frame: frames.Unsubscribe) -> None:
        topic = frame.topic
        known = topic in self.deliveries.subscribed or self._pending.asked(topic)
        if not known and not frame.forget:
            raise RefusedError(
                ErrorCode.NOT_SUBSCRIBED, f"this connection is not subscribed to {topic}"
            )
        token = self._pending.ask(frame.ref, topic)
        request = msg.Unsubscribe(self.actor_ref, self.member, self.app_id, frame.forget, token)
        self._supervisor.tell_topic(topic, request)

    def _on_unsubscribe_done(self, message: msg.UnsubscribeDone) -> None:
        ref, waiting = self._pending.answer(message.token)
        if not waiting:
            return
        if message.failure is not None:
            self.fail(ref, message.failure)
        else:
            self.deliveries.subscribed.discard(message.topic)
            self._reply(ref, frames.Unsubscribed(ref, message.topic, forget=message.forget))

    def _on_flow(self, frame: frames.Flow) -> None:
        self.deliveries.flow(self._policy.window(frame.max_in_flight))

    def _on_inspect(self, frame: frames.Inspect) -> None:
        ref = frame.ref

        def answer(result: frames.Inspected | None, error: Exception | None) -> InspectDone:
            return InspectDone(ref, result, None if error is None else failure_of(error))

        self.call(inspect(self._supervisor, frame), answer)

    def _on_inspect_done(self, message: InspectDone) -> None:
        if message.frame is not None:
            self._reply(message.ref, message.frame)
        else:
            self.fail(message.ref, message.failure)

    # --- lifecycle ----------------------------------------------------------------------------

    def _on_closed(self, message: Closed) -> None:
        self._supervisor.disconnect(self.member, counts=message.counts)
        self.stop()

    def _on_go_away(self, message: GoAway) -> None:
        self._going = True
        self.deliveries.state.draining = True
        self.send(frames.Goaway(message.reason, message.reconnect_after_ms))

    # --- answers ------------------------------------------------------------------------------

    def send(self, frame: frames.Answer) -> None:
        """Send a frame to the client."""
        self.wire.send((self.wire.codec.encode(frame),))

    def fail(self, ref: ClientRef, failure: msg.Failure | None) -> None:
        """Answer that something was not done."""
        if failure is None:
            failure = msg.Failure(ErrorCode.INTERNAL, "internal error")
        self._refuse(ref, failure.code, failure.message)

    def _reply(self, ref: ClientRef, frame: frames.Answer) -> None:
        if ref is not None:
            self.send(frame)

    def _refuse(
        self, ref: ClientRef, code: str, message: str, *, retryable: bool | None = None
    ) -> None:
        self.counters.refuse(str(code))
        self.send(error_frame(ref, code, message, retryable=retryable))


_FRAMES: dict[type[frames.ClientFrame], Callable[[InstanceActor, Any], None]] = {
    frames.Hello: InstanceActor._on_hello,
    frames.Publish: InstanceActor._on_publish,
    frames.Subscribe: InstanceActor._on_subscribe,
    frames.Unsubscribe: InstanceActor._on_unsubscribe,
    frames.Ack: lambda actor, frame: actor.deliveries.ack(frame),
    frames.Extend: lambda actor, frame: actor.deliveries.extend(frame),
    frames.Flow: InstanceActor._on_flow,
    frames.Drain: lambda actor, frame: actor.deliveries.drain(frame),
    frames.Inspect: InstanceActor._on_inspect,
}

_HANDLERS: dict[type[msg.Message], Callable[[InstanceActor, Any], None]] = {
    Received: InstanceActor._on_received,
    Encoded: InstanceActor._on_encoded,
    Refused: InstanceActor._on_refused,
    Closed: InstanceActor._on_closed,
    GoAway: InstanceActor._on_go_away,
    WireDrained: lambda _actor, _message: None,  # the turn's end tells the groups
    InspectDone: InstanceActor._on_inspect_done,
    msg.PublishDone: InstanceActor._on_publish_done,
    msg.SubscribeDone: InstanceActor._on_subscribe_done,
    msg.UnsubscribeDone: InstanceActor._on_unsubscribe_done,
    msg.TopicDown: InstanceActor._on_topic_down,
    msg.Opened: lambda actor, message: actor.deliveries.opened(message),
    msg.GroupDown: lambda actor, message: actor.deliveries.down(message.topic),
    msg.Offer: lambda actor, message: actor.deliveries.offered(message),
    msg.Revoke: lambda actor, message: actor.deliveries.revoked(message),
    msg.Settled: lambda actor, message: actor.deliveries.settled(message),
}
