"""Dapr's error table: each condition with its HTTP and gRPC form (docs/dapr.md, errors).

HTTP bodies are `{"errorCode", "message", "details"}`; gRPC carries the same details as
`google.rpc.Status`. Names of codes and reasons are Dapr's own.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from actorbus.errors import ActorbusError
from actorbus.quote import quote

DOMAIN: Final = "dapr.io"
_TYPES: Final = "type.googleapis.com/google.rpc."
_INVALID_ARGUMENT: Final = 3
_PERMISSION_DENIED: Final = 7
_RESOURCE_EXHAUSTED: Final = 8
_FAILED_PRECONDITION: Final = 9
_INTERNAL: Final = 13


class Condition(msgspec.Struct, frozen=True):
    """One row of the table.

    Attributes:
        status: of HTTP.
        grpc: number of the gRPC code.
        code: `errorCode` of the HTTP body.
        reason: of the ErrorInfo.
        resource: whether a ResourceInfo names the component.
    """

    status: int
    grpc: int
    code: str
    reason: str
    resource: bool = True


NOT_CONFIGURED: Final = Condition(
    400,
    _FAILED_PRECONDITION,
    "ERR_PUBSUB_NOT_CONFIGURED",
    "DAPR_PUBSUB_NOT_CONFIGURED",
    resource=False,
)
NOT_FOUND: Final = Condition(
    404, _INVALID_ARGUMENT, "ERR_PUBSUB_NOT_FOUND", "DAPR_PUBSUB_NOT_FOUND", resource=False
)
NAME_EMPTY: Final = Condition(404, _INVALID_ARGUMENT, "ERR_PUBSUB_EMPTY", "DAPR_PUBSUB_NAME_EMPTY")
TOPIC_EMPTY: Final = Condition(
    404, _INVALID_ARGUMENT, "ERR_TOPIC_NAME_EMPTY", "DAPR_PUBSUB_TOPIC_NAME_EMPTY"
)
METADATA: Final = Condition(
    400,
    _INVALID_ARGUMENT,
    "ERR_PUBSUB_REQUEST_METADATA",
    "DAPR_PUBSUB_METADATA_DESERIALIZATION",
)
CLOUD_EVENT: Final = Condition(
    500, _INVALID_ARGUMENT, "ERR_PUBSUB_CLOUD_EVENTS_SER", "DAPR_PUBSUB_CLOUD_EVENT_CREATION"
)
MARSHAL_ENVELOPE: Final = Condition(
    400, _INVALID_ARGUMENT, "ERR_PUBSUB_EVENTS_SER", "DAPR_PUBSUB_MARSHAL_ENVELOPE"
)
MARSHAL_EVENTS: Final = Condition(
    400, _INVALID_ARGUMENT, "ERR_PUBSUB_EVENTS_SER", "DAPR_PUBSUB_MARSHAL_EVENTS"
)
UNMARSHAL_EVENTS: Final = Condition(
    400, _INVALID_ARGUMENT, "ERR_PUBSUB_EVENTS_SER", "DAPR_PUBSUB_UNMARSHAL_EVENTS"
)
FORBIDDEN: Final = Condition(
    403, _PERMISSION_DENIED, "ERR_PUBSUB_FORBIDDEN", "DAPR_PUBSUB_FORBIDDEN"
)
PUBLISH: Final = Condition(
    500, _INTERNAL, "ERR_PUBSUB_PUBLISH_MESSAGE", "DAPR_PUBSUB_PUBLISH_MESSAGE"
)
NOT_A_TOPIC: Final = Condition(
    400, _INVALID_ARGUMENT, "ERR_PUBSUB_PUBLISH_MESSAGE", "DAPR_PUBSUB_PUBLISH_MESSAGE"
)
"""Ours: a name that no topic of this broker can have. Dapr takes any text."""
TOO_LARGE: Final = Condition(
    413, _RESOURCE_EXHAUSTED, "ERR_BODY_READ", "DAPR_PUBSUB_MESSAGE_TOO_LARGE"
)
"""Ours: Dapr cuts the connection, or lets the component fail."""


class DaprError(ActorbusError):
    """A call of the Dapr APIs that is answered with an error.

    Attributes:
        condition: the row of the table.
        component: the ResourceInfo's name.
        info: the ErrorInfo's metadata.
    """

    def __init__(
        self,
        condition: Condition,
        message: str,
        *,
        component: str = "",
        info: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.condition = condition
        self.component = component
        self.info = dict(info or {})


def not_configured() -> DaprError:
    """The door has no component at all, or none that a call without a name could mean."""
    return DaprError(NOT_CONFIGURED, "pubsub is not configured")


def not_found(component: str) -> DaprError:
    """No component has this name."""
    return DaprError(NOT_FOUND, f"pubsub {_shown(component)} is not found")


def name_empty() -> DaprError:
    """A call without the name of a component."""
    return DaprError(NAME_EMPTY, "pubsub name is empty")


def topic_empty(component: str) -> DaprError:
    """A call without a topic."""
    return DaprError(TOPIC_EMPTY, f"topic is empty in pubsub {component}", component=component)


def bad_metadata(component: str, reason: str) -> DaprError:
    """A value of the request's metadata can't be read."""
    return DaprError(
        METADATA, f"failed deserializing metadata. Error: {reason}", component=component
    )


def no_cloud_event(component: str, topic: str) -> DaprError:
    """A body of type application/cloudevents+json is no JSON map."""
    return DaprError(
        CLOUD_EVENT, "cannot create cloudevent", component=component, info={"topic": topic}
    )


def bad_envelope(component: str, topic: str, reason: str) -> DaprError:
    """The data or an attribute can't become an event."""
    return DaprError(
        MARSHAL_ENVELOPE,
        f"error marshaling cloud events envelope for topic {topic} pubsub {component}: {reason}",
        component=component,
        info={"topic": topic, "error": reason},
    )


