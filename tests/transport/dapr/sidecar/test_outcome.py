"""What answers mean."""

import json
from typing import Any

import pytest
from dapr.proto.runtime.v1.appcallback_pb2 import (
    TopicEventBulkResponse,
    TopicEventBulkResponseEntry,
    TopicEventResponse,
)

from transport.dapr.sidecar import outcome


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b"done",
        b"\xff",
        b'{"status":""}',
        b'{"status":null}',
        b'{"status":7}',
        b'["RETRY"]',
        b'"RETRY"',
        b'{"status":"SUCCESS"}',
    ],
)
@pytest.mark.parametrize("status", [200, 204, 299])
def test_an_answer_without_a_status_is_success(status: int, body: bytes) -> None:
    assert outcome.of_http(status, body) == "SUCCESS"


@pytest.mark.parametrize(
    ("body", "meaning"),
    [
        (b'{"status":"RETRY"}', "RETRY"),
        (b'{"status":"DROP"}', "DROP"),
        (b'{"Status":"DROP"}', "DROP"),
        (b'{"status":"ok"}', "RETRY"),
        (b'{"status":"success"}', "RETRY"),
    ],
)
def test_the_status_of_the_body_counts_and_an_unknown_one_is_retry(
    body: bytes, meaning: str
) -> None:
    assert outcome.of_http(200, body) == meaning


def test_404_is_drop_whatever_the_body() -> None:
    assert outcome.of_http(404, b'{"status":"SUCCESS"}') == "DROP"


@pytest.mark.parametrize("status", [199, 300, 302, 400, 401, 410, 422, 429, 500, 503])
def test_any_other_code_is_retry_whatever_the_body(status: int) -> None:
    assert outcome.of_http(status, b'{"status":"SUCCESS"}') == "RETRY"


@pytest.mark.parametrize(("number", "meaning"), [(0, "SUCCESS"), (1, "RETRY"), (2, "DROP")])
def test_grpc_statuses(number: Any, meaning: str) -> None:
    assert outcome.of_grpc(TopicEventResponse(status=number)) == meaning


def test_an_unknown_grpc_status_is_retry() -> None:
    unknown: Any = 9
    assert outcome.of_grpc(TopicEventResponse(status=unknown)) == "RETRY"


def bulk(*statuses: Any) -> list[str]:
    body = json.dumps({"statuses": list(statuses)}).encode()
    return list(outcome.of_http_bulk(200, body, ["a", "b"]))


def test_a_bulk_answer_names_each_entry() -> None:
    assert bulk({"entryId": "b", "status": "DROP"}, {"entryID": "a", "status": "SUCCESS"}) == [
        "SUCCESS",
        "DROP",
    ]


@pytest.mark.parametrize(
    "statuses",
    [
        [],
        [{"entryId": "a"}],
        [{"entryId": "a", "status": ""}],
        [{"entryId": "a", "status": "done"}],
        [{"entryId": "z", "status": "SUCCESS"}],
        ["a", 7, None],
    ],
)
def test_what_a_bulk_answer_does_not_settle_is_retried(statuses: list[Any]) -> None:
    assert bulk(*statuses) == ["RETRY", "RETRY"]


@pytest.mark.parametrize("body", [b"", b"null", b"no", b"[]", b'{"statuses":7}'])
def test_a_bulk_answer_that_is_none_is_retry_for_all(body: bytes) -> None:
    assert outcome.of_http_bulk(200, body, ["a", "b"]) == ["RETRY", "RETRY"]


@pytest.mark.parametrize(("status", "meaning"), [(404, "DROP"), (500, "RETRY"), (302, "RETRY")])
def test_a_bulk_answer_with_a_code_is_the_same_for_all(status: int, meaning: str) -> None:
    assert outcome.of_http_bulk(status, b"{}", ["a", "b"]) == [meaning, meaning]


def test_a_grpc_bulk_answer_names_each_entry() -> None:
    answer = TopicEventBulkResponse(
        statuses=[TopicEventBulkResponseEntry(entry_id="b", status=TopicEventResponse.DROP)]
    )
    assert outcome.of_grpc_bulk(answer, ["a", "b"]) == ["RETRY", "DROP"]
