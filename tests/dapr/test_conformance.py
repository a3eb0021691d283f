"""The checks of Dapr's conformance suite for pub/sub components, over both APIs, on every store.

Dapr's own suite forgets the messages whose handler failed. Here they must come back.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from threading import Lock, Thread
from typing import Any

import pytest
from dapr.proto.runtime.v1 import pubsub_pb2 as pb

import actorbus
from tests.dapr.kit import DEADLINE, Background, House, Process, Reader, sidecar
from tests.dapr.streams import RETRY, SUCCESS, GrpcStream

COUNT = 10
BULK_COUNT = 11

Subscribe = Callable[[str], GrpcStream]


@pytest.fixture(scope="module", params=["memory", "sqlite", "rabbitmq"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store's URL."""
    if request.param == "rabbitmq":
        return str(request.getfixturevalue("rabbitmq_node").url())
    if request.param == "sqlite":
        return f"sqlite:{tmp_path_factory.mktemp('conformance')}/events.db"
    return "memory:"


@pytest.fixture(scope="module")
def component(store: str) -> Iterator[House]:
    """A broker on the store, whose door is one app's."""
    house = House(store, app_id="conformance")
    try:
        yield house.listening()
    finally:
        house.end()


@pytest.fixture
def subscribe(component: House) -> Iterator[Subscribe]:
    """Opens streams."""
    with ExitStack() as stack:

        def open_stream(topic: str) -> GrpcStream:
            stream = GrpcStream(component.grpc, topic)
            stack.callback(stream.cancel)
            return stream

        yield open_stream


@pytest.fixture
def observer(component: House, background: Background) -> Iterator[Reader]:
    """An app that only looks."""
    bus = actorbus.connect(component.url, app_id="observer")
    background.run(bus.__aenter__())
    reader = Reader(background, bus)
    yield reader
    reader.leave()


def numbers(count: int, name: str = "message") -> list[str]:
    return [f"{name} {number:03}" for number in range(count)]


def publish(house: House, topic: str, data: list[str]) -> None:
    """One by one, by HTTP and gRPC in turn."""
    for number, one in enumerate(data):
        if number % 2:
            house.publish(topic, one, "text/plain")
            continue
        request = pb.PublishEventRequest(
            pubsub_name="pubsub", topic=topic, data=one.encode(), data_content_type="text/plain"
        )
        house.stub.PublishEvent(request, timeout=DEADLINE)


def publish_bulk(house: House, topic: str, data: list[str]) -> None:
    """All in one call; none may fail."""
    entries = [
        pb.BulkPublishRequestEntry(entry_id=one, event=one.encode(), content_type="text/plain")
        for one in data
    ]
    request = pb.BulkPublishRequest(pubsub_name="pubsub", topic=topic, entries=entries)
    assert not house.stub.BulkPublishEvent(request, timeout=DEADLINE).failedEntries


def fails(number: int) -> bool:
    """The first two, and every fifth, as in Dapr's suite."""
    return number < 2 or (number + 1) % 5 == 0


def take_failing(stream: GrpcStream, count: int) -> list[str]:
    """Take until `count` events have succeeded, each failing first that must; all deliveries."""
    seen: Counter[str] = Counter()
    taken: list[str] = []
    succeeded = 0
    while succeeded < count:
        event = stream.event()
        data = event.data.decode()
        number = int(data.rpartition(" ")[2])
        failed = fails(number) and not seen[data]
        seen[data] += 1
        taken.append(data)
        succeeded += not failed
        stream.answer(event.id, RETRY if failed else SUCCESS)
    return taken


def test_init_the_component_is_there(component: House) -> None:
    metadata = json.loads(component.get("/v1.0/metadata")[1])
    (found,) = metadata["components"]
    assert found["name"] == "pubsub"
    assert found["type"].startswith("pubsub.")


def test_ping_the_component_is_well(component: House) -> None:
    assert component.get("/v1.0/healthz")[0] == 204
    assert component.get("/v1.0/healthz/outbound")[0] == 204


def test_subscribe_what_failed_comes_back(
    component: House, subscribe: Subscribe, observer: Reader, topic: str
) -> None:
    stream = subscribe(topic)
    data = numbers(COUNT)
    publish(component, topic, data)
    taken = Counter(take_failing(stream, COUNT))
    assert taken == Counter(data) + Counter(one for n, one in enumerate(data) if fails(n))
    observer.wait_until_settled(topic, "conformance")


def test_publish_each_succeeds_and_is_kept_for_who_is_away(
    component: House, subscribe: Subscribe, topic: str
) -> None:
    subscribe(topic).cancel()
    publish(component, topic, numbers(COUNT))
    stream = subscribe(topic)
    assert list(islice(stream.take(), COUNT)) == numbers(COUNT)
    assert stream.empty()


