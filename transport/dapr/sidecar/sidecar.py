"""The composition of a sidecar: door, command and subscriptions, started and stopped in order."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from transport.dapr.door import Door
from transport.dapr.resources.load import Resources, load
from transport.dapr.sidecar.command import Command
from transport.dapr.sidecar.config import SidecarConfig, SidecarError
from transport.dapr.sidecar.environment import environment
from transport.dapr.sidecar.subscriber import Subscriber

log = structlog.get_logger("actorbus.dapr")

Say = Callable[[str], None]

ENDING: Final = (signal.SIGTERM, signal.SIGINT)
"""Signals that end the sidecar in order; the command gets them after the events under way."""

PASSED: Final = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that are only passed on to the command."""


class Sidecar:
    """One sidecar. Made within a running event loop.

    Args:
        config: its settings.
        say: is given a line each time that something is ready.
        own: the environment, which the command inherits.

    Raises:
        ActorbusError: a resource file is wrong, or the settings don't fit together.
    """

    def __init__(self, config: SidecarConfig, say: Say, own: Mapping[str, str]) -> None:
        self._config = config
        self._say = say
        self._own = own
        self._resources = load(config.resources) if config.resources else Resources()
        self._resources.log_warnings()
        components = config.components(self._resources.components)
        self._door = Door(config.door(components, self._resources.retries))
        self._command: Command | None = None
        self._subscriber: Subscriber | None = None
        self._asked: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def ask_to_stop(self, number: int) -> None:
        """Stop in order, with this signal for the command; a second time: at once."""
        if not self._asked.done():
            self._asked.set_result(number)
            return
        log.warning("asked to stop a second time: leaving at once")
        self.pass_on(signal.SIGKILL)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def pass_on(self, number: int) -> None:
        """Send a signal to the command."""
        if self._command is not None:
            self._command.send(number)

    async def run(self) -> int:
        """Run until the command ends or someone asks to stop; the status to exit with.

        Raises:
            ActorbusError: it can't start or go on.
        """
        serving = asyncio.create_task(self._serve())
        try:
            await asyncio.wait((serving, self._asked), return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                return await self._stop(self._asked.result())
            return await serving
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await self._abort()

    async def _serve(self) -> int:
        """The status of the command; without one it does not return."""
        config = self._config
        http_port, grpc_port = await self._door.start()
        assert http_port is not None
        assert grpc_port is not None
        host = f"[{config.host}]" if ":" in config.host else config.host
        self._say(f"dapr http listening on {host}:{http_port}")
        self._say(f"dapr grpc listening on {host}:{grpc_port}")
        works = [asyncio.create_task(self._push())]
        if config.command:
            command = Command(config.command, environment(self._own, config, http_port, grpc_port))
            works.append(asyncio.create_task(self._run(command)))
        try:
            done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    async def _run(self, command: Command) -> int:
        """Run the command; its status."""
        await command.start()
        self._command = command
        status = await command.wait()
        self._command = None
        log.info("command_ended", status=status)
        return status

    async def _push(self) -> int:
        """Push events for ever."""
        config = self._config
        if config.app_port is None:
            if self._resources.subscriptions_of(config.app_id):
                log.warning("no_subscriptions", reason="without --app-port nothing can be pushed")
            await asyncio.Event().wait()
            raise AssertionError("it waits for ever")
        subscriber = Subscriber(config, config.app_port, self._door, self._resources)
        self._subscriber = subscriber
        count = await subscriber.start()
        self._say(
            f"actorbus sidecar of {config.app_id}: the app listens on {config.app_address}"
            f" ({config.app_protocol}), subscriptions: {count}"
        )
        await subscriber.run()
        raise SidecarError("the subscriptions have ended")

    async def _stop(self, number: int) -> int:
        """Finish what the app has, then end the command, which may still publish meanwhile."""
        log.info("shutdown", step="finish what the app has")
        if self._subscriber is not None:
            await self._subscriber.drain()
        if self._command is None:
            return 0
        log.info("shutdown", step="end the command")
        return await self._command.stop(number)

    async def _abort(self) -> None:
        """End whatever is left."""
        if self._command is not None:
            await self._command.stop(signal.SIGTERM)
        if self._subscriber is not None:
            await self._subscriber.close()
        await self._door.stop()


async def run(config: SidecarConfig, say: Say, own: Mapping[str, str]) -> int:
    """Run a sidecar in this process, which is its to take signals for; the status to exit with.

    Raises:
        ActorbusError: it can't start or go on.
    """
    loop = asyncio.get_running_loop()
    sidecar = Sidecar(config, say, own)
    for number in ENDING:
        loop.add_signal_handler(number, sidecar.ask_to_stop, number)
    for number in PASSED if config.command else ():
        loop.add_signal_handler(number, sidecar.pass_on, number)
    status = await sidecar.run()
    log.info("stopped", exit_status=status)
    return status
