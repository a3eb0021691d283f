"""What a door is told: where it listens, which brokers are behind it, and for whom it speaks."""

from collections.abc import Callable, Mapping

import msgspec

from transport.auth import Tokens
from transport.components import DEFAULT
from transport.dapr.settling import Retries

RetriesOf = Callable[[str, str], Retries | None]
"""The retry policy for a component and an app ID, if there is one."""


def no_retries(_component: str, _app_id: str) -> None:
    """No policy for anyone."""


class DoorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one door.

    Attributes:
        host: address that both servers listen on.
        http_port: 0 for a free one; None: no HTTP.
        grpc_port: same for gRPC.
        app_id: whose calls these are, where `tokens` do not say it.
        specversion: of the events that the door wraps.
        components: name of a Dapr pub/sub component → URL of its broker.
        scopes: component → the app IDs that it is for; one that is not named is for all.
        tokens: with them each call shows one, which names its app ID.
        retries: the retry policies of resource files.
        broker_token: what the door's own connections show to the broker.
    """

    components: Mapping[str, str]
    scopes: Mapping[str, frozenset[str]] = {}
    host: str = "127.0.0.1"
    http_port: int | None = None
    grpc_port: int | None = None
    app_id: str | None = None
    specversion: str = "0.3"
    tokens: Tokens | None = None
    broker_token: str | None = None
    retries: RetriesOf = no_retries

    def __repr__(self) -> str:
        return f"<DoorConfig of {self.app_id or 'tokens'} on {self.host}>"

    def serves(self, component: str, app_id: str) -> bool:
        """Whether an app has this component; to the others it does not exist, as in Dapr."""
        scope = self.scopes.get(component)
        return component in self.components and (not scope or app_id in scope)

    def default_component(self) -> str | None:
        """The component of a call that names none, as Dapr before 0.10; None if it is open."""
        if DEFAULT in self.components:
            return DEFAULT
        return next(iter(self.components)) if len(self.components) == 1 else None
