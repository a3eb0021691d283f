"""One connection, from its `hello` to its end: reads frames and hands them to its actor."""

import asyncio
import contextlib
import uuid
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
from websockets.exceptions import ConnectionClosed

from actorbus import frames
from actorbus.codec import CODECS, JSON, Codec
from actorbus.direct_connection import DirectServerConnection
from actorbus.errors import ErrorCode, MalformedError, RefusedError, UndecodableError
from actorbus.errors import Ref as ClientRef
from actorbus.limits import HELLO_MS, PUBLISH_PAUSE_MS
from actors.failures import error_frame
from actors.instance import Closed, InstanceActor, Received, Refused, WireDrained
from actors.runtime import Ref, actor_of, tell
from transport.auth import bearer
from transport.components import Component
from transport.wire import SocketWire

if TYPE_CHECKING:
    from transport.broker import Broker

log = structlog.get_logger("actorbus.transport")

PAUSE: Final = PUBLISH_PAUSE_MS / 1000

STOPPING: Final = "the broker is stopping"

YIELD: Final = 16
"""Frames that are read in one go before the actors get their turn."""


class Session:
    """One connection.

    Args:
        socket: open, its subprotocol chosen.
        broker: the composition root.
        component: that the client's path names.
    """

    def __init__(
        self, socket: DirectServerConnection, broker: "Broker", component: Component
    ) -> None:
        self._socket = socket
        self._broker = broker
        self._component = component
        self._supervisor = component.supervisor
        self._codec: Codec = CODECS.get(socket.subprotocol or "", JSON)
        self._ref: Ref | None = None
        self._patient = True
        self._told = 0
        label = uuid.uuid4().hex[:12]
        self._wire = SocketWire(socket, self._codec, label, self._slow)
        self._log = log.bind(connection=label)

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self._broker.sessions.add(self)
        try:
            await self._speak()
        except ConnectionClosed:
            pass  # how a connection ends, tidily or not; the code is logged below
        except UndecodableError as error:
            await self._close(1007, f"undecodable: {error.message}")
        except _WrongKind:
            kind = "binary" if self._codec.binary else "text"
            await self._close(1003, f"{self._codec.subprotocol} speaks {kind} messages")
        except Exception:  # noqa: BLE001 - our failure ends this connection alone
            self._log.exception("session failed")
            await self._close(1011, "internal error")
        finally:
            if self._ref is not None:
                tell(self._ref, Closed(counts=True))
                self._log.info("disconnected", code=self._socket.close_code)
            self._broker.sessions.discard(self)
            await self._wire.finish()

    def end(self, code: int, reason: str) -> None:
        """Send what is queued, then close."""
        self._wire.close(code, reason)

    def abort(self) -> None:
        """Drop the connection."""
        self._wire.abort()

    async def _receive(self) -> bytes | str:
        message = await self._socket.recv()
        self._wire.messages += 1
        return message

    async def _speak(self) -> None:
        hello = await self._hello()
        if hello is not None:
            await self._serve(hello)

    # --- hello --------------------------------------------------------------------------------

    async def _hello(self) -> frames.Hello | None:
        """The first valid hello, or None if the connection has been closed for want of one."""
        try:
            async with asyncio.timeout(HELLO_MS / 1000):
                while True:
                    hello, final = self._judge_hello(self._decode(await self._receive()))
                    if hello is not None:
                        return hello
                    if final is not None:
                        break
                    if self._wire.congested():
                        await self._wire.drained()
        except TimeoutError:
            final = f"{ErrorCode.HELLO_TIMEOUT}: no valid hello within {HELLO_MS} ms"
            self._refuse(None, ErrorCode.HELLO_TIMEOUT, final)
        await self._close(1008, final)
        return None

    def _judge_hello(self, frame: dict[str, object]) -> tuple[frames.Hello | None, str | None]:
        """The hello, or why the connection must be closed; neither if another may follow."""
        if frame.get("type") != "hello":
            message = "the first frame must be hello"
            self._refuse(_ref_of(frame), ErrorCode.NOT_HELLO, message)
            return None, f"{ErrorCode.NOT_HELLO}: {message}"
        try:
            hello = frames.parse(frame)
            assert isinstance(hello, frames.Hello)
            self._authorize(hello)
        except MalformedError as error:
            self._refuse(error.ref, error.code, error.message)
        except RefusedError as error:
            self._refuse(_ref_of(frame), error.code, error.message)
            if error.code == ErrorCode.UNAUTHORIZED:
                return None, f"{error.code}: {error.message}"
        else:
            return hello, None
        return None, None

    def _authorize(self, hello: frames.Hello) -> None:
        tokens = self._broker.tokens
        if tokens is not None:
            request = self._socket.request
            headers = [] if request is None else request.headers.get_all("Authorization")
            tokens.check(hello.token or bearer(headers), hello.app_id)
        self._component.check_app(hello.app_id)

    def _refuse(self, ref: ClientRef, code: str, message: str) -> None:
        self._supervisor.counters.refuse(str(code))
        self._wire.send((self._codec.encode(error_frame(ref, code, message)),))

    # --- frames -------------------------------------------------------------------------------

    async def _serve(self, hello: frames.Hello) -> None:
        if self._broker.stopping:
            self._refuse(hello.ref, ErrorCode.SHUTTING_DOWN, STOPPING)
            await self._close(1001, STOPPING)
            return
        ref = self._ref = self._supervisor.connect(hello, self._wire)
        self._wire.on_drained = partial(tell, ref, WireDrained())
        actor = actor_of(ref)
        assert isinstance(actor, InstanceActor)
        self._log.info("connected", app_id=hello.app_id, instance=actor.instance)
        directly = partial(self._take_directly, ref, actor)
        count = 0
        while True:
            self._socket.take_directly(directly)
            message = await self._receive()
            self._socket.take_directly(None)
            await self._take(ref, actor, message)
            if self._wire.congested():
                await self._wire.drained()
            count += 1
            if count % YIELD == 0:
                await asyncio.sleep(0)

    def _take_directly(self, ref: Ref, actor: InstanceActor, message: bytes, text: bool) -> bool:  # noqa: FBT001 - the connection's callback
        """Take a message as it is read; False if it must wait or is wrong, so is for `_take`."""
        if text is self._codec.binary or self._wire.congested():
            return False
        try:
            parsed = frames.parse(self._codec.decode(message))
        except Exception:  # noqa: BLE001 - `_take` meets it again, and answers it
            return False
        size = len(message)
        if isinstance(parsed, frames.Publish) and not self._has_room(actor, parsed.topic, size):
            return False
        self._wire.messages += 1
        tell(ref, Received(parsed, size))
        return True

    async def _take(self, ref: Ref, actor: InstanceActor, message: bytes | str) -> None:
        frame = self._decode(message)
        try:
            parsed = frames.parse(frame)
        except MalformedError as error:
            tell(ref, Refused(error.ref, error.code, error.message))
            return
        if isinstance(parsed, frames.Publish):
            await self._pace(actor, parsed.topic, len(message))
        tell(ref, Received(parsed, len(message)))

    def _has_room(self, actor: InstanceActor, topic: str, size: int) -> bool:
        """Whether a publish surely need not wait; then it counts as told."""
        told = self._told + size
        if told >= min(actor.budget.left(), self._supervisor.topic_budget(topic).left()):
            return False
        self._told = told
        self._patient = True
        return True

    async def _pace(self, actor: InstanceActor, topic: str, size: int) -> None:
        """Leave the connection unread for a while when its publishes or their topic lag.

        Once that was in vain nothing is waited for until there is room again: the publishes are
        refused, and the acknowledgements behind them must not wait.
        """
        budget, topics = actor.budget, self._supervisor.topic_budget(topic)
        self._told += size
        if self._told >= min(budget.left(), topics.left()):
            await asyncio.sleep(0)  # what the actor was told before must count
            self._told = size
        if not budget.full():
            budget = topics
        if not budget.full():
            self._patient = True
        elif self._patient:
            self._patient = await budget.room(PAUSE)

    def _decode(self, message: bytes | str) -> dict[str, object]:
        if isinstance(message, bytes) is not self._codec.binary:
            raise _WrongKind
        return self._codec.decode(message)

    # --- the end ------------------------------------------------------------------------------

    async def _close(self, code: int, reason: str) -> None:
        """Let what was read be handled and answered, then close."""
        if self._ref is not None:
            tell(self._ref, Closed(counts=True))
            await self._handled(self._ref)
        self._wire.close(code, reason)
        await self._wire.flushed()

    async def _handled(self, ref: Ref) -> None:
        """Wait until the actor has come to its `Closed`; its inbox is bounded by the windows."""
        async with asyncio.timeout(PAUSE):
            while actor_of(ref) is not None:  # noqa: ASYNC110 - a turn or two of the loop
                await asyncio.sleep(0)

    def _slow(self) -> None:
        self._supervisor.counters.slow_consumers += 1


class _WrongKind(Exception):  # noqa: N818 - never leaves this module
    """A text message on the binary subprotocol, or the other way round."""


def _ref_of(frame: dict[str, object]) -> ClientRef:
    """The frame's `ref` if it is well-formed."""
    with contextlib.suppress(MalformedError):
        return frames.parse({"type": "drain", "ref": frame.get("ref")}).ref  # type: ignore[union-attr]  # a drain has one
    return None
