"""Opening a connection: WebSocket handshake, `hello`, `welcome`, and what may go wrong in it."""

import asyncio
import re
from collections.abc import Callable
from typing import Final

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    NegotiationError,
)
from websockets.typing import Subprotocol

from actorbus.client.link import CLOSE_SECONDS, Link, Receiver, close_socket, error_of, lost_by
from actorbus.codec import Codec
from actorbus.direct_connection import DirectClientConnection
from actorbus.errors import (
    ConnectionLostError,
    ErrorCode,
    MalformedError,
    RefusedError,
    UnavailableError,
    UndecodableError,
)
from actorbus.frame_types import Error, Welcome
from actorbus.frames import parse_answer
from actorbus.limits import FRAME_BYTES
from actorbus.quote import quote

PING_SECONDS: Final = 20.0
"""How often an idle connection is probed; a broker that vanished is noticed within twice this."""

RECEIVE_FRAMES: Final = 8
"""Messages read ahead: bounds the memory that the broker's frames can take."""

NEVER_BETTER: Final = frozenset({ErrorCode.UNAUTHORIZED.value, ErrorCode.FORBIDDEN.value})
"""Codes in a close reason after which coming back is no use."""

SERVER_ERRORS: Final = 500
"""From this HTTP status on a refused handshake may go better later."""


SHOWN_CHARACTERS: Final = 200
"""How much of a URL an error shows."""

_URL: Final = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]+")
_USER: Final = re.compile(r"//[^/@]*@")


class UnreachableError(ConnectionLostError):
    """No broker answers there, or not now; it may later."""


class Address(msgspec.Struct, frozen=True):
    """Where a broker is and how to talk to it; seconds."""

    url: str
    codec: Codec
    connect_timeout: float


class Hello(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="hello"):
    """What this client says first (protocol: client to broker)."""

    app_id: str
    instance: str | None = None
    token: str | None = None
    max_in_flight: int | None = None

    def __repr__(self) -> str:
        return f"<Hello of {self.app_id}>"  # without the token


async def open_link(
    address: Address, hello: Hello, receiver: Receiver, next_ref: Callable[[], int]
) -> Link:
    """Connect and say hello.

    Raises:
        RefusedError: the broker wants none of it (`unauthorized`, `invalid_name`…).
        ConnectionLostError: what answers there is no actorbus broker, or the URL makes no sense.
        UnreachableError: nobody answers there, or not now, or not in time.
    """
    try:
        async with asyncio.timeout(address.connect_timeout):
            socket, welcome = await _open(address.url, hello, address.codec)
    except TimeoutError:
        raise UnreachableError(
            f"no broker answers at {shown(address.url)} within {address.connect_timeout:g} s"
        ) from None
    return Link(socket, address.codec, welcome, receiver, next_ref)


async def _open(url: str, hello: Hello, codec: Codec) -> tuple[DirectClientConnection, Welcome]:
    socket = await _connect(url, codec)
    try:
        welcome = await _greet(socket, hello, codec)
    except ConnectionClosed as closed:
        raise _refused(closed, url) from None
    except (UndecodableError, MalformedError):
        await close_socket(socket)
        raise ConnectionLostError(f"what answers at {shown(url)} is no actorbus broker") from None
    except BaseException:
        socket.transport.abort()
        raise
    return socket, welcome


async def _connect(url: str, codec: Codec) -> DirectClientConnection:
    try:
        connection = await connect(
            url,
            subprotocols=[Subprotocol(codec.subprotocol)],
            compression=None,
            max_size=FRAME_BYTES,
            max_queue=RECEIVE_FRAMES,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            close_timeout=CLOSE_SECONDS,
            open_timeout=None,
            create_connection=DirectClientConnection,
        )
        assert isinstance(connection, DirectClientConnection)
    except InvalidURI as error:
        raise ConnectionLostError(f"{shown(url)} is no WebSocket URL: {error.msg}") from None
    except InvalidStatus as refused:
        raise _bad_status(url, refused.response.status_code) from None
    except NegotiationError:
        raise ConnectionLostError(
            f"what answers at {shown(url)} does not speak actorbus.v1"
        ) from None
    except ValueError as error:  # of the address: its port, its brackets, its international name
        raise ConnectionLostError(f"{shown(url)} is no WebSocket URL: {_reason(error)}") from None
    except ImportError as error:  # websockets takes proxies from the environment
        raise ConnectionLostError(f"the proxy for {shown(url)} can't be used: {error}") from None
    except (OSError, InvalidHandshake, EOFError) as error:
        raise UnreachableError(f"no broker answers at {shown(url)} ({_reason(error)})") from None
    return connection


async def _greet(socket: DirectClientConnection, hello: Hello, codec: Codec) -> Welcome:
    await socket.send(codec.encode(hello), text=not codec.binary)
    answer = parse_answer(codec.decode(await socket.recv(decode=False)))
    if isinstance(answer, Welcome):
        return answer
    await close_socket(socket)
    if not isinstance(answer, Error):
        raise UnreachableError(f"the broker answered hello with {type(answer).__name__.lower()}")
    error = error_of(answer)
    if isinstance(error, UnavailableError) or answer.code == ErrorCode.INTERNAL:
        raise UnreachableError(f"the broker takes no connection now: {error}")
    raise error


def _refused(closed: ConnectionClosed, url: str) -> ConnectionLostError | RefusedError:
    lost = lost_by(closed)
    return fatal(lost) or UnreachableError(
        f"the broker at {shown(url)} ended the connection: {lost}"
    )


def fatal(lost: Exception | None) -> RefusedError | None:
    """The error that a lost connection's reason names, if coming back is no use."""
    code = next((code for code in NEVER_BETTER if code in str(lost)), None)
    return None if code is None else RefusedError(code, f"the broker ended the connection: {lost}")


def _bad_status(url: str, status: int) -> ConnectionLostError:
    if status >= SERVER_ERRORS:
        return UnreachableError(f"{shown(url)} answers with HTTP {status}")
    return ConnectionLostError(f"{shown(url)} refused the connection with HTTP {status}")


def check_address(url: str, token: str | None) -> None:
    """Check what can be checked without a connection.

    Raises:
        RefusedError: `url` holds characters that no URL has, or `token` is no text.
    """
    if not isinstance(url, str) or not _URL.fullmatch(url):
        raise RefusedError(
            ErrorCode.MALFORMED, f"url must be an address as ws://HOST:PORT/v1, not {quote(url)}"
        )
    if token is not None and not (isinstance(token, str) and token.isprintable()):
        raise RefusedError(ErrorCode.MALFORMED, "token must be printable text")


def shown(url: str) -> str:
    """A URL for messages: without a password, and not too long."""
    return _USER.sub("//", url)[:SHOWN_CHARACTERS]


def _reason(error: Exception) -> str:
    text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
    return text.splitlines()[0][:120]
