"""`actorbus sidecar` as a process, with an app that it runs."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from actorbus.testing import TestBroker

ROOT = Path(__file__).parents[4]
DEADLINE = 20.0

APP = """
import http.server, json, os, signal, sys, threading, urllib.request

say = lambda *words: print(*words, flush=True)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        topics = [{"pubsubname": "pubsub", "topic": "orders", "route": "/take"}]
        self.answer(json.dumps(topics).encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        say("got", body["data"])
        self.answer(b"")
        if body["data"] == "end":
            threading.Thread(target=os._exit, args=(7,)).start()

    def answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

def ended(number, _):
    say("signal", signal.Signals(number).name)
    os._exit(0 if number == signal.SIGINT else 3)

for name in ("SIGTERM", "SIGINT"):
    signal.signal(getattr(signal, name), ended)
signal.signal(signal.SIGHUP, lambda *_: say("signal SIGHUP"))
names = ("APP_ID", "APP_PORT", "DAPR_HTTP_PORT", "DAPR_GRPC_PORT")
say("env", json.dumps({name: os.environ[name] for name in names}))
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Handler)
server.serve_forever()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Sidecar:
    """A running sidecar and the lines that it and its app print."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def line(self, start: str) -> str:
        """The rest of the next line that starts so."""
        while True:
            line = self._lines.get(timeout=DEADLINE)
            assert line, self.process.communicate(timeout=DEADLINE)[1]
            if line.startswith(start):
                return line.removeprefix(start).strip()

    def status(self) -> int:
        return self.process.wait(DEADLINE)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")


@contextmanager
def sidecar(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Sidecar]:
    inherited = {name: value for name, value in os.environ.items() if name != "APP_ID"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "transport", "sidecar", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**inherited, "PYTHONPATH": str(ROOT), **(environment or {})},
    )
    try:
        yield Sidecar(process)
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        finally:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    with TestBroker() as one:
        yield one


@contextmanager
def beside_an_app(
    broker: TestBroker, *, environment: Mapping[str, str] | None = None, app_id: str = "shop"
) -> Iterator[tuple[Sidecar, dict[str, str]]]:
    """A sidecar with its app, once it is subscribed; and what the app has in its environment."""
    port = str(free_port())
    options = ("--url", broker.url, "--app-id", app_id, "--app-port", port)
    with sidecar(*options, "--", sys.executable, "-c", APP, environment=environment) as one:
        told = json.loads(one.line("env "))
        ready = one.line("actorbus sidecar of ")
        assert ready == f"{app_id}: the app listens on 127.0.0.1:{port} (http), subscriptions: 1"
        assert (told["APP_ID"], told["APP_PORT"]) == (app_id, port)
        yield one, told


def publish(port: str, data: str, token: str | None = None) -> int:
    url = f"http://127.0.0.1:{port}/v1.0/publish/pubsub/orders"
    headers = {"content-type": "text/plain"}
    if token is not None:
        headers["dapr-api-token"] = token
    with urlopen(Request(url, data.encode(), headers), timeout=DEADLINE) as response:
        status: int = response.status
        return status


def run(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """A sidecar that ends by itself: its status and the last line on standard error."""
    with sidecar(*arguments, environment=environment) as one:
        assert one.process.stderr is not None
        said = one.process.stderr.read()
        assert "Traceback" not in said, said
        return one.status(), said.strip().splitlines()[-1]


def test_the_app_gets_what_it_publishes_and_its_status_is_the_sidecars(broker: TestBroker) -> None:
    with beside_an_app(broker) as (one, told):
        assert publish(told["DAPR_HTTP_PORT"], "a") == 204
        assert one.line("got ") == "a"
        assert publish(told["DAPR_HTTP_PORT"], "end") == 204
        assert one.status() == 7


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 3), (signal.SIGINT, 0)])
def test_signals_are_passed_on_and_the_apps_status_is_the_sidecars(
    broker: TestBroker, number: signal.Signals, status: int
) -> None:
    with beside_an_app(broker) as (one, _):
        one.process.send_signal(signal.SIGHUP)
        assert one.line("signal ") == "SIGHUP"
        one.process.send_signal(number)
        assert one.line("signal ") == number.name
        assert one.status() == status


def test_a_token_in_the_environment_is_asked_of_the_app(broker: TestBroker) -> None:
    with beside_an_app(broker, environment={"DAPR_API_TOKEN": "secret"}, app_id="safe") as (
        one,
        told,
    ):
        with pytest.raises(OSError, match="401"):
            publish(told["DAPR_HTTP_PORT"], "a")
        assert publish(told["DAPR_HTTP_PORT"], "a", "secret") == 204
        assert one.line("got ") == "a"


def test_without_a_command_it_serves_until_it_is_told_to_stop(broker: TestBroker) -> None:
    options = ("--url", broker.url, "--dapr-http-port", "0", "--dapr-grpc-port", "0")
    with sidecar(*options, environment={"APP_ID": "quiet"}) as one:
        address = one.line("dapr http listening on ")
        one.line("dapr grpc listening on ")
        assert publish(address.rpartition(":")[2], "a") == 204
        one.process.send_signal(signal.SIGTERM)
        assert one.status() == 0


def test_an_app_id_is_needed(broker: TestBroker) -> None:
    status, said = run("--url", broker.url)
    assert (status, said) == (
        2,
        "actorbus: whose sidecar is it? give --app-id ID, or set APP_ID",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--app-id", "no good"), "app_id must be 1 to 120 of"),
        (("--app-id", "a", "--app-port", "9", "--dapr-http-port", "9"), "must be different"),
        (("--app-id", "a", "--resources-path", "/nowhere"), "/nowhere: can't be read"),
    ],
)
def test_wrong_options_are_a_line(arguments: tuple[str, ...], said: str) -> None:
    status, line = run(*arguments)
    assert status != 0
    assert said in line


def test_a_broker_that_refuses_is_a_line(broker: TestBroker) -> None:
    url = f"{broker.url}/components/orders"
    status, said = run("--url", url, "--app-id", "a", "--", "true")
    assert status == 1
    assert said.startswith("actorbus: ")
    assert "404" in said


def test_events_go_on_over_a_restart_of_the_broker(tmp_path: Path) -> None:
    with (
        TestBroker(store=f"sqlite:{tmp_path}/events.db") as mortal,
        beside_an_app(mortal) as (
            one,
            told,
        ),
    ):
        mortal.kill()
        mortal.start()
        assert publish(told["DAPR_HTTP_PORT"], "a") == 204
        assert one.line("got ") == "a"


def test_an_app_that_does_not_come_is_a_line_and_is_ended(broker: TestBroker) -> None:
    port = str(free_port())
    options = ("--url", broker.url, "--app-id", "late", "--app-port", port, "--app-wait", "0.3")
    status, said = run(*options, "--", "sleep", "600")
    assert status == 1
    assert f"nothing listens on 127.0.0.1:{port} after 0.3 s: is --app-port the app's port?" in said


def test_a_command_that_does_not_exist_is_a_line(broker: TestBroker) -> None:
    status, said = run("--url", broker.url, "--app-id", "a", "--", "no-such-program", "--flag")
    assert (status, said) == (
        127,
        "actorbus: can't run 'no-such-program': No such file or directory",
    )


def test_a_command_that_ends_before_it_listens_ends_the_sidecar(broker: TestBroker) -> None:
    options = ("--url", broker.url, "--app-id", "short", "--app-port", str(free_port()))
    status, _ = run(*options, "sh", "-c", "exit 5")
    assert status == 5


def test_a_port_that_is_taken_is_a_line(broker: TestBroker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        options = ("--url", broker.url, "--app-id", "a", "--dapr-http-port", str(port))
        status, said = run(*options, "--", "true")
    assert status == 1
    assert f"can't listen on 127.0.0.1:{port}" in said
