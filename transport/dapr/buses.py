"""The door's connections to its brokers: one bus for each component and app ID, shared.

A door in a broker's own process publishes there without a socket (`transport.local_bus`).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog

import actorbus
from actorbus.client.bus import Bus
from actorbus.errors import ActorbusError, ConnectionLostError, ErrorCode, UnavailableError
from transport.dapr.config import DoorConfig

log = structlog.get_logger("actorbus.dapr")

MOST: Final = 1000
"""Shared buses of one door; a bus costs a connection and some 100 KiB at its two ends."""

WAIT_SECONDS: Final = 10.0
"""How long a call waits for a broker that is away, before it fails."""

CLOSE_SECONDS: Final = 1.0
"""What one bus may take at a stop, twice: for its handlers, and to flush what is unanswered."""

Key = tuple[str, str]


class PublishingBus(Protocol):
    """What the shared buses are used for (`actorbus.Bus`)."""

    @property
    def connected(self) -> bool:
        """There is a connection at this moment."""

    async def publish(
        self, topic: str, *, event: Mapping[str, Any], ttl: float | None = None
    ) -> str:
        """Publish a complete event."""

    async def publish_many(
        self, topic: str, *, events: Sequence[Mapping[str, Any]], ttl: float | None = None
    ) -> list[str]:
        """Publish complete events."""

    async def close(self) -> None:
        """Disconnect in order."""


OpenLocal = Callable[[str, str], PublishingBus]
"""Opens the bus of a component and an app ID in a broker of this process."""


class Buses:
    """Opens a bus at its first use; a bus that ended is opened again at the next one.

    Args:
        config: names the components, their URLs, and the token to show there.
        open_local: where the broker is in this process.
    """

    def __init__(self, config: DoorConfig, open_local: OpenLocal | None = None) -> None:
        self._config = config
        self._open_local = open_local
        self._open: dict[Key, PublishingBus] = {}
        self._opening: dict[Key, asyncio.Task[PublishingBus]] = {}
        self._stopped = False

    def make(self, component: str, app_id: str, *, max_in_flight: int) -> Bus:
        """A bus of the caller's own, not yet open: for `async with`.

        Args:
            component: one that the configuration names.
            app_id: whose connection it is.
            max_in_flight: its window.
        """
        return actorbus.connect(
            self._config.components[component],
            app_id=app_id,
            instance=f"dapr-{component}"[:120],
            token=self._config.broker_token,
            max_in_flight=max_in_flight,
            wait_for_broker=WAIT_SECONDS,
            close_timeout=CLOSE_SECONDS,
        )

    def ready(self, component: str, app_id: str) -> PublishingBus | None:
        """The shared bus if it is open already."""
        return self._open.get((component, app_id))

    async def get(self, component: str, app_id: str) -> PublishingBus:
        """The shared bus to publish on, opened if need be; callers wait for one opening.

        Raises:
            ActorbusError: the broker can't be had or does not take this app ID.
        """
        key = component, app_id
        bus = self._open.get(key)
        if bus is not None:
            return bus
        task = self._opening.get(key)
        if task is None:
            self._check_room()
            task = asyncio.create_task(self._connect(key))
            task.add_done_callback(_seen)
            self._opening[key] = task
        return await asyncio.shield(task)

    def drop(self, component: str, app_id: str, bus: PublishingBus) -> None:
        """Forget a bus that has ended; the next call opens another."""
        key = component, app_id
        if self._open.get(key) is bus:
            del self._open[key]

    def health(self) -> str | None:
        """None if every shared bus has its connection, else which one lacks it, in one line."""
        if self._stopped:
            return "the door is stopping"
        for component, app_id in self._open:
            if not self._open[component, app_id].connected:
                return f"component {component} has no connection to its broker"
        return None

    async def stop(self) -> None:
        """Close all of them; bounded by the time that one may take."""
        self._stopped = True
        for task in self._opening.values():
            task.cancel()
        buses = [*self._open.values()]
        self._open.clear()
        results = await asyncio.gather(*(bus.close() for bus in buses), return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                log.warning("bus_close_failed", error=str(result))

    def _check_room(self) -> None:
        if self._stopped:
            raise ConnectionLostError("the door is stopping")
        if len(self._open) + len(self._opening) >= MOST:
            raise UnavailableError(
                ErrorCode.OVERLOADED, f"the door has {MOST} connections already; try again later"
            )

    async def _connect(self, key: Key) -> PublishingBus:
        component, app_id = key
        try:
            bus = await self._new(component, app_id)
        except ActorbusError as error:
            log.warning("no_broker", component=component, app_id=app_id, error=str(error))
            raise
        finally:
            del self._opening[key]
        self._open[key] = bus
        return bus

    async def _new(self, component: str, app_id: str) -> PublishingBus:
        if self._open_local is not None:
            return self._open_local(component, app_id)
        bus = self.make(component, app_id, max_in_flight=0)
        return await bus.__aenter__()


def _seen(task: asyncio.Task[PublishingBus]) -> None:
    """Its error is logged; there may be nobody left who waits for it."""
    if not task.cancelled():
        task.exception()
