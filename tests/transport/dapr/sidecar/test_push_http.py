"""Events on their way to an app that speaks HTTP."""

import asyncio
import base64
import itertools
from typing import Any

import pytest

from tests.transport.dapr.sidecar.kit import Call, Reply, Stage, WebApp, play
from transport.dapr.resources.load import Resources
from transport.dapr.resources.resiliency import Resiliency
from transport.dapr.resources.routes import Routes
from transport.dapr.resources.subscription import Subscription
from transport.dapr.settling import Retries
from transport.dapr.sidecar import http_app, push

ORDERS = {"pubsubname": "pubsub", "topic": "orders", "route": "/take"}
DEAD = {**ORDERS, "deadLetterTopic": "dead"}
FAST = Resources(policies=(Resiliency({"pubsub": Retries(3, 0.01, 0.01)}, None),))
"""Failures come again at once, and are given up after three."""


def test_an_event_is_posted_as_dapr_does() -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app([ORDERS])
        await stage.sidecar(app_token="secret")
        bus = await stage.bus()
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        extensions = {"traceparent": parent, "tracestate": "a=b"}
        event_id = await bus.publish("orders", {"n": 1}, attributes=extensions)
        call = await app.call()
        assert (call.method, call.path) == ("POST", "/take")
        assert call.headers["content-type"] == "application/cloudevents+json"
        assert call.headers["pubsubname"] == "pubsub"
        assert call.headers["dapr-api-token"] == "secret"
        assert (call.headers["traceparent"], call.headers["tracestate"]) == (parent, "a=b")
        event = call.json
        assert {name: event[name] for name in ("id", "topic", "pubsubname", "data", "traceid")} == {
            "id": event_id,
            "topic": "orders",
            "pubsubname": "pubsub",
            "data": {"n": 1},
            "traceid": parent,
        }
        assert (await stage.settled()).redelivered == 0
        await app.idle()
        (asked,) = app.asked
        assert asked.method == "GET"
        assert asked.headers["dapr-api-token"] == "secret"

    play(script)


def test_every_event_is_posted_once() -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app(["orders"])
        await stage.sidecar()
        await stage.publish(*range(300))
        calls = [await app.call() for _ in range(300)]
        assert sorted(call.data for call in calls) == [*range(300)]
        assert {call.path for call in calls} == {"/orders"}
        group = await stage.settled()
        assert (group.delivered, group.redelivered) == (300, 0)

    play(script)


@pytest.mark.parametrize("failure", [(500, b""), (200, {"status": "RETRY"}), (302, b"")])
def test_a_failure_comes_again(failure: tuple[int, Any]) -> None:
    async def script(stage: Stage) -> None:
        answers = itertools.chain([failure, failure], itertools.repeat((200, b"null")))
        app = await stage.app([ORDERS], lambda _: next(answers))
        await stage.sidecar(FAST)
        await stage.publish("a")
        assert [(await app.call()).data for _ in range(3)] == ["a"] * 3
        assert (await stage.settled()).redelivered == 2
        await app.idle()

    play(script)


@pytest.mark.parametrize("answer", [(404, b""), (200, {"status": "DROP"})])
def test_a_drop_without_dead_letter_topic_is_the_end(answer: tuple[int, Any]) -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app([ORDERS], lambda _: answer)
        await stage.sidecar()
        await stage.publish("a")
        await app.call()
        assert (await stage.settled()).dropped == 1
        await app.idle()

    play(script)


@pytest.mark.parametrize("answer", [(404, b""), (200, {"status": "DROP"}), (500, b"")])
def test_without_a_retry_policy_any_failure_goes_to_the_dead_letter_topic(
    answer: tuple[int, Any],
) -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app([DEAD], lambda _: answer)
        await stage.sidecar()
        letters = await stage.stack.enter_async_context(
            (await stage.bus("undertaker")).subscribe("dead")
        )
        await stage.publish("a")
        letter = await anext(letters)
        assert letter.data == "a"
        assert letter.event["deadlettertopic"] == "orders"
        await app.call()
        await app.idle()

    play(script)


