"""The composition root: stores, the actors and the server, started and stopped in order."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import structlog
from websockets.asyncio.server import Server

from actorbus.errors import ActorbusError, StoreUnusableError
from transport.auth import Tokens, check_origins, load_tokens
from transport.components import DEFAULT, Component, ComponentConfig
from transport.local_bus import LocalBus
from transport.server import COMPONENTS, PATH, listen
from transport.session import STOPPING, Session

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
        store: URL of what `/v1` serves; None: the component named `pubsub`.
        components: further ones, each at `/v1/components/NAME`.
        tokens: file of tokens; None: anyone may connect.
        origins: browser origins that may connect.
        specversion: of the events that the broker wraps.
        grace_seconds: how long clients may settle what is in flight at an orderly stop.
    """

    host: str = "127.0.0.1"
    port: int = 8090
    store: str | None = "sqlite:actorbus.db"
    components: tuple[ComponentConfig, ...] = ()
    tokens: Path | None = None
    origins: tuple[str, ...] = ()
    specversion: str = "0.3"
    grace_seconds: float = 5.0


class Broker:
    """One broker process.

    Attributes:
        components: all, by name; the nameless one is served at `/v1` alone.
        default: what `/v1` serves.
        store: the default's.
        supervisor: the default's.
        sessions: open connections.
        stopping: set once a stop has begun.
        exit_status: of the process: 0 after an orderly stop.
        rendering: held while `/metrics` is made: one at a time.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.tokens: Tokens | None = None if config.tokens is None else load_tokens(config.tokens)
        self.origins = check_origins(config.origins)
        self.components = {one.name: self._component(one) for one in _all(config)}
        self.default = self.components.get("") or self.components[DEFAULT]
        self.store, self.supervisor = self.default.store, self.default.supervisor
        self.sessions: set[Session] = set()
        self.stopping = False
        self.exit_status = 0
        self.rendering = asyncio.Lock()
        self._server: Server | None = None
        self._stop_asked = asyncio.Event()

    def _component(self, config: ComponentConfig) -> Component:
        return Component(config, specversion=self.config.specversion, fatal=self._fatal)

    async def start(self) -> str:
        """Open the stores and the port; the URL that apps connect to.

        Raises:
            StoreUnusableError: a store can't be opened.
            AddressError: the address can't be had.
        """
        opened: list[Component] = []
        try:
            for component in self.components.values():
                await component.open(self._store_failed)
                opened.append(component)
            port = await self._listen()
        except ActorbusError:
            for component in opened:
                await component.store.close()
            raise
        for component in self.components.values():
            component.supervisor.start()
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
        for component in self.components.values():
            reason = component.store.health()
            if reason is not None:
                alone = len(self.components) == 1
                return reason if alone else f"component {component.name or PATH}: {reason}"
        return None

    def urls(self, url: str) -> dict[str, str]:
        """Where every component that has a name is served; `url` is where `/v1` is."""
        base = url.removesuffix(PATH)
        return {
            name: url if one is self.default else f"{base}{COMPONENTS}{name}"
            for name, one in self.components.items()
            if name
        }

    def stores(self) -> dict[str, str]:
        """The scheme of every component's store, by path."""
        return {
            PATH if one is self.default else f"{COMPONENTS}{name}": one.scheme
            for name, one in self.components.items()
        }

    def component_at(self, path: str) -> Component | None:
        """What is served at a path (without a query); None: nothing."""
        if path == PATH:
            return self.default
        name = path.removeprefix(COMPONENTS)
        return self.components.get(name) if name and name != path else None

    def open_bus(self, component: str, app_id: str) -> LocalBus:
        """A bus for publishing, without a socket.

        Args:
            component: the name of one.
            app_id: who publishes.

        Raises:
            RefusedError: the component is not for this app.
        """
        return LocalBus(self.components[component], app_id)

    def ask_to_stop(self) -> None:
        """Let `wait` return."""
        self._stop_asked.set()

    async def wait(self) -> None:
        """Until someone asks to stop, or the broker can't go on."""
        await self._stop_asked.wait()

    async def stop(self) -> None:
        """Stop in order, each step with a deadline; 30 s in all at the most."""
        self.stopping = True
        components = self.components.values()
        if self._server is not None:
            self._server.server.close()  # no new connections; the open ones go on
        for one in components:
            one.supervisor.go_away(STOPPING, RECONNECT_MS)
        await _step("wait for acknowledgements", self._settled(), self.config.grace_seconds)
        await self._steps("flush publishes", lambda one: one.supervisor.flushed(), 6)
        await self._steps("make settlements durable", lambda one: one.supervisor.close_feeds(), 5)
        for one in components:
            one.supervisor.close_connections()
        await _step("close connections", self._close_sessions(), 3)
        if self.sessions:
            await _step("drop connections", self._drop_sessions(), 1)
        for one in components:
            one.supervisor.stop()
        await self._steps("close the store", lambda one: one.store.close(), 5)

    async def _steps(
        self, name: str, work: Callable[[Component], Awaitable[object]], seconds: float
    ) -> None:
        """One step of the shutdown for all components at the same time."""
        components = self.components.values()
        if len(components) == 1:
            await _step(name, work(self.default), seconds)
            return
        await asyncio.gather(
            *(_step(f"{name} of {one.name or PATH}", work(one), seconds) for one in components)
        )

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
            for component in self.components.values()
            for topic in component.supervisor.topics.values()
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


def _all(config: Config) -> Iterator[ComponentConfig]:
    """Every component of a broker, that of `config.store` first."""
    if config.store is not None:
        taken = any(one.name == DEFAULT for one in config.components)
        yield ComponentConfig(name="" if taken else DEFAULT, store=config.store)
    yield from config.components


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
