"""One connection to the broker, after `welcome`: a reader, a writer, questions with answers.

A link ends and never comes back; `session` opens the next (`handshake`).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

import structlog
from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

from actorbus.client.acks import AckLane
from actorbus.codec import Codec
from actorbus.direct_connection import DirectClientConnection
from actorbus.errors import (
    RETRYABLE,
    ActorbusError,
    ErrorCode,
    MalformedError,
    RefusedError,
    UnavailableError,
    UndecodableError,
)
from actorbus.frame_types import Acked, Answer, Error, Extended, Goaway, Welcome
from actorbus.frames import parse_answer

log: Final = structlog.get_logger("actorbus")

SEND_SECONDS: Final = 20.0
"""A write that takes longer ends the connection: the broker no longer reads."""

CLOSE_SECONDS: Final = 2.0
"""How long the closing handshake may take."""


class LinkLostError(Exception):
    """This connection is gone; the session opens another.

    Attributes:
        code: the WebSocket close code; None if there was no closing handshake.
    """

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


class Receiver(Protocol):
    """Who takes what the broker sends unasked, and answers to publishes."""

    def deliver(self, link: "Link", frame: dict[str, Any]) -> None:
        """A `deliver` frame."""

    def published(self, ref: int, errors: Sequence[dict[str, Any]]) -> None:
        """A `published` frame."""

    def refused(self, ref: int, error: ActorbusError) -> bool:
        """An `error` frame that may answer a publish; False if it does not."""

    def publishes(self) -> Iterator[bytes]:
        """Publish frames that wait, each taken out as it is asked for."""


class Link:
    """An open connection.

    Attributes:
        welcome: what the broker said first, with its limits.
        lane: the acknowledgements for deliveries of this connection.
        goaway: the broker's `goaway`: it takes acknowledgements, but no publishes any more.
        lost: why the connection ended, once it has.
    """

    def __init__(
        self,
        socket: DirectClientConnection,
        codec: Codec,
        welcome: Welcome,
        receiver: Receiver,
        next_ref: Callable[[], int],
    ) -> None:
        self.welcome = welcome
        self.lane = AckLane(codec, self.wake, next_ref, welcome.max_in_flight)
        self.goaway: Goaway | None = None
        self.lost: LinkLostError | None = None
        self._socket = socket
        self._codec = codec
        self._text = not codec.binary
        self._receiver = receiver
        self._next_ref = next_ref
        self._control: deque[bytes] = deque()
        self._requests: dict[int, asyncio.Future[Answer]] = {}
        self._loop = asyncio.get_running_loop()
        self._woken = False
        self._sleeper: asyncio.Future[None] | None = None
        self._stop: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> None:
        """Read and write until the connection ends or `stop` is called, then clean up."""
        tasks = [asyncio.ensure_future(work) for work in (self._read(), self._write())]
        lost = LinkLostError("closed by this client")
        try:
            await asyncio.wait([*tasks, self._stop], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self._end(next((r for r in results if isinstance(r, LinkLostError)), lost))
            await close_socket(self._socket)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, LinkLostError):
                raise result

    def stop(self) -> None:
        """Close it; `run` returns when that is done."""
        if not self._stop.done():
            self._stop.set_result(None)

    def wake(self) -> None:
        """There is something to write: form frames at the next turn of the loop."""
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Form frames now, and write them; what flow control holds up waits unformed."""
        self._woken = False
        sleeper = self._sleeper
        if sleeper is None or sleeper.done():
            return  # `_write` waits for the broker to read, and wakes
        try:
            self._write_frames()
        except Exception as error:  # noqa: BLE001 - it ends the link, not who happened to call
            sleeper.set_exception(error)
        else:
            if self._socket.paused:
                sleeper.set_result(None)

    def _write_frames(self) -> None:
        frames = self._frames()
        while self._socket.may_write():
            frame = next(frames, None)
            if frame is None:
                return
            self._socket.write_now(frame, text=self._text)

    def send(self, frame: dict[str, Any]) -> None:
        """Write one control frame."""
        self._control.append(self._codec.encode(frame))
        self.wake()

    async def request(self, frame: dict[str, Any]) -> Answer:
        """Write one control frame and return its answer. The caller sets the deadline.

        Raises:
            RefusedError, UnavailableError: the broker answered with an error.
            LinkLostError: the connection ended first.
        """
        if self.lost is not None:
            raise self.lost
        ref = self._next_ref()
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._requests[ref] = answer
        try:
            self.send({**frame, "ref": ref})
            return await answer
        finally:
            self._requests.pop(ref, None)

    async def _read(self) -> None:
        try:
            while True:
                self._socket.take_directly(self._take_directly)
                message = await self._socket.recv(decode=False)
                self._socket.take_directly(None)
                self._take(self._codec.decode_checked(message))
        except ConnectionClosed as closed:
            raise lost_by(closed) from None
        except (UndecodableError, MalformedError, LookupError, TypeError) as error:
            log.warning("broken_frame", error=type(error).__name__)
            raise LinkLostError("the broker sent a frame that breaks the protocol") from error
        finally:
            self._socket.take_directly(None)

    def _take_directly(self, message: bytes, _text: bool) -> bool:  # noqa: FBT001 - the connection's callback
        """Take a message as it is read; False if it is wrong, which `_read` will say."""
        try:
            self._take(self._codec.decode_checked(message))
        except Exception:  # noqa: BLE001 - `_read` meets it again, and ends the connection
            return False
        return True

    def _take(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind == "deliver":  # the two frequent ones are not worth a struct
            self._receiver.deliver(self, frame)
        elif kind == "published":
            self._receiver.published(frame["ref"], frame.get("errors") or ())
        else:
            self._take_answer(frame)

    def _take_answer(self, frame: dict[str, Any]) -> None:
        try:
            answer = parse_answer(frame)
        except MalformedError as error:
            if error.code == ErrorCode.UNKNOWN_TYPE:
                return  # of a later version of the protocol (protocol: frames may be added)
            raise
        match answer:
            case Acked(ref=int(ref), stale=stale):
                self.lane.acked(ref, stale)
            case Extended(ref=int(ref), stale=stale):
                self.lane.extended(ref, stale)
            case Error():
                self._take_error(answer)
            case Goaway():
                log.info("broker_goes_away", reason=answer.reason)
                self.goaway = answer
            case _:
                self._answer(answer.ref, answer)

    def _take_error(self, frame: Error) -> None:
        error = error_of(frame)
        known = isinstance(frame.ref, int) and (
            self._answer(frame.ref, error)
            or self._receiver.refused(frame.ref, error)
            or self.lane.refused(frame.ref)
        )
        if not known:
            log.warning("frame_refused", code=frame.code, message=frame.message)

    def _answer(self, ref: Any, answer: Answer | ActorbusError) -> bool:
        future = self._requests.get(ref)
        if future is None or future.done():
            return False  # whoever asked has given up
        if isinstance(answer, ActorbusError):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return True

    async def _write(self) -> None:
        """Wait, with a deadline, whenever the broker does not read as fast as `flush` writes."""
        try:
            while True:
                self._sleeper = self._loop.create_future()
                self.wake()
                await self._sleeper
                self._sleeper = None
                async with asyncio.timeout(SEND_SECONDS):
                    await self._socket.drain()
        except TimeoutError:
            raise LinkLostError(f"a write took over {SEND_SECONDS:g} s") from None
        except OSError as error:
            raise LinkLostError(f"the connection broke off: {error}") from None
        finally:
            self._sleeper = None

    def _frames(self) -> Iterator[bytes]:
        while self._control:
            yield self._control.popleft()
        yield from self.lane.frames()
        if self.goaway is None:
            yield from self._receiver.publishes()

    def _end(self, lost: LinkLostError) -> None:
        self.lost = lost
        self.lane.close()
        for future in self._requests.values():
            if not future.done():
                future.set_exception(LinkLostError(str(lost), lost.code))


async def close_socket(socket: Connection) -> None:
    """Close with a handshake if the broker still answers, without one if not."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await socket.close()
    except TimeoutError:
        log.debug("close_timed_out")
    finally:
        socket.transport.abort()


def lost_by(closed: ConnectionClosed) -> LinkLostError:
    """What a closed WebSocket means, with its code and reason in words."""
    frame = closed.rcvd or closed.sent
    if frame is None:
        return LinkLostError("the connection broke off")
    return LinkLostError(f"closed with {frame.code} {frame.reason}".strip(), frame.code)


def error_of(frame: Error) -> ActorbusError:
    """The exception for an `error` frame."""
    if frame.retryable or frame.code in RETRYABLE:
        return UnavailableError(frame.code, frame.message)
    return RefusedError(frame.code, frame.message)
