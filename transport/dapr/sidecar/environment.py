"""What the app learns from its environment, in the words of `dapr run`. Pure."""

from collections.abc import Mapping

from transport.dapr.sidecar.config import SidecarConfig


def environment(
    own: Mapping[str, str], config: SidecarConfig, http_port: int, grpc_port: int
) -> dict[str, str]:
    """The environment of the command.

    Args:
        own: the sidecar's, which is passed on.
        config: the sidecar's settings.
        http_port: where Dapr's HTTP API is.
        grpc_port: where its gRPC API is.
    """
    found = {
        "APP_ID": config.app_id,
        "APP_PROTOCOL": config.app_protocol,
        "APP_CHANNEL_ADDRESS": config.app_host,
        "DAPR_HTTP_PORT": str(http_port),
        "DAPR_GRPC_PORT": str(grpc_port),
    }
    if config.app_port is not None:
        found["APP_PORT"] = str(config.app_port)
    return {**own, **found}