def test_with_a_retry_policy_it_goes_there_after_its_attempts() -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app([DEAD], lambda _: (500, b""))
        await stage.sidecar(FAST)
        letters = await stage.stack.enter_async_context(
            (await stage.bus("undertaker")).subscribe("dead")
        )
        await stage.publish("a")
        assert (await anext(letters)).event["deadletterattempts"] == 3
        assert app.calls.qsize() == 3

    play(script)


@pytest.mark.parametrize(
    ("route", "path"),
    [
        ("take", "/take"),
        ("//elsewhere.example/a", "/elsewhere.example/a"),
        ("/take?by=topic", "/take?by=topic"),
        ("/a b", "/a%20b"),
    ],
)
def test_a_route_is_a_path_of_this_app(route: str, path: str) -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app([{**ORDERS, "route": route}])
        await stage.sidecar()
        await stage.publish("a")
        assert (await app.call()).path == path.partition("?")[0]
        await stage.settled()

    play(script)


def test_an_answer_that_is_too_long_to_say_something_is_success() -> None:
    async def script(stage: Stage) -> None:
        long = b'{"status":"RETRY","why":"' + b"x" * http_app.ANSWER_BYTES + b'"}'
        app = await stage.app([ORDERS], lambda _: (200, long))
        await stage.sidecar()
        await stage.publish("a")
        assert (await stage.settled()).redelivered == 0
        assert app.calls.qsize() == 1

    play(script)


def test_rules_choose_the_route() -> None:
    rules = [{"match": "event.data.size > 10", "path": "/big"}]
    entry = {"pubsubname": "pubsub", "topic": "orders", "routes": {"rules": rules}}

    async def script(stage: Stage) -> None:
        app = await stage.app([entry])
        await stage.sidecar()
        await stage.publish({"size": 11}, {"size": 2})
        call = await app.call()
        assert (call.path, call.data) == ("/big", {"size": 11})
        group = await stage.settled()  # what no rule matches is none of the app's business
        assert (group.redelivered, group.dropped) == (0, 0)
        await app.idle()

    play(script)


def test_a_rule_that_fails_is_a_failure() -> None:
    rules = [{"match": "event.data.size > 10", "path": "/big"}]
    entry = {**DEAD, "routes": {"rules": rules, "default": "/rest"}}

    async def script(stage: Stage) -> None:
        app = await stage.app([entry])
        await stage.sidecar()
        await stage.publish({"no": "size"})
        group = await stage.settled()
        assert group.dead_lettered == 1
        await app.idle()

    entries = play(script)
    assert [one["event"] for one in entries].count("rule_failed") == 1


def test_a_raw_subscription_gets_the_wrapper() -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app([{**ORDERS, "metadata": {"rawPayload": "true"}}])
        await stage.sidecar()
        await stage.publish("a")
        event = (await app.call()).json
        assert event["datacontenttype"] == "application/octet-stream"
        assert b'"data":"a"' in base64.b64decode(event["data_base64"])

    play(script)


def test_files_add_what_the_app_does_not_say_and_it_wins() -> None:
    declared = (
        Subscription(component="pubsub", topic="orders", routes=Routes(default="/declared")),
        Subscription(component="pubsub", topic="refunds", routes=Routes(default="/declared")),
        Subscription(
            component="pubsub", topic="parcels", routes=Routes(default="/x"), scopes=("other",)
        ),
    )

    async def script(stage: Stage) -> None:
        app = await stage.app([ORDERS])
        await stage.sidecar(Resources(subscriptions=declared))
        assert stage.count == 2
        await stage.publish(1, topic="orders")
        assert (await app.call()).path == "/take"
        await stage.publish(2, topic="refunds")
        assert (await app.call()).path == "/declared"
        shown = stage.door.metadata.document("shop")["subscriptions"]
        assert [(one["topic"], one["type"]) for one in shown] == [
            ("orders", "PROGRAMMATIC"),
            ("refunds", "DECLARATIVE"),
        ]

    play(script)


