"""Bulk publishing over Dapr's HTTP API."""

import base64
import json

import pytest

from tests.transport.dapr.harness import DoorPlayer, House

BULK = ("/v1.0/publish/bulk/pubsub/orders", "/v1.0-alpha1/publish/bulk/pubsub/orders")
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("path", BULK)
@pytest.mark.parametrize("name", ["entryId", "entryID"])
def test_a_bulk_publish_is_an_event_for_each_entry(play: DoorPlayer, path: str, name: str) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        entries = [
            {name: "1", "event": {"n": 1}, "contentType": "application/json"},
            {name: "2", "event": "two", "contentType": "text/plain"},
            {
                name: "3",
                "event": base64.b64encode(b"\x00\xff").decode(),
                "contentType": "application/octet-stream",
                "metadata": {"cloudevent.type": "third"},
            },
        ]
        query = "?metadata.cloudevent.type=all&metadata.cloudevent.subject=s"
        answer = await house.post(path + query, json.dumps(entries), traceparent=PARENT)
        assert (answer.status, answer.body) == (204, b"")
        events = [await reader.event() for _ in entries]
        assert [event["data"] for event in events] == [{"n": 1}, "two", b"\x00\xff"]
        assert [event["type"] for event in events] == ["all", "all", "third"]
        assert [event["subject"] for event in events] == ["s", "s", "s"]
        assert {event["traceparent"] for event in events} == {PARENT}

    play(script)


def test_an_empty_bulk_publish_succeeds(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        assert (await house.post(BULK[0], "[]")).status == 204

    play(script)


def test_each_failed_entry_is_told_and_the_others_are_published(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        own = "application/cloudevents+json"
        entries = [
            {"entryId": "good", "event": "1", "contentType": "text/plain"},
            {"entryId": "no map", "event": [], "contentType": own},
            {"entryId": "bad name", "event": {"Ext": "e", "data": 1}, "contentType": own},
            {"entryId": "long", "event": "x" * 1_100_000, "contentType": "text/plain"},
            {
                "entryId": "ttl",
                "event": "2",
                "contentType": "text/plain",
                "metadata": {"ttlInSeconds": "soon"},
            },
            {"entryId": "good too", "event": "3", "contentType": "text/plain"},
        ]
        answer = await house.post(BULK[0], json.dumps(entries))
        assert answer.status == 500
        assert answer.code == "ERR_PUBSUB_PUBLISH_MESSAGE"
        failed = answer.json()["failedEntries"]
        assert [one["entryId"] for one in failed] == ["no map", "bad name", "long", "ttl"]
        assert [one["entryID"] for one in failed] == ["no map", "bad name", "long", "ttl"]
        reasons = [one["error"] for one in failed]
        for reason, word in zip(reasons, ["cloudevent", "'Ext'", "1048576", "ttl"], strict=True):
            assert word in reason
        assert [(await reader.event())["data"] for _ in range(2)] == ["1", "3"]

    play(script)


def test_data_that_cant_be_encoded_fail_their_entry_alone(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        own = "application/cloudevents+json"
        entries = [
            {"entryId": "good", "event": "1", "contentType": "text/plain"},
            {"entryId": "deep", "event": {"data": json.loads("[" * 65 + "]" * 65)}}
            | {"contentType": own},
            {"entryId": "good too", "event": "2", "contentType": "text/plain"},
        ]
        answer = await house.post(BULK[0], json.dumps(entries))
        assert [one["entryId"] for one in answer.json()["failedEntries"]] == ["deep"]
        assert [(await reader.event())["data"] for _ in range(2)] == ["1", "2"]

    play(script)
