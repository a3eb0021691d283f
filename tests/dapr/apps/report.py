"""What all Python apps here share: they report in lines of JSON, and do as an event's data say.

An event's data may be a map with a `key` and `answers`: what the app answers the first time it
sees the key, the second time, and so on; SUCCESS after that.
"""

import base64
import json
import sys
from collections import Counter
from typing import Any

_seen: Counter[str] = Counter()


def say(**fields: Any) -> None:
    """One line of the report."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def parsed(data: bytes) -> Any:
    """JSON, else text, else base64 in a map."""
    try:
        return json.loads(data)
    except ValueError:
        pass
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def take(topic: str, data: Any, event: dict[str, Any]) -> str:
    """Report an event that has come to a topic's handler; what to answer.

    Raises:
        RuntimeError: the event says so.
    """
    answer = "SUCCESS"
    if isinstance(data, dict) and "key" in data:
        answers = data.get("answers", [])
        times = _seen[data["key"]]
        _seen[data["key"]] += 1
        answer = answers[times] if times < len(answers) else "SUCCESS"
    say(topic=topic, data=data, event=event)
    if answer == "RAISE":
        raise RuntimeError("as the event says")
    return answer


def take_envelope(topic: str, event: dict[str, Any]) -> str:
    """The same, for an event in JSON."""
    if "data_base64" in event:
        return take(topic, parsed(base64.b64decode(event["data_base64"])), event)
    return take(topic, event.get("data"), event)


def take_message(topic: str, message: Any) -> str:
    """The same, for the message of a stream or of gRPC's app callback."""
    event = {
        "id": message.id(),
        "source": message.source(),
        "type": message.type(),
        "specversion": message.spec_version(),
        "datacontenttype": message.data_content_type(),
        "sdk_data": message.data(),
        **message.extensions(),
    }
    return take(topic, parsed(message.raw_data()), event)
