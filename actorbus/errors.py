"""What can go wrong, on two axes: who is at fault, and a stable code for the wire.

    ActorbusError
    ├── RefusedError            what was asked is wrong; asking again is no use
    │   ├── InvalidEventError   an event breaks a rule of CloudEvents or of the protocol
    │   └── MalformedError      a frame breaks a rule of the protocol
    ├── UnavailableError        the broker can't now; ask again
    ├── UndecodableError        bytes that are no frame (the connection ends with 1007)
    ├── ConnectionLostError     the connection ended and will not come back
    └── StoreError              raised by stores (`actorbus.store`)
        ├── StoreUnavailableError   a passing fault: publishers get `store_unavailable`
        └── StoreUnusableError      it can't be opened or must not be used any more

Messages are lower case, without a full stop, and name the value that is wrong.
"""

from enum import StrEnum
from typing import Final

Ref = str | int | None


class ErrorCode(StrEnum):
    """The stable codes of the `error` frame (protocol: error codes)."""

    MALFORMED = "malformed"
    UNKNOWN_TYPE = "unknown_type"
    NOT_HELLO = "not_hello"
    HELLO_TIMEOUT = "hello_timeout"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    INVALID_NAME = "invalid_name"
    INVALID_EVENT = "invalid_event"
    INVALID_OPTION = "invalid_option"
    TOO_LARGE = "too_large"
    LIMIT = "limit"
    IN_USE = "in_use"
    NOT_SUBSCRIBED = "not_subscribed"
    OVERLOADED = "overloaded"
    STORE_UNAVAILABLE = "store_unavailable"
    SHUTTING_DOWN = "shutting_down"
    INTERNAL = "internal"


RETRYABLE: Final = frozenset(
    {ErrorCode.OVERLOADED, ErrorCode.STORE_UNAVAILABLE, ErrorCode.SHUTTING_DOWN}
)


class ActorbusError(Exception):
    """Base of all errors of this package.

    Attributes:
        message: what happened, with the value, in one line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class RefusedError(ActorbusError):
    """What was asked is wrong or not allowed: asking again is no use.

    Attributes:
        code: the protocol's error code.
    """

    def __init__(self, code: ErrorCode | str, message: str) -> None:
        super().__init__(message)
        self.code = str(code)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class InvalidEventError(RefusedError):
    """An event breaks a rule of CloudEvents or of the protocol; the message names the attribute."""

    def __init__(self, message: str, code: ErrorCode = ErrorCode.INVALID_EVENT) -> None:
        super().__init__(code, message)


class MalformedError(RefusedError):
    """A frame breaks a rule of the protocol.

    Attributes:
        ref: the frame's `ref` if that is well-formed itself, to answer with.
    """

    def __init__(
        self, message: str, *, ref: Ref = None, code: ErrorCode = ErrorCode.MALFORMED
    ) -> None:
        super().__init__(code, message)
        self.ref = ref


class UnavailableError(ActorbusError):
    """The broker can't do it now (overloaded, store away, shutting down): ask again later.

    Attributes:
        code: the protocol's error code.
    """

    def __init__(self, code: ErrorCode | str, message: str) -> None:
        super().__init__(message)
        self.code = str(code)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class UndecodableError(ActorbusError):
    """Bytes that are no frame: not MessagePack or JSON, or not a map (close code 1007)."""


class ConnectionLostError(ActorbusError):
    """The connection ended and will not come back (closed by us, or refused for good)."""


class StoreError(ActorbusError):
    """Base of what a store raises."""


class StoreUnavailableError(StoreError):
    """A passing fault: nothing was lost, publishers get `store_unavailable` and may retry."""


class StoreUnusableError(StoreError):
    """The store can't be opened, or must not be used any more; the message is for the operator.

    Attributes:
        exit_status: of the broker's process (sysexits.h: 70 software, 78 configuration).
    """

    def __init__(self, message: str, *, exit_status: int = 78) -> None:
        super().__init__(message)
        self.exit_status = exit_status
