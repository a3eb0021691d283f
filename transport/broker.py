"""The composition root: a store, the actors and the server, started and stopped in order."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import msgspec
import structlog
from websockets.asyncio.server import Server

from actorbus.errors import ActorbusError, StoreUnusableError
from actors.supervisor import Supervisor
from transport.auth import Tokens, check_origins, load_tokens
from transport.server import PATH, listen
from transport.session import STOPPING, Session
from transport.stores import open_store

log = structlog.get_logger("actorbus.broker")

RECONNECT_MS = 1_000
"""What clients are told to wait before they come back after an orderly stop."""

EXIT_FAILED = 70
"""Exit status when the broker can't go on (sysexits.h: EX_SOFTWARE)."""


class AddressError(ActorbusError):
    """The address to listen on can't be had."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What `serve` was asked for.

    Attributes:
        port: 0 for a free one.
        store: URL.
        tokens: file of tokens; None: anyone may connect.
        origins: browser origins that may connect.
        specversion: of the events that the broker wraps.
        grace_seconds: how long clients may settle what is in flight at an orderly stop.
    """

    host: str = "127.0.0.1"
    port: int = 8090
    store: str = "sqlite:actorbus.db"
    tokens: Path | None = None
    origins: tuple[str, ...] = ()
    specversion: str = "0.3"
    grace_seconds: float = 5.0


class Broker:
    """One broker process.

    Attributes:
        sessions: open connections.
        stopping: set once a stop has begun.
        exit_status: of the process: 0 after an orderly stop.
        rendering: held while `/metrics` is made: one at a time.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.tokens: Tokens | None = None if config.tokens is None else load_tokens(config.tokens)
        self.origins = check_origins(config.origins)
        self.store = open_store(config.store)
        self.supervisor = Supervisor(self.store, specversion=config.specversion, fatal=self._fatal)
        self.sessions: set[Session] = set()
        self.stopping = False
        self.exit_status = 0
        self.rendering = asyncio.Lock()
        self._server: Server | None = None
        self._stop_asked = asyncio.Event()

    async def start(self) -> str:
        """Open the store and the port; the URL that apps connect to.

        Raises:
            StoreUnusableError: the store can't be opened.
            AddressError: the address can't be had.
        """
        await self.store.open(self._store_failed)
        try:
            port = await self._listen()
        except AddressError:
            await self.store.close()
            raise
        self.supervisor.start()
        host = self.config.host
        return f"ws://{f'[{host}]' if ':' in host else host}:{port}{PATH}"

    async def _listen(self) -> int:
        host, port = self.config.host, self.config.port
        try:
            self._server = await listen(self, host, port, self.origins)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA can't encode
            reason = getattr(error, "strerror", None) or error
            raise AddressError(
                f"can't listen on {host}:{port}: {reason}; choose another --host or --port"
            ) from None
        bound: int = next(iter(self._server.sockets)).getsockname()[1]
        return bound

    def health(self) -> str | None:
        """None when the broker accepts work, else the reason in one line."""
        if self.stopping:
            return STOPPING
        return self.store.health()

    def ask_to_stop(self) -> None:
        """Let `wait` return."""
        self._stop_asked.set()

    async def wait(self) -> None:
        """Until someone asks to stop, or the broker can't go on."""
        await self._stop_asked.wait()

    async def stop(self) -> None:
        """Stop in order, each step with a deadline; 30 s in all at the most."""
        self.stopping = True
        supervisor = self.supervisor
        if self._server is not None:
            self._server.server.close()  # no new connections; the open ones go on
        supervisor.go_away(STOPPING, RECONNECT_MS)
        await _step("wait for acknowledgements", self._settled(), self.config.grace_seconds)
        await _step("flush publishes", supervisor.flushed(), 6)
        await _step("make settlements durable", supervisor.close_feeds(), 5)
        supervisor.close_connections()
        await _step("close connections", self._close_sessions(), 3)
        if self.sessions:
            await _step("drop connections", self._drop_sessions(), 1)
        supervisor.stop()
        await _step("close the store", self.store.close(), 5)

    async def _close_sessions(self) -> None:
        await asyncio.sleep(0)  # the actors handle what they were told
        for session in self.sessions:
            session.end(1001, STOPPING)
        if self._server is not None:
            self._server.close(close_connections=False)
            await self._server.wait_closed()

    async def _drop_sessions(self) -> None:
        for session in self.sessions:
            session.abort()
        if self._server is not None:
            await self._server.wait_closed()

    async def _settled(self) -> None:
        while any(  # noqa: ASYNC110 - counters, once a stop: not worth an event in every group
            group.counters.in_flight
            for topic in self.supervisor.topics.values()
            for group in topic.groups.values()
        ):
            await asyncio.sleep(0.01)

    def _store_failed(self, error: StoreUnusableError) -> None:
        log.error("the store failed; the broker stops", reason=error.message)
        self.exit_status = error.exit_status
        self.ask_to_stop()

    def _fatal(self, reason: str) -> None:
        log.error("the broker can't go on", reason=reason)
        self.exit_status = EXIT_FAILED
        self.ask_to_stop()


async def _step(name: str, work: Awaitable[object], seconds: float) -> None:
    """One step of the shutdown: logged, and given up after its time."""
    log.info("shutdown", step=name)
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        log.warning("shutdown step took too long", step=name, seconds=seconds)
    except Exception:  # the next steps must run whatever this one met
        log.exception("shutdown step failed", step=name)
