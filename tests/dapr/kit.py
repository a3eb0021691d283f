"""Processes: a broker with a Dapr door, and apps that report in lines of JSON."""

import asyncio
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import msgspec
from dapr.proto.runtime.v1.dapr_pb2_grpc import DaprStub

import actorbus
from actorbus import GroupStatus

T = TypeVar("T")
Answer = dict[str, Any]

ROOT: Final = Path(__file__).parent.parent.parent
PYTHON: Final = ROOT / ".venv-dapr/bin/python"
MODULES: Final = ROOT / "build/dapr-js/node_modules"
APPS: Final = Path(__file__).parent / "apps"

DEADLINE: Final = 20.0
"""Seconds that any one thing may take, a start of Python or Node on a busy machine included."""

_PORTS: Final = iter(range(9_000 + os.getpid() % 1000 * 5, 15_000))
"""Each process searches from a place of its own; each port is given out once."""


def missing_python() -> str | None:
    """Why there is no Python SDK, or None."""
    if (PYTHON.parent.parent / ".installed").exists():
        return None
    return "Dapr's Python SDK is not installed: run tests/dapr/install-sdks.sh"


def missing_javascript() -> str | None:
    """Why there is no JavaScript SDK, or None."""
    if (MODULES.parent / ".installed").exists() and shutil.which("node"):
        return None
    return "Dapr's JavaScript SDK is not installed: run tests/dapr/install-sdks.sh"


def python_app(name: str, *arguments: str) -> list[str]:
    """The command of a Python app."""
    return [str(PYTHON), "-W", "ignore", "-m", f"tests.dapr.apps.{name}", *arguments]


def javascript_app(name: str, *arguments: str) -> list[str]:
    """The command of a JavaScript app."""
    return ["node", str(APPS / f"{name}.js"), *arguments]


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again; within the deadline."""
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.02)


class Process:
    """A process whose output is read as it comes.

    Args:
        command: what to run.
        environment: beside our own.
        app_id: whose process it is.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], app_id: str = ""
    ) -> None:
        self.app_id = app_id
        own = {name: value for name, value in os.environ.items() if name != "APP_ID"}
        self._errors = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env={**own, "PYTHONPATH": str(ROOT), "NODE_PATH": str(MODULES), **environment},
        )
        self._lines: dict[str, deque[Any]] = defaultdict(deque)
        self._changed = threading.Condition()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, order: Mapping[str, Any]) -> None:
        """Write a line of JSON to its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def next(self, kind: str, seconds: float = DEADLINE) -> Any:
        """The next of what it reports under a name.

        Raises:
            AssertionError: nothing came in time; with the end of what it wrote to stderr.
        """
        until = time.monotonic() + seconds
        with self._changed:
            while not self._lines[kind]:
                left = until - time.monotonic()
                if left <= 0 or not self._reading.is_alive():
                    raise AssertionError(f"no {kind!r}\n{self.errors()[-4000:]}")
                self._changed.wait(min(left, 0.5))
            return self._lines[kind].popleft()

    def forget(self) -> None:
        """What nobody has taken."""
        with self._changed:
            self._lines.clear()

    def has(self, kind: str) -> bool:
        """Whether there is such a report that nobody has taken."""
        with self._changed:
            return bool(self._lines[kind])

    def errors(self) -> str:
        """What it has written to stderr."""
        self._errors.flush()
        return os.pread(self._errors.fileno(), 1_000_000, 0).decode(errors="replace")

    def ask_to_end(self) -> None:
        """Don't wait."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.terminate()

    def end(self) -> int:
        """End it in order, if it will; its status."""
        self.ask_to_end()
        try:
            status = self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait(DEADLINE)
        self._reading.join(DEADLINE)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()
        return status

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            for kind, value in _reports(line):
                with self._changed:
                    self._lines[kind].append(value)
                    self._changed.notify_all()


def _reports(line: str) -> list[tuple[str, Any]]:
    """What a line says: an event of a topic, other fields, or where something listens."""
    found = re.fullmatch(r"(\w+(?: http| grpc)?) listening on (\S+)\n", line)
    if found is not None:
        return [(found[1], found[2])]
    if not line.startswith("{"):
        return []
    fields = json.loads(line)
    return [(fields["topic"], fields)] if "topic" in fields else [*fields.items()]


def end_all(processes: Iterable[Process]) -> None:
    """End them side by side."""
    for process in (all_of_them := list(processes)):
        process.ask_to_end()
    for process in all_of_them:
        process.end()


