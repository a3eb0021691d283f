"""`serve` with a Dapr door, as a process of its own."""

import hashlib
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from websockets.sync.client import connect

from actorbus.errors import ActorbusError
from tests.transport.test_cli_serve import DEADLINE, listening, run, serving
from transport.doorway import DoorOptions, door_options, loopback

DOOR = ("--dapr-http-port", "0", "--app-id", "shop")


def door_url(process: "subprocess.Popen[str]") -> str:
    """The URL in the line of the door's HTTP server, which comes with the broker's own."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"dapr http listening on (127\.0\.0\.1:[1-9]\d*)\n", line)
    assert found is not None, line
    return f"http://{found[1]}"


def post(url: str, **headers: str) -> int:
    request = urllib.request.Request(f"{url}/v1.0/publish/pubsub/orders", b"x", headers)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            status: int = answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return status


def test_a_dapr_app_and_an_app_on_websocket_meet() -> None:
    with serving("--store", "memory:", *DOOR) as process, connect(listening(process)) as app:
        app.send('{"type":"hello","app_id":"reader"}')
        app.send('{"type":"subscribe","topic":"orders","ref":1}')
        while json.loads(app.recv(5))["type"] != "subscribed":
            pass
        assert post(door_url(process)) == 204
        (delivery,) = json.loads(app.recv(5))["deliveries"]
        assert (delivery["event"]["data"], delivery["event"]["source"]) == ("x", "shop")


def test_it_stops_in_order_with_its_door() -> None:
    with serving("--store", "memory:", *DOOR) as process:
        listening(process)
        post(door_url(process))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out) == (0, "")
    entries = [json.loads(line) for line in err.splitlines()]
    assert entries[-1]["event"] == "stopped"
    assert [one for one in entries if one["level"] not in ("info", "debug")][1:] == []


def test_tokens_say_who_calls(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(f'"{hashlib.sha256(b"secret").hexdigest()}" = "shop"\n')
    with serving("--store", "memory:", "--tokens", str(file), "--dapr-http-port", "0") as process:
        listening(process)
        url = door_url(process)
        assert post(url) == 401
        assert post(url, **{"dapr-api-token": "wrong"}) == 401
        assert post(url, **{"dapr-api-token": "secret"}) == 204


def test_the_app_id_comes_from_the_environment() -> None:
    with serving(
        "--store", "memory:", "--dapr-http-port", "0", environment={"APP_ID": "shop"}
    ) as process:
        listening(process)
        assert post(door_url(process)) == 204


def test_a_taken_port_is_one_clear_line() -> None:
    with serving("--store", "memory:", *DOOR) as process:
        listening(process)
        port = door_url(process).rpartition(":")[2]
        status, out, err = run("--store", "memory:", "--dapr-http-port", port, "--app-id", "shop")
    assert (status, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith(f"actorbus: can't listen on 127.0.0.1:{port}: ")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--app-id", "shop"], "give --dapr-http-port or --dapr-grpc-port"),
        (["--dapr-http-port", "0"], "give --app-id ID, set APP_ID, or give --tokens FILE"),
        (["--dapr-http-port", "0", "--app-id", "b!d"], "not 'b!d'"),
        (
            ["--dapr-http-port", "3500", "--dapr-grpc-port", "3500", "--app-id", "shop"],
            "--dapr-http-port and --dapr-grpc-port are both 3500",
        ),
    ],
)
def test_a_wrong_combination_is_one_clear_line(arguments: list[str], part: str) -> None:
    status, out, err = run("--store", "memory:", *arguments)
    assert status in (1, 2)
    assert out == ""
    (line,) = err.splitlines()
    assert part in line


def test_app_id_of_the_environment_alone_opens_no_door() -> None:
    assert door_options(None, None, None, "shop", tokens=False) is None


def test_tokens_come_before_an_app_id() -> None:
    assert door_options(0, None, "shop", None, tokens=True) == DoorOptions(0, None, None)


def test_two_free_ports_are_two_ports() -> None:
    assert door_options(0, 0, "shop", None, tokens=False) == DoorOptions(0, 0, "shop")


def test_a_wrong_app_id_is_refused() -> None:
    with pytest.raises(ActorbusError, match="app_id must be"):
        door_options(0, None, "", "b!d", tokens=False)


@pytest.mark.parametrize(
    ("url", "client"),
    [
        ("ws://0.0.0.0:8090/v1", "ws://127.0.0.1:8090/v1"),
        ("ws://[::]:8090/v1", "ws://[::1]:8090/v1"),
        ("ws://10.0.0.5:8090/v1", "ws://10.0.0.5:8090/v1"),
        ("ws://127.0.0.1:8090/v1", "ws://127.0.0.1:8090/v1"),
    ],
)
def test_the_door_reaches_its_broker_over_loopback(url: str, client: str) -> None:
    assert loopback(url) == client


EXTRAS = ("dapr", "grpc", "google.protobuf", "uvicorn", "starlette", "httptools", "yaml", "celpy")


def test_serve_without_a_door_imports_nothing_of_the_extra() -> None:
    source = (
        "import sys; import transport.cli;"
        f" print([name for name in {EXTRAS!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"


def test_a_missing_extra_is_one_clear_line() -> None:
    source = (
        "import sys; sys.modules['uvicorn'] = None;"
        "sys.argv = ['actorbus', 'serve', '--port', '0', '--store', 'memory:',"
        " '--dapr-http-port', '0', '--app-id', 'shop'];"
        "from transport.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line == "actorbus: the Dapr door needs the package uvicorn: pip install 'actorbus[dapr]'"
    assert "Traceback" not in done.stderr
