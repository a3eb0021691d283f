"""Every row of Dapr's error table, in both its forms."""

import json

import pytest
from google.rpc import error_details_pb2

from transport.dapr import errors
from transport.dapr.errors import DaprError

ROWS = [
    (errors.not_configured(), 400, 9, "NOT_CONFIGURED", "NOT_CONFIGURED"),
    (errors.not_found("x"), 404, 3, "NOT_FOUND", "NOT_FOUND"),
    (errors.name_empty(), 404, 3, "EMPTY", "NAME_EMPTY"),
    (errors.topic_empty("pubsub"), 404, 3, "ERR_TOPIC_NAME_EMPTY", "TOPIC_NAME_EMPTY"),
    (errors.bad_metadata("pubsub", "why"), 400, 3, "REQUEST_METADATA", "METADATA_DESERIALIZATION"),
    (errors.no_cloud_event("pubsub", "t"), 500, 3, "CLOUD_EVENTS_SER", "CLOUD_EVENT_CREATION"),
    (errors.bad_envelope("pubsub", "t", "why"), 400, 3, "EVENTS_SER", "MARSHAL_ENVELOPE"),
    (errors.bad_entries("pubsub", "t", "why"), 400, 3, "EVENTS_SER", "MARSHAL_EVENTS"),
    (errors.no_entries("pubsub", "t", "why"), 400, 3, "EVENTS_SER", "UNMARSHAL_EVENTS"),
    (errors.forbidden("pubsub", "t", "why"), 403, 7, "FORBIDDEN", "FORBIDDEN"),
    (errors.publish_failed("pubsub", "t", "why"), 500, 13, "PUBLISH_MESSAGE", "PUBLISH_MESSAGE"),
]


def name_of(row: object) -> str:
    return row.condition.reason if isinstance(row, DaprError) else str(row)


@pytest.mark.parametrize(("error", "status", "grpc", "code", "reason"), ROWS, ids=name_of)
def test_a_row_has_daprs_codes(
    error: DaprError, status: int, grpc: int, code: str, reason: str
) -> None:
    assert error.condition.status == status
    assert error.condition.grpc == grpc
    assert error.condition.code == (code if code[:4] == "ERR_" else f"ERR_PUBSUB_{code}")
    assert error.condition.reason == f"DAPR_PUBSUB_{reason}"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.not_found("x"), "pubsub x is not found"),
        (errors.topic_empty("pubsub"), "topic is empty in pubsub pubsub"),
        (errors.name_empty(), "pubsub name is empty"),
        (errors.forbidden("p", "t", "topic t is not allowed"), "topic t is not allowed"),
        (errors.publish_failed("p", "t", "e"), "error when publishing to topic t in pubsub p: e"),
        (errors.no_cloud_event("p", "t"), "cannot create cloudevent"),
        (errors.bad_metadata("p", "e"), "failed deserializing metadata. Error: e"),
    ],
)
def test_messages_are_daprs(error: DaprError, message: str) -> None:
    assert error.message == message


def test_the_http_body_names_reason_and_resource() -> None:
    body = json.loads(errors.http_body(errors.topic_empty("pubsub")))
    assert body == {
        "errorCode": "ERR_TOPIC_NAME_EMPTY",
        "message": "topic is empty in pubsub pubsub",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "DAPR_PUBSUB_TOPIC_NAME_EMPTY",
                "domain": "dapr.io",
                "metadata": {},
            },
            {
                "@type": "type.googleapis.com/google.rpc.ResourceInfo",
                "resource_type": "pubsub",
                "resource_name": "pubsub",
                "owner": "",
                "description": "topic is empty in pubsub pubsub",
            },
        ],
    }


@pytest.mark.parametrize("error", [errors.not_found("x"), errors.not_configured()], ids=name_of)
def test_what_is_not_there_has_no_resource(error: DaprError) -> None:
    assert len(json.loads(errors.http_body(error))["details"]) == 1
    assert len(errors.grpc_status(error).details) == 1


def test_the_grpc_status_carries_the_same_details() -> None:
    status = errors.grpc_status(errors.publish_failed("pubsub", "orders", "why"))
    info, resource = error_details_pb2.ErrorInfo(), error_details_pb2.ResourceInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(resource)
    assert (status.code, info.domain) == (13, "dapr.io")
    assert dict(info.metadata) == {"topic": "orders", "error": "why"}
    assert (resource.resource_type, resource.resource_name) == ("pubsub", "pubsub")


def test_a_hostile_name_is_shortened() -> None:
    assert len(errors.not_found("x" * 10_000).message) < 100
    assert "\n" not in errors.not_found("a\nb").message
