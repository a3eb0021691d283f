"""The client: `connect` and what one can do with a connection."""

from collections.abc import Callable, Iterable, Mapping
from itertools import starmap
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

from actorbus.client.durations import check_deadline, milliseconds
from actorbus.client.handlers import Handler, Handlers
from actorbus.client.handshake import Address, Hello, check_address
from actorbus.client.publish_batch import EventErrors, refusal
from actorbus.client.publish_event import CloudEventObject, from_data, from_event
from actorbus.client.session import Session, Settings
from actorbus.client.subscribe_options import Options, to_wire
from actorbus.client.subscription import Subscription
from actorbus.codec import JSON, MSGPACK
from actorbus.errors import ConnectionLostError, ErrorCode, RefusedError
from actorbus.events import new_event_id
from actorbus.frame_types import Inspected, TopicStatus
from actorbus.limits import MAX_IN_FLIGHT, MAX_IN_FLIGHT_DEFAULT, TTL_MS
from actorbus.names import check_app_id, check_instance, check_topic

H = TypeVar("H", bound=Handler)


class PartlyPublishedError(RefusedError):
    """The broker refused some events of a `publish_many`; the others are durable.

    Attributes:
        ids: the ids in the order given, None for a refused event.
        errors: index, code and message of each refused event.
    """

    def __init__(self, ids: list[str | None], errors: EventErrors) -> None:
        index, code, message = errors[0]
        super().__init__(
            code,
            f"{len(errors)} of {len(ids)} events were refused, any others are published;"
            f" event {index}: {message}",
        )
        self.ids = ids
        self.errors = errors


def connect(  # the arguments are the protocol's hello, and the deadlines
    url: str = "ws://127.0.0.1:8090/v1",
    *,
    app_id: str,
    instance: str | None = None,
    token: str | None = None,
    max_in_flight: int = MAX_IN_FLIGHT_DEFAULT,
    encoding: Literal["msgpack", "json"] = "msgpack",
    connect_timeout: float = 10.0,
    publish_timeout: float = 30.0,
    request_timeout: float = 30.0,
    close_timeout: float = 10.0,
    wait_for_broker: float = 0.0,
) -> "Bus":
    """A bus, to be used with `async with`. Nothing is sent before that.

    Once connected it reconnects by itself for as long as it is open, with back-off from 0.1 to
    5 s, subscribes again and publishes again what was not yet answered.

    Args:
        url: the broker's address.
        app_id: who this app is; its instances share the events of a topic.
        instance: a label for this process, shown by the broker.
        token: what the broker's `--tokens` file asks for.
        max_in_flight: deliveries that may be unsettled, over all topics; 0 pauses.
        encoding: of the frames.
        connect_timeout: seconds for one attempt to connect.
        publish_timeout: seconds after which a publish without an answer fails; within them it is
            sent again after a reconnect and after errors that the broker calls retryable.
        request_timeout: seconds for subscribing, inspecting and the like.
        close_timeout: seconds for unanswered publishes, handlers and acknowledgements at the end.
        wait_for_broker: seconds to keep trying when no broker answers at the start.

    Raises:
        RefusedError: a name is none (`invalid_name`), or an argument makes no sense.
    """
    check_address(url, token)
    check_app_id(app_id)
    if instance is not None:
        check_instance(instance)
    _check_window(max_in_flight)
    check_deadline(connect_timeout, "connect_timeout")
    check_deadline(publish_timeout, "publish_timeout")
    check_deadline(request_timeout, "request_timeout")
    check_deadline(close_timeout, "close_timeout", least=0)
    check_deadline(wait_for_broker, "wait_for_broker", least=0)
    codecs = {"msgpack": MSGPACK, "json": JSON}
    if encoding not in codecs:
        raise RefusedError(
            ErrorCode.INVALID_OPTION, f"encoding must be msgpack or json, not {encoding!r:.40}"
        )
    hello = Hello(app_id, instance, token, max_in_flight)
    return Bus(
        Settings(
            address=Address(url, codecs[encoding], connect_timeout),
            hello=hello,
            publish_timeout=publish_timeout,
            request_timeout=request_timeout,
            close_timeout=close_timeout,
            wait_for_broker=wait_for_broker,
        )
    )


