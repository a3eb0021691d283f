"""Orders of the tests as arguments of the Python SDK's calls."""

import base64
from typing import Any


def _data(value: Any) -> str | bytes:
    if isinstance(value, dict) and "base64" in value:
        return base64.b64decode(value["base64"])
    assert isinstance(value, str)
    return value


def publish_arguments(order: dict[str, Any]) -> dict[str, Any]:
    """Of `publish_event` or `publish_events`."""
    many = order["do"] == "bulk"
    return {
        "pubsub_name": order.get("component", "pubsub"),
        "topic_name": order["topic"],
        "data": [_data(one) for one in order["data"]] if many else _data(order["data"]),
        "data_content_type": order.get("content_type"),
        "publish_metadata": order.get("metadata", {}),
    }


def refused(error: Any) -> dict[str, Any]:
    """A DaprGrpcError, whose methods have no types, for the report."""
    return {"code": error.code().name, "reason": error.error_code(), "message": error.details()}
