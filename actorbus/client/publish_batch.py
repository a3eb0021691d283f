"""Publishes of one topic that travel in one frame, and how their answer is shared out."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from actorbus.errors import (
    ActorbusError,
    ErrorCode,
    InvalidEventError,
    RefusedError,
    UnavailableError,
)
from actorbus.limits import FRAME_BYTES

BATCH_BYTES: Final = FRAME_BYTES // 32
"""A publish frame is full at 256 KiB: larger ones gain nothing and delay what comes behind."""

EventErrors = tuple[tuple[int, str, str], ...]
"""Index, code and message of events that were refused one by one; empty if all stand."""

Waiter = asyncio.Future[EventErrors]


class PublishBatch:
    """Events of one publish frame; each is paired with the future of the call it came from.

    Attributes:
        waiters: one for each event; a call with several events has its future there as often.
            It gets the call's refused events, their indexes counted from its first event.
        size: bytes of the encoded events.
        deadline: when its callers are told that there was no answer (the loop's clock).
        attempts: how often it was refused with a retryable error.
        refusal: the last of these errors.
    """

    __slots__ = ("attempts", "deadline", "events", "refusal", "size", "topic", "ttl_ms", "waiters")

    def __init__(self, topic: str, ttl_ms: int | None, deadline: float) -> None:
        self.topic = topic
        self.ttl_ms = ttl_ms
        self.deadline = deadline
        self.events: list[bytes] = []
        self.waiters: list[Waiter] = []
        self.size = 0
        self.attempts = 0
        self.refusal: UnavailableError | None = None

    def answered(self, errors: Sequence[Mapping[str, Any]]) -> None:
        """The broker has answered: all is durable but the events that `errors` name.

        Raises:
            LookupError, TypeError: `errors` breaks the protocol; nobody has been told anything.
        """
        if errors:
            self._share_out(errors)
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(())

    def failed(self, error: ActorbusError) -> None:
        """None of it will be answered. Each caller gets an exception of its own."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(copy_of(error))

    def abandoned(self) -> bool:
        """Every caller has gone."""
        return all(waiter.done() for waiter in self.waiters)

    def _share_out(self, errors: Sequence[Mapping[str, Any]]) -> None:
        shares: dict[Waiter, list[tuple[int, str, str]]] = {}
        for error in errors:
            if error["index"] < 0:
                raise LookupError("an index below 0")
            waiter = self.waiters[error["index"]]
            index = error["index"] - self.waiters.index(waiter)
            shares.setdefault(waiter, []).append((index, error["code"], error["message"]))
        for waiter, share in shares.items():
            if not waiter.done():
                waiter.set_result(tuple(share))


def refusal(code: str, message: str) -> RefusedError:
    """The exception for an event that the broker refused."""
    if code in (ErrorCode.INVALID_EVENT, ErrorCode.TOO_LARGE):
        return InvalidEventError(message, ErrorCode(code))
    return RefusedError(code, message)


def copy_of(error: ActorbusError) -> ActorbusError:
    """An equal exception: one that is raised in several tasks would collect their tracebacks."""
    copy = error.__class__.__new__(error.__class__, *error.args)
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy
