"""`serve --resources-path` as a process of its own."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.transport.dapr.resources.kit import component_text
from tests.transport.dapr.resources.test_declared import FIRST
from tests.transport.stores.rabbitmq.support import declared
from tests.transport.test_cli_serve import listening, run, serving
from transport import cli
from transport.components import ComponentConfig


def say(app: ClientConnection, kind: str, **fields: object) -> dict[str, object]:
    app.send(json.dumps({"type": kind, "ref": 1, **fields}))
    answer: dict[str, object] = json.loads(app.recv(5))
    return answer


def test_components_of_files_are_served_with_their_scopes(tmp_path: Path) -> None:
    text = component_text("pubsub.in-memory", "publishingScopes: shop=orders", "colour: red")
    (tmp_path / "a.yaml").write_text(f"{text}---\n{text.replace('orders}', 'pubsub}')}")
    with serving("--resources-path", str(tmp_path)) as process:
        url = listening(process)
        for path in ("", "/components/orders", "/components/pubsub"):
            with connect(url + path) as app:
                assert say(app, "hello", app_id="shop")["type"] == "welcome"
                assert say(app, "publish", topic="orders", data=1)["type"] == "published"
                assert say(app, "publish", topic="payments", data=1)["code"] == "forbidden"
        process.terminate()
        _, log = process.communicate(timeout=15)
    assert f"{tmp_path}/a.yaml:9: colour is unknown to pubsub.in-memory here and ignored" in log
    assert not (tmp_path / "actorbus.db").exists()


def test_subscriptions_are_said_to_be_the_sidecars(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(FIRST)
    with serving("--store", "memory:", "--resources-path", str(tmp_path)) as process:
        listening(process)
        process.terminate()
        _, log = process.communicate(timeout=15)
    assert "actorbus sidecar --resources-path DIR" in log


def test_a_rabbitmq_component_is_served_in_daprs_format(tmp_path: Path, rabbitmq_url: str) -> None:
    text = component_text("pubsub.rabbitmq", f"connectionString: {rabbitmq_url}", "durable: true")
    (tmp_path / "a.yaml").write_text(text)
    with (
        serving("--store", "memory:", "--resources-path", str(tmp_path)) as process,
        connect(f"{listening(process)}/components/orders") as app,
    ):
        say(app, "hello", app_id="shop")
        assert say(app, "subscribe", topic="orders")["type"] == "subscribed"
        app.send(json.dumps({"type": "publish", "topic": "orders", "data": 1}))
        delivered = json.loads(app.recv(10))
        assert delivered["deliveries"][0]["event"]["data"] == 1
        assert asyncio.run(declared(rabbitmq_url, "shop-orders"))  # the name that Dapr gives it


def test_a_file_that_is_wrong_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: Secret\n")
    status, out, err = run("--store", "memory:", "--resources-path", str(tmp_path))
    assert (status, out) == (78, "")
    assert err == (
        f"actorbus: {tmp_path}/a.yaml:1: kind 'Secret' is unknown: "
        "use one of Component, Subscription, Resiliency\n"
    )


def test_a_store_that_cannot_be_had_is_told_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(component_text("pubsub.sqlite", f"path: {tmp_path}/no/x.db"))
    status, _, err = run("--store", "memory:", "--resources-path", str(tmp_path))
    assert status == 78
    assert f"actorbus: {tmp_path}/a.yaml:1: component orders: " in err


def test_without_the_extra_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "transport.dapr.resources.load", None)
    with pytest.raises(SystemExit) as caught:
        cli._resources([tmp_path])
    assert caught.value.code == 1
    assert capsys.readouterr().err.endswith(": pip install 'actorbus[dapr]'\n")


def test_a_store_on_the_command_line_is_what_v1_serves() -> None:
    components = (ComponentConfig(name="pubsub", store="memory:"),)
    assert cli._store("memory:", components) == "memory:"
    assert cli._store(None, components) is None
    assert cli._store(None, ()) == "sqlite:actorbus.db"
    assert cli._store("", ()) == ""