@pytest.mark.parametrize("answer", [(404, b"no"), (200, b""), (200, [])])
def test_an_app_may_subscribe_to_nothing(answer: tuple[int, Any]) -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app(answer)
        await stage.sidecar()
        assert stage.count == 0
        assert len(app.asked) == 1

    play(script)


@pytest.mark.parametrize("answer", [(401, b""), (200, b"<html>")])
def test_an_answer_that_makes_no_sense_is_logged_and_names_nothing(answer: tuple[int, Any]) -> None:
    async def script(stage: Stage) -> None:
        await stage.app(answer)
        await stage.sidecar()
        assert stage.count == 0

    entries = play(script, errors=1)
    assert [one["event"] for one in entries if one["log_level"] == "error"] == [
        "subscription_left_out"
    ]


def test_an_app_that_is_not_ready_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.dapr.sidecar.subscriber.AGAIN", (0.01, 0.01))

    async def script(stage: Stage) -> None:
        app = await stage.app((503, b"starting"))
        await stage.sidecar()
        assert (stage.count, len(app.asked)) == (0, 4)

    play(script, errors=1)


def test_an_app_that_becomes_ready_is_subscribed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.dapr.sidecar.subscriber.AGAIN", (0.01, 0.01))

    class Starting(WebApp):
        """Answers 503 twice, then with its topics."""

        async def _answer(self, call: Call) -> Reply:
            if call.path == "/dapr/subscribe" and len(self.asked) == 2:
                self._subscriptions = ["orders"]
            return await super()._answer(call)

    async def script(stage: Stage) -> None:
        app = Starting((503, b"starting"), lambda _: (200, b""))
        stage.port = await stage.listen(app)
        stage.stack.push_async_callback(stage.unlisten)
        await stage.sidecar()
        assert (stage.count, len(app.asked)) == (1, 3)
        await stage.publish("late")
        assert (await app.call()).data == "late"

    play(script)


def test_what_the_broker_refuses_is_left_out_and_the_rest_is_not() -> None:
    loop = {"pubsubname": "pubsub", "topic": "t", "route": "/", "deadLetterTopic": "t"}
    unknown = {"pubsubname": "elsewhere", "topic": "t2", "route": "/"}

    async def script(stage: Stage) -> None:
        app = await stage.app([loop, unknown, ORDERS])
        await stage.sidecar()
        assert stage.count == 1
        await stage.publish("a")
        assert (await app.call()).data == "a"

    play(script, errors=2)


def test_an_app_gets_no_more_calls_at_a_time_than_it_takes() -> None:
    async def script(stage: Stage) -> None:
        async def slow(_: Call) -> tuple[int, bytes]:
            await asyncio.sleep(0.005)
            return 200, b""

        app = await stage.app(["orders", "refunds"], slow)
        await stage.sidecar(max_concurrency=2)
        await stage.publish(*range(20), topic="orders")
        await stage.publish(*range(20), topic="refunds")
        for _ in range(40):
            await app.call()
        assert app.most == 2
        for topic in ("orders", "refunds"):
            assert (await stage.settled(topic)).redelivered == 0

    play(script)


def test_without_a_limit_calls_are_parallel_as_far_as_the_window_goes() -> None:
    async def script(stage: Stage) -> None:
        release = asyncio.Event()

        async def wait(_: Call) -> tuple[int, bytes]:
            await release.wait()
            return 200, b""

        app = await stage.app(["orders"], wait)
        await stage.sidecar()
        await stage.publish(*range(push.WINDOW + 6))
        for _ in range(push.WINDOW):
            await app.call()
        await app.idle()
        release.set()
        for _ in range(6):
            await app.call()
        assert (await stage.settled()).redelivered == 0

    play(script)


def test_a_call_may_take_longer_than_the_groups_ack_wait() -> None:
    async def script(stage: Stage) -> None:
        async def slow(_: Call) -> tuple[int, bytes]:
            await asyncio.sleep(0.9)
            return 200, b""

        async with (await stage.bus("shop")).subscribe("orders", ack_wait=0.3):
            pass  # the group keeps its options
        app = await stage.app(["orders"], slow)
        await stage.sidecar(max_concurrency=1)
        await stage.publish("a")
        await app.call()
        assert (await stage.settled()).redelivered == 0
        await app.idle()

    play(script)