class Bus:
    """A connection to the broker that survives the broker's restarts. Made by `connect`.

    One event loop, any number of tasks.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._encode_event = settings.address.codec.encode_event
        self._encode_data = settings.address.codec.encode_data
        self._session: Session | None = None
        self._handlers = Handlers()

    async def __aenter__(self) -> Self:
        """Connect, and start the handlers registered so far; their groups exist when it returns.

        Raises:
            RefusedError: the broker does not take this client (`unauthorized`, `forbidden`…), or
                what a handler was registered for.
            ConnectionLostError: no broker answers there.
        """
        if self._session is not None:
            raise ConnectionLostError("a bus opens once: call connect again")
        session = Session(self._settings)
        await session.open()
        self._session = session
        self._handlers.start(session)
        try:
            await self.ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """There is a connection at this moment; without one the bus is looking for the next."""
        return self._session is not None and self._session.link is not None

    async def ready(self) -> None:
        """Return once every handler registered so far is subscribed, and its group durable.

        Entering the bus waits for those registered before; this is for handlers that are
        registered on an open bus. One whose subscription fails ends the bus.

        Raises:
            ActorbusError: what ended the bus.
        """
        session = self._opened()
        await self._handlers.ready()
        session.check()

    async def close(self) -> None:
        """Disconnect in order: handlers end, publishes are answered, acknowledgements are durable.

        Handlers have `close_timeout` to end, the rest has as much again. What is still in a buffer
        is redelivered at once.
        """
        if self._session is None:
            return
        try:
            await self._handlers.stop(self._settings.close_timeout)
        finally:
            await self._session.close()

    async def wait_closed(self) -> None:
        """Return when the bus has been closed: for apps that have only handlers.

        Raises:
            ActorbusError: what ended it, if it was an error.
        """
        session = self._opened()
        await session.ended.wait()
        if session.error is not None:
            raise session.error

    async def publish(
        self,
        topic: str,
        data: Any = None,
        *,
        ttl: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        event: Mapping[str, Any] | CloudEventObject | None = None,
    ) -> str:
        """Publish one event; returns its id once it is durable.

        Calls made at the same time share frames. Their order per topic is kept, unless one fails
        and is sent again. A cancelled call may have published its event.

        Args:
            topic: where to.
            data: what JSON can hold, or bytes.
            ttl: seconds after which it is not delivered any more, from when the broker takes it.
            attributes: CloudEvents attributes and extensions, such as `type`, `subject` or `id`.
            event: a complete CloudEvent instead: a mapping with `specversion` or an event of the
                `cloudevents` package. It is passed on unchanged.

        Raises:
            InvalidEventError: the event can't be encoded, breaks a rule or is too large.
            RefusedError: the topic is no name, or may not be published to.
            UnavailableError: not published within `publish_timeout`, with the broker's last code
                if it kept refusing, else `timeout`; it may be published all the same.
            ConnectionLostError: the bus has ended.
        """
        publisher = self._opened().publisher
        if event is None and attributes is None:
            event_id = new_event_id()
            encoded = self._encode_data(event_id, data)
        else:
            whole = _event_map(data, attributes, event)
            event_id = whole["id"]
            encoded = self._encode_event(whole)
        errors = await publisher.publish(topic, _ttl_ms(ttl), encoded)
        if errors:
            _, code, message = errors[0]
            raise refusal(code, message)
        return event_id

    async def publish_many(
        self,
        topic: str,
        data: Iterable[Any] = (),
        *,
        ttl: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        events: Iterable[Mapping[str, Any] | CloudEventObject] | None = None,
    ) -> list[str]:
        """Publish events in order; returns their ids once all are durable.

        Args:
            topic: where to.
            data: the data of each.
            ttl: as in `publish`.
            attributes: of every one of them; not `id`.
            events: complete CloudEvents, instead of `data`.

        Raises:
            PartlyPublishedError: the broker refused some events; the others are durable.
            ActorbusError: as `publish`. Nothing is sent if one event can't be encoded. After other
                errors part of the events may be published.
        """
        publisher = self._opened().publisher
        if attributes and "id" in attributes:
            raise RefusedError(ErrorCode.INVALID_EVENT, "events must not share one id")
        if isinstance(data, str | bytes | Mapping):
            raise RefusedError(
                ErrorCode.INVALID_EVENT,
                f"publish_many takes the data of several events, not one {type(data).__name__}",
            )
        ids, encoded = self._encode(data, attributes, events)
        errors = await publisher.publish_many(topic, _ttl_ms(ttl), encoded)
        if errors:
            refused = {index for index, _, _ in errors}
            raise PartlyPublishedError(
                [None if index in refused else event_id for index, event_id in enumerate(ids)],
                errors,
            )
        return ids

    def _encode(
        self,
        data: Iterable[Any],
        attributes: Mapping[str, Any] | None,
        events: Iterable[Mapping[str, Any] | CloudEventObject] | None,
    ) -> tuple[list[str], list[bytes]]:
        if events is None and attributes is None:
            items = [(new_event_id(), item) for item in data]
            return [event_id for event_id, _ in items], list(starmap(self._encode_data, items))
        if events is None:
            maps = [_event_map(item, attributes, None) for item in data]
        else:
            maps = [_event_map(None, attributes, event) for event in events]
        return [event["id"] for event in maps], [self._encode_event(event) for event in maps]

    def subscribe(self, topic: str, **options: Unpack[Options]) -> Subscription:
        """A subscription, to be used with `async with`. Nothing is sent before that.

        Raises:
            RefusedError: `topic` is no name, or an option is out of range.
            ConnectionLostError: the bus is not open.
        """
        return Subscription(self._opened(), check_topic(topic), to_wire(options))

    def on(
        self, topic: str, *, concurrency: int = 1, **options: Unpack[Options]
    ) -> Callable[[H], H]:
        """Decorate a coroutine function: it is called with each `Delivery` of the topic.

        Its return acknowledges the event; an exception is logged and sends the event back, to be
        redelivered after the group's back-off. What it has settled itself stays as it is. A
        handler that takes longer than `ack_wait` for one event has to call `Delivery.extend`.

        An error that ends the subscription ends the bus: see `wait_closed`.

        Args:
            topic: the topic.
            concurrency: how many events are handled at the same time.
            options: as for `subscribe`.

        Raises:
            RefusedError: `topic` is no name or has a handler already (`in_use`), or an option is
                out of range.
        """
        check_topic(topic)
        changes = to_wire(options)
        if type(concurrency) is not int or not 1 <= concurrency <= MAX_IN_FLIGHT:
            raise RefusedError(
                ErrorCode.INVALID_OPTION,
                f"concurrency must be 1 to {MAX_IN_FLIGHT}, not {concurrency!r:.40}",
            )

        def register(handler: H) -> H:
            self._handlers.add(topic, changes, handler, concurrency)
            return handler

        return register

    async def forget(self, topic: str) -> None:
        """Remove this app's group on a topic, with its backlog.

        Raises:
            RefusedError: `in_use`: another instance of the app is subscribed.
            UnavailableError: no answer in time.
        """
        frame = {"type": "unsubscribe", "topic": check_topic(topic), "forget": True}
        await self._opened().request(frame)

    async def inspect(self, topic: str | None = None) -> list[TopicStatus]:
        """What topics and groups exist, and how they are.

        Raises:
            RefusedError: `topic` is no name.
            UnavailableError: no answer in time.
        """
        frame: dict[str, Any] = {"type": "inspect"}
        if topic is not None:
            frame["topic"] = check_topic(topic)
        topics: list[TopicStatus] = []
        while True:
            page = await self._opened().request(frame)
            if not isinstance(page, Inspected):
                raise ConnectionLostError("the broker answered inspect with something else")
            topics += page.topics
            if page.next is None:
                return topics
            frame["after"] = page.next

    async def flow(self, max_in_flight: int) -> None:
        """Change how many deliveries may be unsettled (0 to 65535; 0 pauses).

        Raises:
            RefusedError: it is out of range.
        """
        _check_window(max_in_flight)
        self._opened().flow(max_in_flight)

    async def drain(self, seconds: float = 30.0) -> None:
        """Take nothing new; returns once all that was delivered is settled.

        Iterators go on until then, and end. Call it from another task than the one that iterates.

        Raises:
            UnavailableError: something was still unsettled after `seconds`.
        """
        await self._opened().drain(seconds)

    def _opened(self) -> Session:
        if self._session is None:
            raise ConnectionLostError("the bus is not open: use async with actorbus.connect(...)")
        return self._session


def _event_map(
    data: Any,
    attributes: Mapping[str, Any] | None,
    event: Mapping[str, Any] | CloudEventObject | None,
) -> dict[str, Any]:
    if event is None:
        return from_data(data, attributes or {})
    if data is not None or attributes is not None:
        raise RefusedError(
            ErrorCode.INVALID_EVENT, "pass either data and attributes, or a complete event"
        )
    return from_event(event)


def _ttl_ms(ttl: float | None) -> int | None:
    return None if ttl is None else milliseconds(ttl, "ttl", TTL_MS)


def _check_window(max_in_flight: int) -> None:
    if type(max_in_flight) is not int or not 0 <= max_in_flight <= MAX_IN_FLIGHT:
        raise RefusedError(
            ErrorCode.MALFORMED,
            f"max_in_flight must be 0 to {MAX_IN_FLIGHT}, not {max_in_flight!r:.40}",
        )
