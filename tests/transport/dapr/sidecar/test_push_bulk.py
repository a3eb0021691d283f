"""Several events in one call, on their way to an app that speaks HTTP."""

import asyncio
import itertools
from typing import Any

from tests.transport.dapr.sidecar.kit import Call, Stage, play
from tests.transport.dapr.sidecar.test_push_http import FAST


def bulk(most: int, await_ms: int, **fields: Any) -> dict[str, Any]:
    options = {"enabled": True, "maxMessagesCount": most, "maxAwaitDurationMs": await_ms}
    return {
        "pubsubname": "pubsub",
        "topic": "orders",
        "route": "/take",
        "bulkSubscribe": options,
        **fields,
    }


def answer(call: Call, *statuses: str) -> tuple[int, Any]:
    ids = [one["entryId"] for one in call.json["entries"]]
    said = itertools.cycle(statuses)
    return 200, {"statuses": [{"entryId": one, "status": next(said)} for one in ids]}


def data_of(call: Call) -> list[Any]:
    return [one["event"]["data"] for one in call.json["entries"]]


def test_a_call_is_made_when_it_is_full() -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app([bulk(5, 60_000)], lambda call: answer(call, "SUCCESS"))
        await stage.sidecar()
        await stage.publish(*range(10))
        assert data_of(await app.call()) == [0, 1, 2, 3, 4]
        assert data_of(await app.call()) == [5, 6, 7, 8, 9]
        assert (await stage.settled()).redelivered == 0

    play(script)


def test_a_call_is_made_when_its_first_event_has_waited() -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app([bulk(100, 300)], lambda call: answer(call, "SUCCESS"))
        await stage.sidecar()
        await stage.publish("a")
        await asyncio.sleep(0.05)
        await stage.publish("b")
        assert data_of(await app.call()) == ["a", "b"]
        assert (await stage.settled()).redelivered == 0

    play(script)


def test_each_event_is_settled_by_its_own_status() -> None:
    async def script(stage: Stage) -> None:
        first = [True]

        def handle(call: Call) -> tuple[int, Any]:
            statuses = ("SUCCESS", "RETRY", "DROP") if first else ("SUCCESS",)
            first.clear()
            return answer(call, *statuses)

        app = await stage.app([bulk(3, 50)], handle)
        await stage.sidecar(FAST)
        await stage.publish("fine", "again", "bad")
        assert data_of(await app.call()) == ["fine", "again", "bad"]
        assert data_of(await app.call()) == ["again"]
        group = await stage.settled()
        assert (group.redelivered, group.dropped) == (1, 1)

    play(script)


def test_one_call_for_each_route() -> None:
    rules = [{"match": "event.data > 10", "path": "/big"}]

    async def script(stage: Stage) -> None:
        app = await stage.app(
            [bulk(4, 60_000, routes={"rules": rules, "default": "/rest"})],
            lambda call: answer(call, "SUCCESS"),
        )
        await stage.sidecar()
        await stage.publish(11, 1, 12, 2)
        found = {call.path: data_of(call) for call in [await app.call(), await app.call()]}
        assert found == {"/big": [11, 12], "/rest": [1, 2]}
        await stage.settled()

    play(script)


def test_a_call_without_an_answer_leaves_the_others_alone() -> None:
    rules = [{"match": "event.data > 10", "path": "/big"}]

    async def script(stage: Stage) -> None:
        failing = [True]

        def handle(call: Call) -> tuple[int, Any]:
            if call.path == "/big" and failing:
                failing.clear()
                return 500, b""
            return answer(call, "SUCCESS")

        app = await stage.app([bulk(2, 60, routes={"rules": rules, "default": "/rest"})], handle)
        await stage.sidecar(FAST)
        await stage.publish(11, 1)
        calls = [await app.call() for _ in range(3)]
        assert [call.path for call in calls] == ["/big", "/rest", "/big"]
        assert (await stage.settled()).redelivered == 1

    play(script)


def test_an_orderly_stop_does_not_wait_for_a_call_to_fill() -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app([bulk(100, 60_000)], lambda call: answer(call, "SUCCESS"))
        sidecar = await stage.sidecar()
        await stage.publish("a")
        await asyncio.sleep(0.2)
        async with asyncio.timeout(2):
            await sidecar.drain()
        assert data_of(await app.call()) == ["a"]
        assert (await stage.settled()).redelivered == 0

    play(script)
