"""What a sidecar is told, and what follows from it. Pure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from actorbus.errors import ActorbusError
from transport.auth import Tokens
from transport.components import DEFAULT, ComponentConfig
from transport.dapr.config import DoorConfig, RetriesOf, no_retries

HTTP_PORT: Final = 3500
GRPC_PORT: Final = 50001
"""Where apps look for Dapr's APIs unless their environment says otherwise."""

APP_WAIT: Final = 60.0
"""Seconds that an app may take to listen: a cold start of a JVM and its framework on a small
machine."""


class SidecarError(ActorbusError):
    """The sidecar can't start, or can't go on; the message says what to do.

    Attributes:
        exit_status: of the process.
    """

    def __init__(self, message: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class SidecarConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one sidecar.

    Attributes:
        url: the broker's address.
        app_id: who the app is.
        token: what the broker's `--tokens` file asks for.
        app_host: where the app listens.
        app_port: None: it takes no events by push.
        app_protocol: what the app speaks there.
        app_wait: seconds that it may take to listen.
        max_concurrency: calls to the app at a time; None: only the windows bound them.
        app_token: what calls to the app carry as `dapr-api-token` (`APP_API_TOKEN`).
        host: address that Dapr's APIs listen on.
        http_port: None: a free one for a command, which is told; else Dapr's own.
        grpc_port: same.
        api_token: what calls of Dapr's APIs must carry (`DAPR_API_TOKEN`).
        specversion: of the events that the sidecar wraps.
        resources: folders of Dapr's resource files.
        command: the app, unless something else starts it.
    """

    url: str
    app_id: str
    token: str | None = None
    app_host: str = "127.0.0.1"
    app_port: int | None = None
    app_protocol: Literal["http", "grpc"] = "http"
    app_wait: float = APP_WAIT
    max_concurrency: int | None = None
    app_token: str | None = None
    host: str = "127.0.0.1"
    http_port: int | None = None
    grpc_port: int | None = None
    api_token: str | None = None
    specversion: str = "0.3"
    resources: tuple[Path, ...] = ()
    command: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<SidecarConfig of {self.app_id}>"

    @property
    def app_address(self) -> str:
        """The app's host and port, as URLs have them."""
        host = f"[{self.app_host}]" if ":" in self.app_host else self.app_host
        return f"{host}:{self.app_port}"

    def door(self, components: Mapping[str, str], retries: RetriesOf = no_retries) -> DoorConfig:
        """The settings of its door, over these components and with these retry policies."""
        token = self.api_token
        return DoorConfig(
            components=components,
            host=self.host,
            http_port=self._port(self.http_port, HTTP_PORT),
            grpc_port=self._port(self.grpc_port, GRPC_PORT),
            app_id=self.app_id,
            specversion=self.specversion,
            tokens=Tokens.of(token, self.app_id) if token else None,
            broker_token=self.token,
            retries=retries,
        )

    def components(self, defined: tuple[ComponentConfig, ...]) -> dict[str, str]:
        """The components that the app may use, with their brokers' URLs.

        `--url` is the component `pubsub`, as everywhere, unless the files define one of that name.

        Args:
            defined: by resource files; the broker must serve them too.

        Raises:
            SidecarError: the URL has no place for components.
        """
        found = {DEFAULT: self.url}
        for one in defined:
            if one.scopes and self.app_id not in one.scopes:
                found.pop(one.name, None)
            else:
                found[one.name] = component_url(self.url, one.name)
        return found

    def _port(self, given: int | None, usual: int) -> int:
        if given is not None:
            return given
        return 0 if self.command else usual


def component_url(url: str, name: str) -> str:
    """Where the broker at `url` serves a component.

    Raises:
        SidecarError: the URL does not end as a broker's does.
    """
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if not path.endswith("/v1"):
        raise SidecarError(
            f"--url must end in /v1 where resource files define components, not in {path!r:.40}", 2
        )
    return parts._replace(path=f"{path}/components/{name}").geturl()
