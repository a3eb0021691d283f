"""`inspect`: what exists, and how it is; page by page."""

import pytest

from tests.protocol.harness import Player, Stage


def test_a_topic_with_two_groups(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        billing, stock = await stage.app("billing"), await stage.app("stock", max_in_flight=1)
        await billing.subscribe("orders")
        await stock.subscribe("orders")
        await billing.publish("orders", 1, 2, 3)
        await billing.ack(*(await billing.deliveries(2)))
        await stock.delivery()
        answer = await billing.ask("inspect", topic="orders")
        (topic,) = answer["topics"]
        for group in topic["groups"]:
            assert 0 <= group.pop("oldest_ms") < 5000
        assert answer["type"] == "inspected"
        assert "next" not in answer
        common = {"instances": 1, "redelivered": 0, "dead_lettered": 0, "dropped": 0}
        assert topic == {
            "topic": "orders",
            "published": 3,
            "groups": [
                {**common, "app_id": "billing", "backlog": 1, "in_flight": 1, "delivered": 3},
                {**common, "app_id": "stock", "backlog": 3, "in_flight": 1, "delivered": 1},
            ],
        }

    play_stores(script)


def test_pages_name_every_topic_once_in_order(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        names = sorted(f"topic-{number}" for number in range(25))
        for name in names:
            await peer.send("subscribe", topic=name)
        await peer.ask("subscribe", topic="topic-0")
        found: list[str] = []
        after: dict[str, str] = {}
        pages = 0
        while True:
            answer = await peer.ask("inspect", **after)
            found += [topic["topic"] for topic in answer["topics"]]
            pages += 1
            if "next" not in answer:
                break
            assert answer["next"] == found[-1]
            after = {"after": answer["next"]}
        assert (found, pages) == (names, 3)

    monkeypatch.setattr("actors.inspection.PAGE_TOPICS", 10)
    play(script)


def test_a_page_ends_after_so_many_groups(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(stage: Stage) -> None:
        for app_id in ("billing", "stock"):
            peer = await stage.app(app_id)
            for topic in ("a", "b", "c"):
                await peer.subscribe(topic)
        first = await peer.ask("inspect")
        assert [topic["topic"] for topic in first["topics"]] == ["a", "b"]
        rest = await peer.ask("inspect", after=first["next"])
        assert [topic["topic"] for topic in rest["topics"]] == ["c"]
        assert "next" not in rest

    monkeypatch.setattr("actors.inspection.PAGE_GROUPS", 3)
    play(script)


def test_a_topic_that_does_not_exist_is_not_created(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        for _ in range(2):
            answer = await peer.ask("inspect", topic="nothing")
            assert answer["topics"] == []
        assert (await peer.ask("inspect"))["topics"] == []

    play(script)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"topic": 5}, "malformed"),
        ({"topic": ""}, "invalid_name"),
        ({"after": 5}, "malformed"),
    ],
)
def test_a_wrong_inspect_gets_its_code(play: Player, fields: dict[str, object], code: str) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        assert (await peer.ask("inspect", **fields))["code"] == code

    play(script)


def test_any_after_is_taken(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        assert len((await peer.ask("inspect", after=""))["topics"]) == 1
        assert (await peer.ask("inspect", after="zzz \n"))["topics"] == []

    play(script)


def test_inspect_without_ref_is_not_answered(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.send("inspect")
        await peer.ask("inspect")
        assert not peer._waiting

    play(script)
