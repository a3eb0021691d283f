"""What an app's answer to an event means. Pure.

| answer | meaning |
|---|---|
| 2xx, body with `status` SUCCESS, RETRY or DROP | that |
| 2xx, no `status` (no body, `null`, not JSON…) | SUCCESS |
| 2xx, any other `status` | RETRY |
| 404; gRPC UNIMPLEMENTED | DROP: the app has no such route |
| anything else | RETRY |
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dapr.proto.runtime.v1.appcallback_pb2 import TopicEventBulkResponse, TopicEventResponse

from actorbus import json_text
from actorbus.errors import UndecodableError
from transport.dapr.settling import Status

NO_ROUTE: Final = 404

_NAMES: Final[Mapping[str, Status]] = {"SUCCESS": "SUCCESS", "RETRY": "RETRY", "DROP": "DROP"}
_NUMBERS: Final[Mapping[int, Status]] = {
    TopicEventResponse.SUCCESS: "SUCCESS",
    TopicEventResponse.RETRY: "RETRY",
    TopicEventResponse.DROP: "DROP",
}


def of_http(status: int, body: bytes) -> Status:
    """What an HTTP answer to one event means."""
    if not _accepted(status):
        return "DROP" if status == NO_ROUTE else "RETRY"
    said = _field(_json(body), "status")
    if not isinstance(said, str) or not said:
        return "SUCCESS"
    return _NAMES.get(said, "RETRY")


def of_grpc(answer: TopicEventResponse) -> Status:
    """What the answer of `OnTopicEvent` means."""
    return _NUMBERS.get(answer.status, "RETRY")


def of_http_bulk(status: int, body: bytes, entry_ids: Sequence[str]) -> list[Status]:
    """What an HTTP answer to several events means for each: those it does not name are retried."""
    if not _accepted(status):
        return ["DROP" if status == NO_ROUTE else "RETRY"] * len(entry_ids)
    listed = _field(_json(body), "statuses")
    said: dict[str, Status] = {}
    for one in listed if isinstance(listed, list) else []:
        entry_id, word = _field(one, "entryid"), _field(one, "status")
        if isinstance(entry_id, str) and isinstance(word, str):
            said[entry_id] = _NAMES.get(word, "RETRY")
    return [said.get(entry_id, "RETRY") for entry_id in entry_ids]


def of_grpc_bulk(answer: TopicEventBulkResponse, entry_ids: Sequence[str]) -> list[Status]:
    """What the answer of `OnBulkTopicEvent` means for each event."""
    said = {one.entry_id: _NUMBERS.get(one.status, "RETRY") for one in answer.statuses}
    return [said.get(entry_id, "RETRY") for entry_id in entry_ids]


def _accepted(status: int) -> bool:
    return 200 <= status < 300  # noqa: PLR2004 - RFC 9110, 15.3


def _json(body: bytes) -> Any:
    try:
        return json_text.loads(body)
    except UndecodableError:
        return None


def _field(value: Any, wanted: str) -> Any:
    """A field of a map, its name in any case, as Dapr's JSON reader has it."""
    if not isinstance(value, dict):
        return None
    if wanted in value:
        return value[wanted]
    return next((found for name, found in value.items() if name.lower() == wanted), None)
