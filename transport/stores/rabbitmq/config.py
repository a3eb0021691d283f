"""URLs of the store: `amqp://USER:PASSWORD@HOST:PORT/VHOST[?interop=dapr]`, and `amqps://`.

`amqps` also takes the files that aiormq knows: `cafile`, `certfile` and `keyfile`.
"""

from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import msgspec

from actorbus.errors import StoreUnusableError
from transport.stores.rabbitmq.calls import CALL_SECONDS

HEARTBEAT_SECONDS: Final = 10
"""A dead peer is noticed after 3 x (heartbeat + 1) s; aiormq's default is 60, so 3 minutes."""

_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_FILES: Final = ("cafile", "certfile", "keyfile")


class Config(msgspec.Struct, frozen=True):
    """Where RabbitMQ is and which message format is written.

    Attributes:
        url: for aio-pika, with the password: never to be shown.
        address: HOST:PORT, for messages.
        interop: write what Dapr's `pubsub.rabbitmq` reads, and share its queues.
    """

    url: str
    address: str
    interop: bool = False

    def __repr__(self) -> str:
        return f"Config(address={self.address!r}, interop={self.interop})"

    def named(self, role: str) -> str:
        """The URL of a connection that RabbitMQ lists as `actorbus ROLE`."""
        parameters = urlencode({"heartbeat": HEARTBEAT_SECONDS, "name": f"actorbus {role}"})
        return f"{self.url}{'&' if '?' in self.url else '?'}{parameters}"


class Timing(msgspec.Struct, frozen=True):
    """Times that tests shorten.

    Attributes:
        sync_seconds: how long after its creation a queue may not be relied upon: Ra writes down
            which queues a node has when that has not changed for half a second, checked twice a
            second. A node that is killed before (measured: up to 0.9 s) has lost the queue.
        delay_ms: how long the delay queue keeps a message; one that is still early goes round
            once more. One time for all messages: a queue expires only what is at its head, so
            mixed times would wait for one another.
        aged_seconds: from this age on a message's failed events move even while others of it are
            unsettled. With leases that end 20 minutes after delivery this keeps every message
            under RabbitMQ's consumer timeout of 30 minutes.
        watch_seconds: how often the ages are looked at.
        patrol_seconds: the pause between two rounds over all groups, to find queues and bindings
            that an operator has deleted.
        confirm_seconds: how long a publish waits for its confirms (`calls.CALL_SECONDS`).
        probe_seconds: after a publish without confirm, how often one is tried that goes nowhere.
    """

    sync_seconds: float = 1.5
    delay_ms: int = 5_000
    aged_seconds: float = 300.0
    watch_seconds: float = 30.0
    patrol_seconds: float = 15.0
    confirm_seconds: float = CALL_SECONDS
    probe_seconds: float = 1.0


def parse(url: str) -> Config:
    """Take apart the store's URL.

    Raises:
        StoreUnusableError: a URL that can never work. The message doesn't repeat it, since it may
            hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError as error:
        raise StoreUnusableError(f"the rabbitmq url has a bad host or port: {error}") from None
    _check_parts(parts)
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    interop = _interop(parameters.pop("interop", None))
    _check_files(parts.scheme, parameters)
    base = parts._replace(query=urlencode(parameters)).geturl()
    return Config(base, f"{parts.hostname}:{port}", interop)


def _check_parts(parts: SplitResult) -> None:
    if parts.scheme not in _PORTS:
        raise StoreUnusableError(f"unknown scheme {parts.scheme[:32]!r}: use amqp or amqps")
    if not parts.hostname:
        raise StoreUnusableError(
            "the rabbitmq url has no host: use amqp://USER:PASSWORD@HOST/VHOST"
        )
    if parts.fragment:
        raise StoreUnusableError("the rabbitmq url holds a '#': write it as %23")


def _interop(value: str | None) -> bool:
    if value not in (None, "dapr"):
        raise StoreUnusableError(f"interop={value[:32]} is unknown: use interop=dapr")
    return value is not None


def _check_files(scheme: str, parameters: dict[str, str]) -> None:
    known = _FILES if scheme == "amqps" else ()
    for name, value in parameters.items():
        if name not in known:
            options = ", ".join(("interop", *known))
            raise StoreUnusableError(
                f"unknown parameter {name[:32]!r} in an {scheme} url: use {options}"
            )
        if not Path(value).is_file():
            raise StoreUnusableError(f"{name}={value} is no file")
