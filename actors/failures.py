"""Errors as what a client is told: a code and one line."""

import structlog

from actorbus.errors import (
    RETRYABLE,
    ErrorCode,
    Ref,
    RefusedError,
    StoreUnavailableError,
    UnavailableError,
)
from actorbus.frames import Error
from actors.messages import Failure

log = structlog.get_logger("actorbus.actors")


def failure_of(error: Exception) -> Failure:
    """What a client may know of an error; of an internal one its code only."""
    match error:
        case RefusedError() | UnavailableError():
            return Failure(error.code, error.message)
        case StoreUnavailableError():
            return Failure(ErrorCode.STORE_UNAVAILABLE, f"{error.message}; try again")
    log.error("internal error", exc_info=error)
    return Failure(ErrorCode.INTERNAL, "internal error; the broker's log has the details")


def error_frame(ref: Ref, code: str, message: str, *, retryable: bool | None = None) -> Error:
    """An `error` frame; whether to retry follows from the code unless given."""
    code = str(code)
    return Error(ref, code, message, code in RETRYABLE if retryable is None else retryable)
