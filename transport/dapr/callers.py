"""Who is calling: the app ID behind a call of the Dapr APIs."""

from actorbus.errors import ActorbusError, RefusedError
from transport.dapr.config import DoorConfig

INVALID_TOKEN = "invalid api token"  # noqa: S105 - Dapr's own words for a wrong token


class NotAllowedError(ActorbusError):
    """The call's `dapr-api-token` is wrong or missing: HTTP 401, gRPC UNAUTHENTICATED."""

    def __init__(self) -> None:
        super().__init__(INVALID_TOKEN)


class Callers:
    """Tells callers apart by their tokens, or knows that there is only one.

    Raises:
        ValueError: the configuration has neither tokens nor an app ID.
    """

    def __init__(self, config: DoorConfig) -> None:
        self._tokens = config.tokens
        self._app_id = config.app_id or ""
        if self._tokens is None and not self._app_id:
            raise ValueError("a door needs tokens or an app ID")

    @property
    def sole(self) -> str:
        """The app ID of every call; "" where tokens tell several apps apart."""
        return self._app_id

    def app_id(self, token: str | None) -> str:
        """The app ID of a call with this `dapr-api-token`.

        Raises:
            NotAllowedError: tokens are asked for, and this is none of them.
        """
        if self._tokens is None:
            return self._app_id
        try:
            return self._tokens.app_of(token)
        except RefusedError:
            raise NotAllowedError from None
