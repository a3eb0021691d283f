"""Connections that are made again when they are lost.

aio-pika's robust connection is not used: it restores channels and consumers behind our back, while
here a lost channel ends its feed; and it reconnects for ever when a declaration is refused (406).
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

import aio_pika
import aiormq.abc
import structlog
from aio_pika.connection import make_url
from aiormq.channel import Channel
from aiormq.exceptions import (
    AuthenticationError,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from yarl import URL

from actorbus.client.backoff import Backoff
from actorbus.errors import StoreUnavailableError
from transport.stores.rabbitmq.calls import CALL_SECONDS, explain, finished, within
from transport.stores.rabbitmq.config import Config

CHANNELS: Final = 2_000
"""Channels on one connection; RabbitMQ's own limit is 2,047."""

CLOSE_SECONDS: Final = 4.0
"""For an orderly end of one connection."""

CHANNEL_CLOSE_SECONDS: Final = 2.0
"""For an orderly end of one channel."""

_BACKOFF: Final = (0.2, 5.0)
_STEADY_SECONDS: Final = 5.0
"""A connection that lasted so long was fine: the back-off begins anew."""

log = structlog.get_logger("actorbus.store")


class Link:
    """One connection to RabbitMQ, kept up in the background.

    Attributes:
        reason: why it is down, in one line without secrets; None while it is up.
        tried: set once the first attempt to connect has ended either way.
        on_up: called each time it has come up.
    """

    def __init__(self, config: Config, role: str) -> None:
        self.reason: str | None = f"rabbitmq at {config.address} is away: not connected yet"
        self.tried = asyncio.Event()
        self.on_up: list[Callable[[], None]] = []
        self._config = config
        self._role = role
        self._connection: aio_pika.Connection | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        _quiet_libraries()
        self._task = asyncio.create_task(self._run(), name=f"rabbitmq {self._role}")

    async def close(self) -> None:
        """End the connection, within `CLOSE_SECONDS`."""
        self.reason = "the store is closed"
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        connection, self._connection = self._connection, None
        if connection is not None:
            await _close(connection)

    async def channel(self, *, returns: bool = False) -> Channel:
        """A new channel; with `returns` for publishing, where what was unroutable raises.

        Raises:
            StoreUnavailableError: at once when the connection is down.
        """
        self.check()
        what = f"rabbitmq at {self._config.address} opened no channel"
        return await within(CALL_SECONDS, what, self._open_channel(returns=returns))

    def check(self) -> None:
        """Raise `StoreUnavailableError` unless the connection is up."""
        if self.reason is not None:
            raise StoreUnavailableError(self.reason)

    @property
    def channels(self) -> int:
        """How many channels are open."""
        return len(self._wire().channels) if self._connection is not None else 0

    async def _open_channel(self, *, returns: bool) -> Channel:
        # aiormq takes the number behind the highest and so passes RabbitMQ's limit in time
        taken = self._wire().channels
        number = next(n for n in range(1, CHANNELS + 48) if n not in taken)
        assert self._connection is not None
        channel = self._connection.channel(
            number, publisher_confirms=returns, on_return_raises=returns
        )
        await channel.initialize()
        underlay = await channel.get_underlay_channel()
        assert isinstance(underlay, Channel)
        return underlay

    def _wire(self) -> aiormq.abc.AbstractConnection:
        if self._connection is None or self._connection.transport is None:
            raise StoreUnavailableError(self.reason or "the connection is down")
        return self._connection.transport.connection

    async def _run(self) -> None:
        backoff = Backoff(*_BACKOFF)
        clock = asyncio.get_running_loop().time
        while True:
            try:
                connection = await self._connect()
            except StoreUnavailableError as error:
                self._down(error.message)
            else:
                since = clock()
                await self._stay(connection)
                if clock() - since >= _STEADY_SECONDS:
                    backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _connect(self) -> aio_pika.Connection:
        connection = aio_pika.Connection(make_url(self._config.named(self._role)))
        what = f"rabbitmq at {self._config.address} is away"
        try:
            await within(CALL_SECONDS, what, connection.connect())
        except StoreUnavailableError as error:
            await _close(connection)
            refusal = _refusal(connection.url, error)
            if refusal is None:
                raise
            raise StoreUnavailableError(f"{what}: {refusal}") from None
        except BaseException:
            await _close(connection)
            raise
        return connection

    async def _stay(self, connection: aio_pika.Connection) -> None:
        self._connection = connection
        closing = self._wire().closing
        self.reason = None
        self.tried.set()
        log.info("rabbitmq_connected", role=self._role, address=self._config.address)
        for call in self.on_up:
            call()
        await asyncio.wait((closing,))
        self._connection = None
        cause = None if closing.cancelled() else closing.exception()
        self._down(f"rabbitmq at {self._config.address} is away: {explain(cause)}")
        await _close(connection)

    def _down(self, reason: str) -> None:
        if reason != self.reason:
            log.warning("rabbitmq_away", role=self._role, reason=reason)
        self.reason = reason
        self.tried.set()


class Links:
    """The consuming connections: as many as the channels need."""

    def __init__(self, config: Config, *, limit: int = CHANNELS) -> None:
        self._config = config
        self._limit = limit
        self.links = [Link(config, "consume")]

    @property
    def first(self) -> Link:
        """The one that is always there."""
        return self.links[0]

    async def channel(self) -> Channel:
        """A channel on a connection that has room, on a new one when all are full."""
        for link in self.links:
            if link.reason is None and link.channels < self._limit:
                return await link.channel()
        if any(link.reason is not None for link in self.links):
            self.first.check()
            raise StoreUnavailableError(f"rabbitmq at {self._config.address} is away")
        link = Link(self._config, f"consume {len(self.links) + 1}")
        self.links.append(link)
        link.start()
        await within(CALL_SECONDS, "rabbitmq gave no further connection", link.tried.wait())
        return await link.channel()

    async def close(self) -> None:
        """End all, at the same time."""
        await asyncio.gather(*(link.close() for link in self.links))


async def end_channel(channel: Channel) -> None:
    """Close a channel that is not needed any more; never raises, for use on the way out."""
    task = asyncio.ensure_future(channel.close())
    await finished((task,), CHANNEL_CLOSE_SECONDS)
    if not task.done() or task.cancelled() or task.exception() is not None:
        log.debug("rabbitmq_channel_not_closed", seconds=CHANNEL_CLOSE_SECONDS)


def _refusal(url: URL, error: StoreUnavailableError) -> str | None:
    """What to do when RabbitMQ is there and refuses us; None for all else."""
    cause = error.__cause__
    if isinstance(cause, InvalidFrameError) and "OpenOk" in error.message:
        vhost = unquote(url.path)[1:] or "/"  # aiormq hides the reply's text
        return f"it refuses vhost {vhost!r}: create it, and permit it to the user"
    if isinstance(cause, (AuthenticationError, ProbableAuthenticationError)):
        return f"it refuses the login of user {url.user!r}: check user and password of the url"
    return None


async def _close(connection: aio_pika.Connection) -> None:
    task = asyncio.ensure_future(connection.close())
    await finished((task,), CLOSE_SECONDS)
    if not task.done() or task.cancelled() or task.exception() is not None:
        log.warning("rabbitmq_close_cut_off", seconds=CLOSE_SECONDS)


def _quiet_libraries() -> None:
    """Silence aio-pika's own logs: they repeat with tracebacks what is logged here, and bodies."""
    for name in ("aiormq", "aio_pika"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
