"""An app as its sidecar sees it, whatever it speaks."""

from collections.abc import Sequence
from typing import Final, Protocol

from actorbus.errors import ActorbusError
from transport.dapr.delivery import Envelope, Source
from transport.dapr.settling import Status
from transport.dapr.sidecar.bulk import Entry
from transport.dapr.sidecar.discovery import Discovered

HANDLING_SECONDS: Final = 600.0
"""How long an app may take for one call: Dapr waits for ever, RabbitMQ lets no lease live longer
than 20 minutes."""

CONNECT_SECONDS: Final = 5.0
"""How long it may take to connect to an app, which is on this machine or in this pod."""


class AppAwayError(ActorbusError):
    """The app does not listen: nothing was sent, and nobody is to blame."""


class NoAnswerError(ActorbusError):
    """The call was begun, and not answered: the connection broke, or its time was over."""


class App(Protocol):
    """What both kinds of apps can be asked."""

    async def subscriptions(self) -> Discovered:
        """What the app subscribes to.

        Raises:
            AppAwayError: it does not listen.
            NoAnswerError: it did not answer, or with an error of its own.
            DiscoveryError: a rule is no CEL.
        """

    async def push(self, found: Envelope, source: Source, path: str) -> Status:
        """Give the app one event.

        Raises:
            AppAwayError: it does not listen.
            NoAnswerError: it did not answer.
        """

    async def push_bulk(self, entries: Sequence[Entry], source: Source, path: str) -> list[Status]:
        """Give the app several events in one call; a status for each.

        Raises:
            AppAwayError: it does not listen.
            NoAnswerError: it did not answer.
        """

    async def close(self) -> None:
        """End the connections."""
