"""`pubsub.rabbitmq` as a store's URL.

A file that was written for Dapr's component means to share topics and groups with apps that still
use it: messages are written in its format (`?interop=dapr`), unless the entry `interop` says
`none`.
"""

from typing import Final
from urllib.parse import quote as percent

from transport.dapr.resources.document import Document, Warn
from transport.dapr.resources.settings import Setting, Settings

ALWAYS: Final = {
    "durable": (True, "exchanges and queues are always durable"),
    "deletedWhenUnused": (False, "exchanges and queues are never deleted when unused"),
    "autoAck": (False, "events are always acknowledged after they were handled"),
    "requeueInFailure": (True, "what failed is always delivered again"),
    "publisherConfirm": (True, "publishes are always confirmed"),
    "enableDeadLetter": (False, "name deadLetterTopic in the subscription instead"),
}
"""Entry → what holds here whatever it says, and why."""

IGNORED: Final = {
    "reconnectWait": "the store has a back-off of its own",
    "reconnectWaitSeconds": "the store has a back-off of its own",
    "heartBeat": "heartbeats are every 10 s",
    "clientName": "connections are named actorbus",
    "maxLen": "queues are not bounded",
    "maxLenBytes": "queues are not bounded",
    "publishMessagePropertiesToMetadata": "AMQP properties are not passed on",
}
"""Entry → why it changes nothing."""

FILES: Final = ("caCert", "clientCert", "clientKey")
PERSISTENT: Final = 2


def rabbitmq_url(document: Document, settings: Settings, warn: Warn) -> str:
    """The store's URL.

    Raises:
        ResourceError: an entry that can't be honoured and must not be ignored.
    """
    _refuse(settings)
    _warn_of_differences(settings, warn)
    url = _address(document, settings)
    interop = settings.get("interop")
    if interop is not None and interop.text not in ("dapr", "none"):
        raise interop.error(f"must be dapr or none, not {interop.shown()}")
    if "interop=" in url.partition("?")[2] or (interop is not None and interop.text == "none"):
        return url
    return f"{url}{'&' if '?' in url else '?'}interop=dapr"


def _address(document: Document, settings: Settings) -> str:
    whole = settings.get("connectionString") or settings.get("host")
    parts = [settings.get(name) for name in ("protocol", "hostname", "port")]
    user, password = settings.get("username"), settings.get("password")
    if whole is not None:
        if not whole.text.startswith(("amqp://", "amqps://")):
            raise whole.error("must be an URL as amqp://USER:PASSWORD@HOST:PORT/VHOST")
        return whole.text
    protocol, host, port = ("" if part is None else part.text for part in parts)
    if not host:
        raise document.error("pubsub.rabbitmq needs connectionString or hostname in spec.metadata")
    if protocol not in ("", "amqp", "amqps"):
        raise document.error(f"protocol must be amqp or amqps, not {protocol[:40]!r}")
    return f"{protocol or 'amqp'}://{_login(user, password)}{host}{f':{port}' if port else ''}"


def _login(user: Setting | None, password: Setting | None) -> str:
    if user is None:
        return ""
    secret = "" if password is None else f":{percent(password.text, safe='')}"
    return f"{percent(user.text, safe='')}{secret}@"


def _refuse(settings: Settings) -> None:
    kind = settings.get("exchangeKind")
    if kind is not None and kind.text != "fanout":
        raise kind.error(f"must be fanout, not {kind.shown()}: every group gets every event")
    external = settings.get("saslExternal")
    if external is not None and external.boolean():
        raise external.error("is not supported: use a user and a password")
    for name in FILES:
        certificate = settings.get(name)
        if certificate is not None:
            raise certificate.error(
                "can't be given here: name files in connectionString, as in "
                "amqps://HOST?cafile=PATH&certfile=PATH&keyfile=PATH"
            )


def _warn_of_differences(settings: Settings, warn: Warn) -> None:
    for name, (always, reason) in ALWAYS.items():
        setting = settings.get(name)
        if setting is not None and setting.boolean() is not always:
            warn(setting.place, f"{setting.name}={setting.text} is ignored: {reason}")
    mode = settings.get("deliveryMode")
    if mode is not None and mode.integer(0, PERSISTENT) != PERSISTENT:
        warn(mode.place, f"deliveryMode={mode.text} is ignored: messages are always persistent")
    for name, reason in IGNORED.items():
        setting = settings.get(name)
        if setting is not None:
            warn(setting.place, f"{setting.name} is ignored: {reason}")