def bad_entries(component: str, topic: str, reason: str) -> DaprError:
    """Entries of a bulk publish without an id, or two with the same."""
    return DaprError(
        MARSHAL_EVENTS,
        f"error marshaling events to bytes for topic {topic} pubsub {component}. error: {reason}",
        component=component,
        info={"topic": topic, "error": reason},
    )


def no_entries(component: str, topic: str, reason: str) -> DaprError:
    """The body of a bulk publish is no array of entries."""
    return DaprError(
        UNMARSHAL_EVENTS,
        f"error when unmarshaling the request for topic {topic} pubsub {component}: {reason}",
        component=component,
        info={"topic": topic, "error": reason},
    )


def forbidden(component: str, topic: str, reason: str) -> DaprError:
    """Scopes forbid it; the broker's reason says it as Dapr does."""
    return DaprError(
        FORBIDDEN,
        reason,
        component=component,
        info={"topic": topic, "error": reason},
    )


def publish_failed(
    component: str, topic: str, reason: str, condition: Condition = PUBLISH
) -> DaprError:
    """The broker did not take the event."""
    return DaprError(
        condition,
        f"error when publishing to topic {_shown(topic)} in pubsub {component}: {reason}",
        component=component,
        info={"topic": _shown(topic), "error": reason},
    )


def too_large(component: str, reason: str) -> DaprError:
    """The body or the event is longer than the limit."""
    return DaprError(TOO_LARGE, reason, component=component, info={"error": reason})


def http_body(error: DaprError) -> bytes:
    """The JSON of the HTTP answer."""
    return orjson.dumps(
        {
            "errorCode": error.condition.code,
            "message": error.message,
            "details": [{"@type": _TYPES + name} | fields for name, fields in _details(error)],
        }
    )


def grpc_status(error: DaprError) -> status_pb2.Status:
    """The status of the gRPC answer, for `grpc-status-details-bin`."""
    status = status_pb2.Status(code=error.condition.grpc, message=error.message)
    for name, fields in _details(error):
        message = getattr(error_details_pb2, name)(**fields)
        packed = AnyMessage()
        packed.Pack(message)
        status.details.append(packed)
    return status


def _details(error: DaprError) -> list[tuple[str, dict[str, Any]]]:
    info = {"reason": error.condition.reason, "domain": DOMAIN, "metadata": error.info}
    if not error.condition.resource:
        return [("ErrorInfo", info)]
    resource = {
        "resource_type": "pubsub",
        "resource_name": error.component,
        "owner": "",
        "description": error.message,
    }
    return [("ErrorInfo", info), ("ResourceInfo", resource)]


def _shown(name: str) -> str:
    """A name from outside: as it is, unless it is long or not printable."""
    longest = 120
    return name if len(name) <= longest and name.isprintable() else quote(name)
