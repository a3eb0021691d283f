"""Several events in one call to the app (`bulkSubscribe`). Pure."""

import base64
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from dapr.proto.runtime.v1.appcallback_pb2 import (
    TopicEventBulkRequest,
    TopicEventBulkRequestEntry,
    TopicEventCERequest,
)

from transport.dapr import delivery
from transport.dapr.delivery import Envelope, Source
from transport.dapr.envelope import BINARY, CLOUD_EVENT

TYPE: Final = "com.dapr.event.sent.bulk"

CALL_BYTES: Final = 3 * 1024 * 1024
"""Bytes of events in one call: servers commonly take 4 MiB, gRPC's among them."""


class Entry(msgspec.Struct, frozen=True):
    """One event of a call.

    Attributes:
        entry_id: what the app's answer names it by.
        found: the envelope.
        body: the same, as JSON.
    """

    entry_id: str
    found: Envelope
    body: bytes


def entry(found: Envelope) -> Entry:
    """An entry for an envelope, with an id of its own."""
    return Entry(str(uuid.uuid4()), found, delivery.http_body(found))


def split(entries: Sequence[Entry], most: int = CALL_BYTES) -> Iterator[list[int]]:
    """Divide entries into calls of at most so many bytes, in order; the indexes of each call.

    One that is larger by itself is alone in its call.
    """
    call: list[int] = []
    size = 0
    for index, one in enumerate(entries):
        if call and size + len(one.body) > most:
            yield call
            call, size = [], 0
        call.append(index)
        size += len(one.body)
    if call:
        yield call


def http_body(entries: Sequence[Entry], source: Source) -> bytes:
    """The body of the POST."""
    return msgspec.json.encode(
        {
            "id": str(uuid.uuid4()),
            "type": TYPE,
            "topic": source.topic,
            "pubsubname": source.component,
            "metadata": {},
            "entries": [_http_entry(one, source) for one in entries],
        }
    )


def _http_entry(one: Entry, source: Source) -> dict[str, Any]:
    return {
        "entryId": one.entry_id,
        "event": one.found["data_base64"] if source.raw else msgspec.Raw(one.body),
        "contentType": BINARY if source.raw else CLOUD_EVENT,
        "metadata": {},
    }


def grpc_request(entries: Sequence[Entry], source: Source, path: str) -> TopicEventBulkRequest:
    """The request of `OnBulkTopicEvent`."""
    return TopicEventBulkRequest(
        id=str(uuid.uuid4()),
        type=TYPE,
        topic=source.topic,
        pubsub_name=source.component,
        path=path,
        entries=[_grpc_entry(one, source, path) for one in entries],
    )


def _grpc_entry(one: Entry, source: Source, path: str) -> TopicEventBulkRequestEntry:
    if source.raw:
        return TopicEventBulkRequestEntry(
            entry_id=one.entry_id,
            content_type=BINARY,
            bytes=base64.b64decode(one.found["data_base64"]),
        )
    single = delivery.topic_event(one.found, source, path)
    return TopicEventBulkRequestEntry(
        entry_id=one.entry_id,
        content_type=CLOUD_EVENT,
        cloud_event=TopicEventCERequest(
            id=single.id,
            source=single.source,
            type=single.type,
            spec_version=single.spec_version,
            data_content_type=single.data_content_type,
            data=single.data,
            extensions=single.extensions,
        ),
    )
