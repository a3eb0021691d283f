"""One broker for all SDKs, each app with an ID of its own that its token says."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count

import pytest

import actorbus
from tests.dapr.kit import (
    Background,
    Connect,
    House,
    Process,
    Publisher,
    Reader,
    Subscriber,
    end_all,
    javascript_app,
    missing_javascript,
    missing_python,
    python_app,
    sidecar,
)

SUBSCRIBERS = (
    "stream",
    "stream_aio",
    "push_fastapi",
    "push_flask",
    "push_grpc",
    "js_http",
    "js_grpc",
)

NEVER_FAIL = ("stream_aio", "js_http", "js_grpc")
"""The first goes deaf, to the other two an exception is a success."""

PUBLISHERS = ("python", "python-aio", "javascript-http", "javascript-grpc")

_numbers = count()


def need(missing: str | None) -> None:
    """Skip loudly; fail in CI."""
    if missing is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture
def topic() -> str:
    """A topic that no other test uses."""
    return f"topic-{next(_numbers)}"


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    background = Background()
    yield background
    background.end()


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    house = House()
    try:
        yield house.listening()
    finally:
        house.end()


@pytest.fixture
def reader(background: Background, house: House) -> Iterator[Connect]:
    """Makes apps on WebSocket."""
    with ExitStack() as stack:

        def connect(app_id: str = "py-reader") -> Reader:
            bus = actorbus.connect(house.url, app_id=app_id, token=house.token(app_id))
            background.run(bus.__aenter__())
            found = Reader(background, bus)
            stack.callback(found.leave)
            return found

        yield connect


@pytest.fixture(scope="session")
def apps(house: House) -> Iterator[Callable[..., Process]]:
    """Starts apps against the broker's own door; the same one for the same command."""
    running: dict[tuple[str, ...], Process] = {}

    def start(command: list[str], app_id: str) -> Process:
        key = (app_id, *command)
        if key not in running:
            running[key] = Process(command, house.environment(app_id), app_id)
            running[key].next("ready")
        return running[key]

    yield start
    end_all(running.values())


@pytest.fixture(params=PUBLISHERS)
def publisher(
    request: pytest.FixtureRequest, apps: Callable[..., Process], house: House
) -> Publisher:
    """An app with each of the SDKs' clients."""
    return make_publisher(request.param, apps, house)


def make_publisher(kind: str, apps: Callable[..., Process], house: House) -> Publisher:
    """An app with one of the SDKs' clients."""
    if kind == "python":
        need(missing_python())
        return Publisher(apps(python_app("publish"), "py-publish"))
    if kind == "python-aio":
        need(missing_python())
        return Publisher(apps(python_app("publish_aio"), "py-publish2"))
    need(missing_javascript())
    ports = house.environment("")
    if kind == "javascript-http":
        command = javascript_app("publish", "HTTP", ports["DAPR_HTTP_PORT"])
        return Publisher(apps(command, "js-publish"))
    command = javascript_app("publish", "GRPC", ports["DAPR_GRPC_PORT"])
    return Publisher(apps(command, "js-publish2"))


@pytest.fixture(scope="session")
def beside(house: House, background: Background) -> Iterator[Callable[..., Process]]:
    """Starts apps under a sidecar; the same one for the same app ID."""
    bus = actorbus.connect(house.url, app_id="plain", token=house.token("plain"))
    background.run(bus.__aenter__())
    watcher = Reader(background, bus)
    running: dict[str, Process] = {}

    def start(command: list[str], app_id: str, protocol: str | None) -> Process:
        if app_id not in running:
            running[app_id] = Process(
                sidecar(house, app_id, protocol, command), house.sidecar_environment(app_id), app_id
            )
            # the names of the apps that take by push; the last of their topics is subscribed last
            watcher.wait_until_subscribed(f"{command[-1]}-raw", app_id)
        return running[app_id]

    yield start
    end_all(running.values())
    watcher.leave()


@pytest.fixture(params=SUBSCRIBERS)
def subscriber(
    request: pytest.FixtureRequest, apps: Callable[..., Process], beside: Callable[..., Process]
) -> Subscriber:
    """An app with each of the SDKs' ways to subscribe."""
    found = make_subscriber(request.param, apps, beside)
    found.process.forget()
    return found


@pytest.fixture(params=[name for name in SUBSCRIBERS if name not in NEVER_FAIL])
def raising_subscriber(
    request: pytest.FixtureRequest, apps: Callable[..., Process], beside: Callable[..., Process]
) -> Subscriber:
    """Those whose handlers may fail with an exception, and go on."""
    return make_subscriber(request.param, apps, beside)


def make_subscriber(
    kind: str, apps: Callable[..., Process], beside: Callable[..., Process]
) -> Subscriber:
    """An app with one of the SDKs' ways to subscribe."""
    if kind == "stream":
        need(missing_python())
        return Subscriber(apps(python_app(kind, kind), "py-stream"), kind, sees_fields=True)
    if kind == "stream_aio":
        # the SDK's asynchronous client sends its token with single calls, not with streams
        need(missing_python())
        process = beside(python_app(kind, kind), "py-stream2", None)
    elif kind.startswith("push_"):
        need(missing_python())
        protocol = "grpc" if kind == "push_grpc" else "http"
        process = beside(python_app(kind, kind), f"py-{kind}", protocol)
    else:
        need(missing_javascript())
        protocol = kind.removeprefix("js_")
        process = beside(javascript_app("push", protocol.upper(), kind), f"js-{protocol}", protocol)
    return Subscriber(process, kind, sees_fields=not kind.startswith("js_"))
