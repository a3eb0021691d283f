"""Calls to RabbitMQ, each with a deadline and with errors of ours."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, Final, TypeVar

from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed

from actorbus.errors import StoreUnavailableError

T = TypeVar("T")

CALL_SECONDS: Final = 8.0
"""Under the 10 s that a store call may take, with room for closing what failed."""

_SHOWN: Final = 200

_ADVICE: Final = (
    (ChannelAccessRefused, ": give the user configure, write and read permission on the vhost"),
    (ChannelPreconditionFailed, ": delete what is there, or use another vhost"),
)


async def within(seconds: float, what: str, call: Awaitable[T]) -> T:
    """The result of `call`, or `StoreUnavailableError` that says `what` failed, and why.

    The call runs in a task of its own: aiormq cancels whoever waits for a connection that is lost,
    and that must not be taken for a cancellation of the caller. The library's own error is the
    `__cause__`.
    """
    task = asyncio.ensure_future(call)
    await finished((task,), seconds)
    return outcome(task, what, seconds)


async def directly(seconds: float, what: str, call: Awaitable[T]) -> T:
    """As `within`, but in the caller's own task, for calls that are made for every event.

    Only for calls that end when they are cancelled.
    """
    try:
        async with asyncio.timeout(seconds):
            return await translated(what, call)
    except TimeoutError:
        raise _unanswered(what, seconds) from None


async def translated(what: str, call: Awaitable[T]) -> T:
    """Await `call`, with errors as `within` has them.

    A cancellation that nobody asked of this task is aiormq's, for a connection that is lost.
    """
    task = asyncio.current_task()
    assert task is not None
    asked = task.cancelling()
    try:
        return await call
    except asyncio.CancelledError:
        if task.cancelling() > asked:
            raise
        raise _lost(what) from None
    except StoreUnavailableError:
        raise
    except Exception as error:
        raise _failed(what, error) from error


async def finished(tasks: Iterable["asyncio.Future[Any]"], seconds: float) -> None:
    """Wait for all; those that are not done by the deadline are cancelled."""
    waiting = tuple(tasks)
    try:
        await asyncio.wait(waiting, timeout=seconds)
    finally:
        abandon(waiting)


def abandon(tasks: Iterable["asyncio.Future[Any]"]) -> None:
    """Cancel the tasks that are not done; nobody waits for them any more."""
    for task in tasks:
        if not task.done():
            task.add_done_callback(_retrieve)
            task.cancel()


def outcome(task: "asyncio.Future[T]", what: str, seconds: float) -> T:
    """What a task that was waited for returned; its failure as `StoreUnavailableError`."""
    if not task.done():
        raise _unanswered(what, seconds)
    if task.cancelled():
        raise _lost(what)
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, StoreUnavailableError) or not isinstance(error, Exception):
        raise error
    raise _failed(what, error) from error


def _unanswered(what: str, seconds: float) -> StoreUnavailableError:
    return StoreUnavailableError(f"{what}: no answer in {seconds:g} s")


def _lost(what: str) -> StoreUnavailableError:
    return StoreUnavailableError(f"{what}: the connection was lost")


def _failed(what: str, error: Exception) -> StoreUnavailableError:
    return StoreUnavailableError(f"{what}: {explain(error)}")


def explain(error: BaseException | None) -> str:
    """An error in one short line with what to do; aiormq's carry no password and no body."""
    if error is None:
        return "closed"
    text = " ".join(str(error).split()) or type(error).__name__
    advice = (advice for kind, advice in _ADVICE if isinstance(error, kind))
    return text[:_SHOWN] + next(advice, "")


def _retrieve(task: "asyncio.Future[Any]") -> None:
    if not task.cancelled():
        task.exception()  # or asyncio logs that nobody asked for it