class House:
    """`actorbus serve` with a door; who calls is said by tokens, unless `app_id` says it.

    Args:
        store: its URL.
        app_id: whose calls all are; None: whose token it is, `<app ID>-token`.
    """

    APP_IDS: Final = (
        "py-publish",
        "py-publish2",
        "py-reader",
        "py-stream",
        "py-stream2",
        "py-deaf",
        "py-push_fastapi",
        "py-push_flask",
        "py-push_grpc",
        "js-publish",
        "js-publish2",
        "js-http",
        "js-grpc",
        "plain",
    )

    def __init__(self, store: str = "memory:", app_id: str | None = None) -> None:
        self._tokens = tempfile.NamedTemporaryFile("w", suffix=".toml")  # noqa: SIM115 - `end`
        self.secured = app_id is None
        self._channel: grpc.Channel | None = None
        who = ["--app-id", str(app_id)]
        if self.secured:
            who = ["--tokens", self._tokens.name]
            self._write_tokens()
        command = [sys.executable, "-P", "-m", "transport", "serve", "--port", "0"]
        ports = ["--dapr-http-port", "0", "--dapr-grpc-port", "0"]
        self.process = Process([*command, "--store", store, *ports, *who], {})

    def _write_tokens(self) -> None:
        for app_id in self.APP_IDS:
            digest = hashlib.sha256(self.token(app_id).encode()).hexdigest()
            self._tokens.write(f'"{digest}" = "{app_id}"\n')
        self._tokens.flush()

    def listening(self) -> "House":
        """Wait until it listens."""
        self.url = self.process.next("actorbus")
        self.http = self.process.next("dapr http")
        self.grpc = self.process.next("dapr grpc")
        return self

    @staticmethod
    def token(app_id: str) -> str:
        return f"{app_id}-token"

    @cached_property
    def stub(self) -> Any:
        """gRPC's calls by hand."""
        self._channel = grpc.insecure_channel(self.grpc)
        return DaprStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def environment(self, app_id: str) -> dict[str, str]:
        """What a Dapr app is given: two ports, and who it is."""
        ports = {
            "DAPR_HTTP_PORT": self.http.rpartition(":")[2],
            "DAPR_GRPC_PORT": self.grpc.rpartition(":")[2],
        }
        return {**ports, "DAPR_API_TOKEN": self.token(app_id)} if self.secured else ports

    def sidecar_environment(self, app_id: str) -> dict[str, str]:
        """What a sidecar is given; its app then needs no token."""
        return {"ACTORBUS_TOKEN": self.token(app_id)} if self.secured else {}

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str], *, token: bool = True
    ) -> tuple[int, Any]:
        """The status and body of a POST to the door; with the token of `plain`."""
        own = {"dapr-api-token": self.token("plain")} if self.secured and token else {}
        request = urllib.request.Request(f"http://{self.http}{path}", body, {**headers, **own})
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def get(self, path: str) -> tuple[int, bytes]:
        """The status and body of a GET."""
        with urllib.request.urlopen(f"http://{self.http}{path}", timeout=DEADLINE) as answer:
            return answer.status, answer.read()

    def publish(self, topic: str, body: str, content_type: str, query: str = "") -> None:
        """Publish over HTTP, successfully."""
        headers = {"Content-Type": content_type}
        path = f"/v1.0/publish/pubsub/{topic}{query}"
        assert self.post(path, body.encode(), headers) == (204, b"")

    def end(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self.process.end()
        self._tokens.close()


def sidecar(
    house: House,
    app_id: str,
    protocol: str | None,
    command: Sequence[str],
    port: int | None = None,
) -> list[str]:
    """The command of a sidecar with an app; without a protocol it takes nothing by push."""
    start = [sys.executable, "-P", "-m", "transport", "sidecar", "--url", house.url]
    ports = ["--dapr-http-port", "0", "--dapr-grpc-port", "0"]
    if protocol is not None:
        ports += ["--app-port", str(port or free_port()), "--app-protocol", protocol]
    return [*start, "--app-id", app_id, *ports, "--", *command]


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives out by itself."""
    for port in _PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError("no port is free")


class Publisher:
    """An app that publishes what it is told."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def publish(self, topic: str, data: Any, **options: Any) -> Answer:
        """One event; what the SDK said of an error, or nothing."""
        return self.do("publish", topic=topic, data=data, **options)

    def bulk(self, topic: str, data: Sequence[Any], **options: Any) -> Answer:
        """Several events in one call."""
        return self.do("bulk", topic=topic, data=data, **options)

    def do(self, what: str, **fields: Any) -> Answer:
        self.process.tell({"do": what, **fields})
        answer: Answer = self.process.next("done")
        return answer


class Subscriber(msgspec.Struct, frozen=True):
    """An app with the topics that all of them have.

    Attributes:
        process: reports each event under its topic, without the prefix.
        prefix: of its topics.
        sees_fields: whether the SDK shows an event's attributes, not only its data.
    """

    process: Process
    prefix: str
    sees_fields: bool

    def name(self, topic: str) -> str:
        """The whole name of a topic."""
        return f"{self.prefix}-{topic}"


class Background:
    """An event loop in a thread, for the WebSocket apps of tests that are not asynchronous."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What it returns, within the deadline."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()


class Reader:
    """An app on WebSocket."""

    def __init__(self, background: Background, bus: actorbus.Bus) -> None:
        self._background = background
        self.bus = bus
        self._subscription: actorbus.Subscription | None = None

    def subscribe(self, topic: str, **options: Any) -> "Reader":
        self._subscription = self.bus.subscribe(topic, **options)
        self._background.run(self._subscription.__aenter__())
        return self

    def publish(self, topic: str, data: Any, **options: Any) -> str:
        return self._background.run(self.bus.publish(topic, data, **options))

    def delivery(self) -> actorbus.Delivery:
        """The next one, acknowledged."""

        async def take() -> actorbus.Delivery:
            assert self._subscription is not None
            delivery = await anext(self._subscription)
            await delivery.ack()
            return delivery

        return self._background.run(take())

    def event(self) -> Mapping[str, Any]:
        return self.delivery().event

    def wait_until_settled(
        self, topic: str, app_id: str, also: Callable[[], bool] = lambda: True
    ) -> None:
        """Until an app's group has nothing left of a topic, and `also` is true."""

        def settled() -> bool:
            (group,) = self._groups(topic, app_id)
            return not group.in_flight and not group.backlog and also()

        wait_until(settled)

    def wait_until_subscribed(self, topic: str, app_id: str) -> None:
        """Until an app has an instance that takes a topic's events."""
        wait_until(lambda: any(group.instances for group in self._groups(topic, app_id)))

    def _groups(self, topic: str, app_id: str) -> list[GroupStatus]:
        found = self._background.run(self.bus.inspect(topic))
        return [group for one in found for group in one.groups if group.app_id == app_id]

    def leave(self) -> None:
        """Close the connection; the group stays."""
        self._background.run(self.bus.__aexit__(None, None, None))


Connect = Callable[..., Reader]
