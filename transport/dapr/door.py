"""The composition of a door: its servers over one set of connections, started and stopped."""

import asyncio

from actorbus.errors import ActorbusError
from transport.dapr.buses import Buses, OpenLocal
from transport.dapr.callers import Callers
from transport.dapr.config import DoorConfig
from transport.dapr.grpc_api import GrpcApi
from transport.dapr.grpc_server import GrpcServer
from transport.dapr.http_api import HttpApi
from transport.dapr.http_rest import Health
from transport.dapr.http_server import HttpServer
from transport.dapr.metadata import Metadata
from transport.dapr.publishing import Publisher


class Door:
    """One door.

    Args:
        config: its settings.
        health: why the broker beside it can't work now, or None; for a door in its process.
        open_local: opens a bus in that broker; for the same.

    Attributes:
        buses: its connections.
        publisher: what its APIs publish through.
        callers: who its callers are.
        metadata: what it tells about itself.
    """

    def __init__(
        self,
        config: DoorConfig,
        health: Health | None = None,
        open_local: OpenLocal | None = None,
    ) -> None:
        self.config = config
        self.buses = Buses(config, open_local)
        self.callers = Callers(config)
        self.publisher = Publisher(self.buses, config)
        self.metadata = Metadata(config)
        self._broker_health = health
        self._http: HttpServer | None = None
        self._grpc: GrpcServer | None = None
        self._stopping = False

    async def start(self) -> tuple[int | None, int | None]:
        """Connect, where it is known as whom, then listen; the ports of HTTP and of gRPC.

        Raises:
            ActorbusError: a broker or an address can't be had.
        """
        try:
            return await self._start()
        except ActorbusError:
            await self.stop()
            raise

    async def _start(self) -> tuple[int | None, int | None]:
        config = self.config
        if config.app_id is not None:
            app_id = config.app_id
            names = [name for name in config.components if config.serves(name, app_id)]
            await asyncio.gather(*(self.buses.get(name, app_id) for name in names))
        return await self._listen()

    async def _listen(self) -> tuple[int | None, int | None]:
        """Listen for gRPC first: SDKs open their streams as soon as HTTP says that all is well."""
        config = self.config
        http_port = grpc_port = None
        if config.grpc_port is not None:
            calls = GrpcApi(self.publisher, self.callers, self.buses, self.metadata, config.retries)
            self._grpc = GrpcServer(calls)
            grpc_port = await self._grpc.start(config.host, config.grpc_port)
        if config.http_port is not None:
            api = HttpApi(config, self.publisher, self.callers, self.metadata, self._health)
            self._http = HttpServer(api)
            http_port = await self._http.start(config.host, config.http_port)
        return http_port, grpc_port

    async def stop(self) -> None:
        """Answer what was asked, take nothing new, then disconnect; bounded."""
        self._stopping = True  # so that SDKs whose streams end wait for the next start
        if self._grpc is not None:
            await self._grpc.stop()
        if self._http is not None:
            await self._http.stop()
        await self.buses.stop()

    def _health(self) -> str | None:
        if self._stopping:
            return "the door is stopping"
        reason = None if self._broker_health is None else self._broker_health()
        return reason or self.buses.health()