def test_bulk_publish_no_entry_fails(component: House, subscribe: Subscribe, topic: str) -> None:
    stream = subscribe(topic)
    publish_bulk(component, topic, numbers(COUNT))
    assert list(islice(stream.take(), COUNT)) == numbers(COUNT)


def test_read_everything_comes_in_order(component: House, subscribe: Subscribe, topic: str) -> None:
    stream = subscribe(topic)
    publish(component, topic, numbers(COUNT))
    publish_bulk(component, topic, numbers(COUNT, "bulk"))
    expected = numbers(COUNT) + numbers(COUNT, "bulk")
    assert list(islice(stream.take(), len(expected))) == expected
    assert stream.empty()


def test_multiple_handlers_each_gets_exactly_its_own(
    component: House, subscribe: Subscribe, topic: str
) -> None:
    topics = [f"{topic}-a", f"{topic}-b"]
    streams = [subscribe(name) for name in topics]
    for number in range(COUNT):
        for name in topics:
            publish(component, name, [f"{name} {number}"])
    for name, stream in zip(topics, streams, strict=True):
        expected = [f"{name} {number}" for number in range(COUNT)]
        assert list(islice(stream.take(), COUNT)) == expected
        assert stream.empty()


def test_stop_subscribers_the_others_go_on_and_nothing_is_lost(
    component: House, subscribe: Subscribe, observer: Reader, topic: str
) -> None:
    names = [f"{topic}-a", f"{topic}-b"]
    streams = {name: subscribe(name) for name in names}

    def play(part: str) -> None:
        """Publish to both; who is there gets exactly its own."""
        for name in names:
            publish(component, name, numbers(COUNT, part))
        for name, stream in streams.items():
            assert list(islice(stream.take(), COUNT)) == numbers(COUNT, part)
            observer.wait_until_settled(name, "conformance")
            assert stream.empty()

    play("both")
    streams.pop(names[0]).cancel()
    play("one")
    streams.pop(names[1]).cancel()
    play("none")
    missed = {names[0]: ["one", "none"], names[1]: ["none"]}
    for name, parts in missed.items():
        expected = [one for part in parts for one in numbers(COUNT, part)]
        assert list(islice(subscribe(name).take(), len(expected))) == expected


class BulkApp:
    """A plain HTTP app with one bulk subscription; the entries that must fail do so once."""

    def __init__(self, topic: str) -> None:
        self.taken: list[str] = []
        self.calls: list[int] = []
        self._seen: set[str] = set()
        self._lock = Lock()
        app = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                bulk = {"enabled": True, "maxMessagesCount": 5, "maxAwaitDurationMs": 500}
                entry = {"pubsubname": "pubsub", "topic": topic, "route": "/bulk"}
                self._answer([{**entry, "bulkSubscribe": bulk}])

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self._answer({"statuses": [app.take(one) for one in body["entries"]]})
                app.calls.append(len(body["entries"]))

            def _answer(self, value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def take(self, entry: dict[str, Any]) -> dict[str, str]:
        data = entry["event"]["data"]
        with self._lock:
            failed = fails(int(data.rpartition(" ")[2])) and data not in self._seen
            self._seen.add(data)
            self.taken.append(data)
        return {"entryId": entry["entryId"], "status": "RETRY" if failed else "SUCCESS"}

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def bulk_app(component: House, topic: str, observer: Reader) -> Iterator[BulkApp]:
    """The app behind a sidecar, subscribed."""
    app = BulkApp(topic)
    port = app.server.server_address[1]
    process = Process(sidecar(component, "bulk", "http", [], port=port), {})
    try:
        observer.wait_until_subscribed(topic, "bulk")
        yield app
    finally:
        process.end()
        app.end()


def test_bulk_subscribe_only_the_failed_entries_come_back(
    component: House, bulk_app: BulkApp, observer: Reader, topic: str
) -> None:
    data = numbers(BULK_COUNT)
    publish(component, topic, data)
    expected = Counter(data) + Counter(one for n, one in enumerate(data) if fails(n))
    observer.wait_until_settled(topic, "bulk", lambda: len(bulk_app.taken) >= expected.total())
    assert Counter(bulk_app.taken) == expected


def test_bulk_read_everything_comes_in_calls_of_at_most_five(
    component: House, bulk_app: BulkApp, observer: Reader, topic: str
) -> None:
    data = [f"message {number * 10 + 2}" for number in range(BULK_COUNT)]  # none of them fails
    publish_bulk(component, topic, data)
    observer.wait_until_settled(topic, "bulk", lambda: len(bulk_app.taken) >= BULK_COUNT)
    assert Counter(bulk_app.taken) == Counter(data)
    assert max(bulk_app.calls) <= 5
    assert len(bulk_app.calls) < BULK_COUNT
