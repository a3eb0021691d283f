"""The listening side of Dapr's gRPC API."""

from typing import Final

import grpc

from transport.dapr.grpc_api import GrpcApi
from transport.dapr.http_server import AddressError, bind

MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Longest request: daprd's and gRPC's own default."""

CALLS: Final = 10_000
"""Calls and streams at a time; further ones get RESOURCE_EXHAUSTED."""

STOP_SECONDS: Final = 1.0
"""How long calls under way may take at an orderly stop."""

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # else a second door on a taken port starts without a word
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),  # an app that vanished frees its events within a minute
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


class GrpcServer:
    """Serves an API on one address."""

    def __init__(self, api: GrpcApi) -> None:
        self._api = api
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port.

        Args:
            host: an address of this machine.
            port: 0 for a free one.

        Raises:
            AddressError: the address can't be had.
        """
        server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=CALLS)
        server.add_generic_rpc_handlers((self._api.handler(),))
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        (await bind(host, port)).close()  # gRPC itself does not tell why it can't
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError:
            raise AddressError(f"gRPC can't listen on {address}: choose another port") from None
        await server.start()
        self._server = server
        return bound

    async def stop(self) -> None:
        """Take no more calls, end streams in order, answer what was asked. Bounded."""
        if self._server is None:
            return
        await self._api.streams.stop()
        await self._server.stop(STOP_SECONDS)
