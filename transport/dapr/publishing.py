"""Publishing for Dapr apps: checks, the envelope, the broker, and what its refusals mean."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from actorbus import PartlyPublishedError
from actorbus.errors import (
    ActorbusError,
    ConnectionLostError,
    ErrorCode,
    InvalidEventError,
    RefusedError,
)
from transport.dapr import errors
from transport.dapr.buses import Buses
from transport.dapr.config import DoorConfig
from transport.dapr.envelope import Publish, wrap
from transport.dapr.errors import DaprError
from transport.dapr.trace import NO_TRACE, Trace


class Entry(msgspec.Struct, frozen=True):
    """One event of a bulk publish.

    Attributes:
        entry_id: unique in its request.
        metadata: the entry's own; the request's holds where it says nothing.
    """

    entry_id: str
    data: bytes
    content_type: str
    metadata: Mapping[str, str]


class FailedEntry(msgspec.Struct, frozen=True):
    """An entry that was not published, and why in one line."""

    entry_id: str
    error: str


class Publisher:
    """Publishes what both Dapr APIs are given, once `check` has let the call through.

    Args:
        buses: where to.
        config: the components and the version of the envelopes.
    """

    def __init__(self, buses: Buses, config: DoorConfig) -> None:
        self._buses = buses
        self._config = config
        self._specversion = config.specversion

    def check(self, component: str, topic: str, app_id: str) -> None:
        """Check that a call names a topic, and a component that the app has.

        Raises:
            DaprError: it does not, or there is no such component for it.
        """
        serves = self._config.serves(component, app_id)
        if serves and topic:
            return
        if not self._config.components:
            raise errors.not_configured()
        if not component:
            raise errors.name_empty()
        if not serves:
            raise errors.not_found(component)
        raise errors.topic_empty(component)

    async def publish(self, request: Publish) -> None:
        """Publish one event; returns once it is durable.

        Raises:
            DaprError: whatever goes wrong.
        """
        envelope = wrap(request, self._specversion)
        key = request.component, request.app_id
        try:
            bus = self._buses.ready(*key) or await self._buses.get(*key)
            try:
                await bus.publish(request.topic, event=envelope.event, ttl=envelope.ttl)
            except ConnectionLostError:
                self._buses.drop(*key, bus)
                raise
        except ActorbusError as error:
            raise _refusal(request, error) from None

    async def publish_bulk(  # noqa: PLR0917 - the fields of Dapr's request
        self,
        component: str,
        topic: str,
        entries: Sequence[Entry],
        metadata: Mapping[str, str],
        app_id: str,
        trace: Trace = NO_TRACE,
    ) -> list[FailedEntry]:
        """Publish several events in order, each for itself; those that failed.

        Raises:
            DaprError: the request as a whole is wrong, and nothing of it is published.
        """
        _check_ids(component, topic, entries)
        requests = [
            Publish(
                component,
                topic,
                entry.data,
                entry.content_type,
                {**metadata, **entry.metadata},
                app_id,
                trace,
            )
            for entry in entries
        ]
        failures = await self._publish_all(requests)
        return [
            FailedEntry(entry.entry_id, failure.message)
            for entry, failure in zip(entries, failures, strict=True)
            if failure is not None
        ]

    async def _publish_all(self, requests: Sequence[Publish]) -> list[DaprError | None]:
        """Why each was not published, or None."""
        failures: list[DaprError | None] = [None] * len(requests)
        wrapped: dict[float | None, list[tuple[int, Mapping[str, Any]]]] = {}
        for index, request in enumerate(requests):
            try:
                envelope = wrap(request, self._specversion)
            except DaprError as error:
                failures[index] = error
            else:
                wrapped.setdefault(envelope.ttl, []).append((index, envelope.event))
        parts = (self._publish_part(requests, ttl, part) for ttl, part in wrapped.items())
        for failed in await asyncio.gather(*parts):
            for index, why in failed.items():
                failures[index] = _refusal(requests[index], why)
        return failures

    async def _publish_part(
        self,
        requests: Sequence[Publish],
        ttl: float | None,
        part: Sequence[tuple[int, Mapping[str, Any]]],
    ) -> dict[int, ActorbusError]:
        """Publish events with one time to live; the indexes of those that failed, and why."""
        first = requests[part[0][0]]
        try:
            await self._send_many(first, [event for _, event in part], ttl)
        except PartlyPublishedError as error:
            return {
                part[index][0]: RefusedError(code, message) for index, code, message in error.errors
            }
        except InvalidEventError as error:
            if len(part) == 1:
                return {part[0][0]: error}
            singles = (self._publish_part(requests, ttl, [one]) for one in part)
            return {index: e for one in await asyncio.gather(*singles) for index, e in one.items()}
        except ActorbusError as error:
            return {index: error for index, _ in part}
        return {}

    async def _send_many(
        self, first: Publish, events: Sequence[Mapping[str, Any]], ttl: float | None
    ) -> None:
        key = first.component, first.app_id
        bus = await self._buses.get(*key)
        try:
            await bus.publish_many(first.topic, events=events, ttl=ttl)
        except ConnectionLostError:
            self._buses.drop(*key, bus)
            raise


def _check_ids(component: str, topic: str, entries: Sequence[Entry]) -> None:
    seen: set[str] = set()
    for entry in entries:
        if not entry.entry_id:
            raise errors.bad_entries(component, topic, "entryId is missing")
        if entry.entry_id in seen:
            raise errors.bad_entries(component, topic, "entryId is not unique in the request")
        seen.add(entry.entry_id)


def _refusal(request: Publish, error: ActorbusError) -> DaprError:
    component, topic = request.component, request.topic
    if isinstance(error, DaprError):
        return error
    if isinstance(error, RefusedError):
        if error.code == ErrorCode.TOO_LARGE:
            return errors.too_large(component, error.message)
        if error.code == ErrorCode.INVALID_EVENT:
            return errors.bad_envelope(component, topic, error.message)
        if error.code == ErrorCode.FORBIDDEN:
            return errors.forbidden(component, topic, error.message)
        if error.code == ErrorCode.INVALID_NAME:
            return errors.publish_failed(component, topic, error.message, errors.NOT_A_TOPIC)
    return errors.publish_failed(component, topic, str(error))
