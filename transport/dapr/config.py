"""What a door is told: where it listens, which brokers are behind it, and for whom it speaks."""

from collections.abc import Mapping
from typing import Final

import msgspec

from transport.auth import Tokens

COMPONENT: Final = "pubsub"
"""The component's name unless resource files name others: what Dapr's own samples use."""


class DoorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one door.

    Attributes:
        host: address that both servers listen on.
        http_port: 0 for a free one; None: no HTTP.
        grpc_port: same for gRPC.
        app_id: whose calls these are, where `tokens` do not say it.
        specversion: of the events that the door wraps.
        components: name of a Dapr pub/sub component → URL of its broker.
        tokens: with them each call shows one, which names its app ID.
        broker_token: what the door's own connections show to the broker.
    """

    components: Mapping[str, str]
    host: str = "127.0.0.1"
    http_port: int | None = None
    grpc_port: int | None = None
    app_id: str | None = None
    specversion: str = "0.3"
    tokens: Tokens | None = None
    broker_token: str | None = None

    def __repr__(self) -> str:
        return f"<DoorConfig of {self.app_id or 'tokens'} on {self.host}>"

    def default_component(self) -> str | None:
        """The component of a call that names none, as Dapr before 0.10; None if it is open."""
        if COMPONENT in self.components:
            return COMPONENT
        return next(iter(self.components)) if len(self.components) == 1 else None
