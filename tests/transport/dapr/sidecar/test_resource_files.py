"""`actorbus sidecar --resources-path` as a process: files that say what becomes of events."""

import json
import sys
from pathlib import Path
from urllib.request import Request, urlopen

from actorbus.testing import TestBroker
from tests.transport.dapr.sidecar.test_command_line import DEADLINE, free_port, sidecar

APP = """
import http.server, json, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, b"[]")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        events = [one["event"] for one in body["entries"]] if "entries" in body else [body]
        data = [event["data"] for event in events]
        attempts = events[0].get("deadletterattempts")
        token = self.headers["dapr-api-token"]
        print("got", json.dumps([self.path, data, attempts, token]), flush=True)
        self.answer(500 if self.path == "/fails" else 200, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Handler)
server.serve_forever()
"""

FILES = """\
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: orders}
spec:
  pubsubname: pubsub
  topic: orders
  deadLetterTopic: failed
  routes:
    rules:
    - match: event.data.n > 10
      path: /big
    default: /fails
---
apiVersion: dapr.io/v1alpha1
kind: Subscription
metadata: {name: failed}
spec: {pubsubname: pubsub, topic: failed, route: /failed}
---
apiVersion: dapr.io/v1alpha1
kind: Subscription
metadata: {name: many}
spec:
  pubsubname: pubsub
  topic: many
  route: /many
  bulkSubscribe: {enabled: true, maxMessagesCount: 2, maxAwaitDurationMs: 60000}
---
apiVersion: dapr.io/v1alpha1
kind: Subscription
metadata: {name: other}
spec: {pubsubname: pubsub, topic: payments, route: /other}
scopes: [someone-else]
---
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: policies}
spec:
  policies:
    retries:
      twice: {policy: constant, duration: 10ms, maxRetries: 2}
  targets: {components: {pubsub: {inbound: {retry: twice}}}}
"""


def publish(port: str, topic: str, data: object) -> None:
    url = f"http://127.0.0.1:{port}/v1.0/publish/pubsub/{topic}"
    request = Request(url, json.dumps(data).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=DEADLINE) as response:
        assert response.status == 204


def test_declared_subscriptions_rules_and_retries_reach_the_app(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(FILES)
    port = str(free_port())
    options = ("--app-id", "shop", "--app-port", port, "--resources-path", str(tmp_path))
    with (
        TestBroker() as broker,
        sidecar(
            *("--url", broker.url, *options, "--", sys.executable, "-c", APP),
            environment={"APP_API_TOKEN": "of the app"},
        ) as one,
    ):
        door = one.line("dapr http listening on ").rpartition(":")[2]
        assert one.line("actorbus sidecar of shop: ").endswith("subscriptions: 3")

        def got() -> list[object]:
            path, data, attempts, token = json.loads(one.line("got "))
            assert token == "of the app"
            return [path, data, attempts]

        publish(door, "orders", {"n": 11})
        assert got() == ["/big", [{"n": 11}], None]
        publish(door, "orders", {"n": 1})
        assert [got() for _ in range(3)] == [["/fails", [{"n": 1}], None]] * 3
        assert got() == ["/failed", [{"n": 1}], 3]
        publish(door, "many", 1)
        publish(door, "many", 2)
        assert got() == ["/many", [1, 2], None]


def test_what_is_written_after_the_start_does_not_count(tmp_path: Path) -> None:
    port = str(free_port())
    options = ("--app-id", "shop", "--app-port", port, "--resources-path", str(tmp_path))
    with (
        TestBroker() as broker,
        sidecar("--url", broker.url, *options, "--", sys.executable, "-c", APP) as one,
    ):
        door = one.line("dapr http listening on ").rpartition(":")[2]
        assert one.line("actorbus sidecar of shop: ").endswith("subscriptions: 0")
        (tmp_path / "all.yaml").write_text(FILES)
        with urlopen(f"http://127.0.0.1:{door}/v1.0/metadata", timeout=DEADLINE) as response:
            assert json.load(response)["subscriptions"] == []