def test_events_go_on_over_a_restart_of_the_app() -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app([DEAD])
        await stage.sidecar()
        await stage.publish("before")
        await app.call()
        await stage.settled()
        await stage.unlisten()
        await stage.publish(*range(100))
        await asyncio.sleep(0.5)
        await stage.listen(app, stage.port)
        calls = [await app.call() for _ in range(100)]
        assert sorted(call.data for call in calls) == [*range(100)]
        group = await stage.settled()
        assert (group.redelivered, group.dead_lettered) == (0, 0)

    entries = play(script)
    events = [one["event"] for one in entries]
    assert (events.count("app_away"), events.count("app_back")) == (1, 1)


def test_an_app_that_is_away_for_long_leaves_its_events_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transport.dapr.sidecar.subscriber.HOLD_SECONDS", 0.1)

    async def script(stage: Stage) -> None:
        app = await stage.app(["orders"])
        await stage.sidecar(FAST)
        await stage.unlisten()
        await stage.publish(*range(3))
        other = await stage.stack.enter_async_context((await stage.bus("shop")).subscribe("orders"))
        taken = []
        for _ in range(3):
            delivery = await anext(other)
            taken.append(delivery.data)
            await delivery.ack()
        assert sorted(taken) == [0, 1, 2]
        assert app.calls.empty()

    play(script)


def test_a_call_without_an_answer_comes_again_and_is_not_dead_lettered_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transport.dapr.sidecar.http_app.HANDLING_SECONDS", 0.2)

    async def script(stage: Stage) -> None:
        async def hang_once(_: Call) -> tuple[int, bytes]:
            if app.calls.qsize() + seen < 2:
                await asyncio.Event().wait()
            return 200, b""

        seen = 0
        app = await stage.app([DEAD], hang_once)
        await stage.sidecar()
        await stage.publish("a")
        await app.call()
        seen = 1
        await app.call()
        group = await stage.settled()
        assert (group.redelivered, group.dead_lettered) == (1, 0)

    entries = play(script)
    assert [one["event"] for one in entries].count("app_gave_no_answer") == 1


def test_an_orderly_stop_finishes_what_the_app_has() -> None:
    async def script(stage: Stage) -> None:
        release = asyncio.Event()

        async def wait(_: Call) -> tuple[int, bytes]:
            await release.wait()
            return 200, b""

        app = await stage.app(["orders"], wait)
        sidecar = await stage.sidecar(max_concurrency=2)
        await stage.publish(*range(10))
        for _ in range(2):
            await app.call()
        draining = asyncio.create_task(sidecar.drain())
        await asyncio.sleep(0.1)
        assert not draining.done()
        release.set()
        await draining
        await sidecar.close()
        await app.idle()
        other = await stage.stack.enter_async_context((await stage.bus("shop")).subscribe("orders"))
        rest = [await anext(other) for _ in range(8)]
        assert [(one.data, one.attempt) for one in rest] == [(n, 1) for n in range(2, 10)]

    play(script)


def test_what_a_stop_breaks_off_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.dapr.sidecar.push.STOP_SECONDS", 0.1)

    async def script(stage: Stage) -> None:
        async def hang(_: Call) -> tuple[int, bytes]:
            await asyncio.Event().wait()
            return 200, b""

        app = await stage.app(["orders"], hang)
        sidecar = await stage.sidecar()
        await stage.publish("a")
        await app.call()
        await sidecar.drain()
        await sidecar.close()
        other = await stage.stack.enter_async_context((await stage.bus("shop")).subscribe("orders"))
        assert (await anext(other)).data == "a"

    play(script)


def test_two_instances_share_the_events() -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app(["orders"])
        await stage.sidecar()
        await stage.sidecar()
        await stage.publish(*range(50))
        calls = [await app.call() for _ in range(50)]
        assert sorted(call.data for call in calls) == [*range(50)]
        await stage.settled()
        await app.idle()

    play(script)
