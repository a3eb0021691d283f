"""What follows from a sidecar's settings."""

from typing import Any

import pytest

from transport.components import ComponentConfig
from transport.dapr.callers import Callers, NotAllowedError
from transport.dapr.sidecar.config import SidecarConfig, SidecarError, component_url
from transport.dapr.sidecar.environment import environment

URL = "ws://127.0.0.1:8090/v1"


def config(**fields: Any) -> SidecarConfig:
    return SidecarConfig(url=URL, app_id="shop", **fields)


def test_a_command_learns_what_dapr_run_tells() -> None:
    found = environment(
        {"PATH": "/bin", "APP_ID": "other", "DAPR_API_TOKEN": "secret"},
        config(app_port=6001, app_protocol="grpc"),
        3501,
        50002,
    )
    assert found == {
        "PATH": "/bin",
        "DAPR_API_TOKEN": "secret",
        "APP_ID": "shop",
        "APP_PORT": "6001",
        "APP_PROTOCOL": "grpc",
        "APP_CHANNEL_ADDRESS": "127.0.0.1",
        "DAPR_HTTP_PORT": "3501",
        "DAPR_GRPC_PORT": "50002",
    }


def test_without_a_port_none_is_told() -> None:
    assert "APP_PORT" not in environment({}, config(), 1, 2)


def test_a_command_gets_free_ports_and_any_other_app_the_usual_ones() -> None:
    alone = config().door({})
    beside = config(command=("app",)).door({})
    chosen = config(command=("app",), http_port=3600, grpc_port=0).door({})
    assert (alone.http_port, alone.grpc_port) == (3500, 50001)
    assert (beside.http_port, beside.grpc_port) == (0, 0)
    assert (chosen.http_port, chosen.grpc_port) == (3600, 0)


def test_a_token_is_asked_of_the_app_and_says_nothing_new_about_it() -> None:
    callers = Callers(config(api_token="secret").door({}))
    assert callers.app_id("secret") == "shop"
    assert callers.sole == "shop"
    with pytest.raises(NotAllowedError):
        callers.app_id(None)


def test_the_url_is_the_component_pubsub() -> None:
    assert config().components(()) == {"pubsub": URL}


def test_files_add_components_for_this_app() -> None:
    defined = (
        ComponentConfig(name="orders", store="memory:"),
        ComponentConfig(name="mine", store="memory:", scopes=frozenset({"shop"})),
        ComponentConfig(name="theirs", store="memory:", scopes=frozenset({"other"})),
    )
    assert config().components(defined) == {
        "pubsub": URL,
        "orders": f"{URL}/components/orders",
        "mine": f"{URL}/components/mine",
    }


def test_a_component_pubsub_of_files_may_be_for_others() -> None:
    defined = (ComponentConfig(name="pubsub", store="memory:", scopes=frozenset({"other"})),)
    assert config().components(defined) == {}


def test_a_url_without_a_place_for_components_is_refused() -> None:
    assert component_url("wss://host/bus/v1/", "a") == "wss://host/bus/v1/components/a"
    with pytest.raises(SidecarError, match="--url must end in /v1"):
        component_url("ws://host/events", "a")


def test_no_token_is_shown() -> None:
    shown = repr(config(token="one", api_token="two", app_token="three"))
    assert shown == "<SidecarConfig of shop>"
