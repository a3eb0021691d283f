"""`serve`'s options for Dapr apps, and the door that they open in the broker's process.

The door itself is imported only when a port is asked for: it needs the extra `dapr`.
"""

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
import structlog

from actorbus.errors import ActorbusError
from actorbus.names import check_app_id
from transport.broker import Broker
from transport.dapr.config import DoorConfig, RetriesOf, no_retries

if TYPE_CHECKING:
    from transport.dapr.door import Door

log = structlog.get_logger("actorbus.dapr")

CLOSE_SECONDS: Final = 5.0
"""What the door may take to stop, before the broker does: 30 s in all at the most."""

_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104 - keys


class DoorwayError(ActorbusError):
    """The options don't fit together, or the door can't be had; the message says what to do.

    Attributes:
        exit_status: of the process, as for any wrong option.
    """

    exit_status = 2


class DoorOptions(msgspec.Struct, frozen=True):
    """What `serve` was asked for: ports (0 for a free one, None for none), and whose calls.

    Attributes:
        retries: the retry policies of resource files.
    """

    http_port: int | None
    grpc_port: int | None
    app_id: str | None
    retries: RetriesOf = no_retries


def door_options(
    http_port: int | None,
    grpc_port: int | None,
    app_id: str | None,
    app_id_of_environment: str | None,
    *,
    tokens: bool,
    retries: RetriesOf = no_retries,
) -> DoorOptions | None:
    """The options, checked; None if no port is asked for.

    Raises:
        ActorbusError: they don't fit together.
    """
    if http_port is None and grpc_port is None:
        if app_id is not None:
            raise DoorwayError(
                "--app-id says who calls the Dapr APIs: give --dapr-http-port or"
                " --dapr-grpc-port with it, or leave it out"
            )
        return None
    if http_port and http_port == grpc_port:
        raise DoorwayError(
            f"--dapr-http-port and --dapr-grpc-port are both {http_port}: choose two ports"
        )
    if tokens:
        if app_id is not None:
            log.warning("app_id_is_not_used", app_id=app_id, reason="the tokens say who calls")
        return DoorOptions(http_port, grpc_port, None, retries)
    app_id = app_id or app_id_of_environment
    if not app_id:
        raise DoorwayError(
            "the Dapr APIs must know who calls: give --app-id ID, set APP_ID, or give --tokens FILE"
        )
    return DoorOptions(http_port, grpc_port, check_app_id(app_id), retries)


class Doorway:
    """The door of one broker process.

    Raises:
        DoorwayError: the extra `dapr` is not installed.
    """

    def __init__(self, options: DoorOptions, broker: Broker) -> None:
        self._options = options
        self._broker = broker
        self._make = _find_door()
        self._door: Door | None = None

    async def open(self, url: str) -> list[str]:
        """Connect to the broker, and listen; the lines that say where.

        Args:
            url: where the broker listens.

        Raises:
            ActorbusError: a port can't be had.
        """
        options, broker = self._options, self._broker
        config = DoorConfig(
            components=broker.urls(loopback(url)),
            scopes={name: one.scopes for name, one in broker.components.items() if one.scopes},
            host=broker.config.host,
            http_port=options.http_port,
            grpc_port=options.grpc_port,
            app_id=options.app_id,
            specversion=broker.config.specversion,
            tokens=broker.tokens,
            retries=options.retries,
            broker_token=None if broker.tokens is None else broker.tokens.trust(),
        )
        door = self._make(config, broker.health, broker.open_bus)
        http_port, grpc_port = await door.start()
        self._door = door
        host = config.host
        shown = f"[{host}]" if ":" in host else host
        ports = {"http": http_port, "grpc": grpc_port}
        return [
            f"dapr {protocol} listening on {shown}:{port}"
            for protocol, port in ports.items()
            if port is not None
        ]

    async def close(self) -> None:
        """Stop the door, if it is open. Bounded."""
        if self._door is None:
            return
        log.info("shutdown", step="close the Dapr door")
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._door.stop()
        except TimeoutError:
            log.warning("shutdown step took too long", step="close the Dapr door")
        except Exception:  # the broker must stop in order whatever this met
            log.exception("shutdown step failed", step="close the Dapr door")


def loopback(url: str) -> str:
    """The broker's address for a client on this machine, where it listens on all of them."""
    parts = urlsplit(url)
    host = _ANYWHERE.get(parts.hostname or "")
    return url if host is None else parts._replace(netloc=f"{host}:{parts.port}").geturl()


def _find_door() -> "type[Door]":
    try:
        from transport.dapr.door import Door  # noqa: PLC0415 - it needs the extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("actorbus", "actors", "transport"):
            raise
        raise DoorwayError(
            f"the Dapr door needs the package {error.name}: pip install 'actorbus[dapr]'"
        ) from None
    return Door
