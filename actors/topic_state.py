"""How a topic forms batches of what is published, as a pure state machine.

A publish goes out at once when the store is free. What arrives while appends are under way forms
the next batch, so batches grow by themselves under load and one event alone waits for nothing.

What a connection publishes behind its own subscribe belongs to the group which that creates, so it
is held until the group is there (on RabbitMQ a new queue takes 1.5 s to be relied upon). Nobody
else can know of the group before `subscribed`, so nobody else's publishes wait.
"""

from collections import Counter
from typing import Any

import msgspec

from actorbus.limits import BATCH_EVENTS, EVENT_BYTES
from actors.messages import Publish

BATCH_BYTES = 4 * EVENT_BYTES
"""Bytes of a batch that joins several publishes: what one read of a group buffers at the least."""


class Append(msgspec.Struct, frozen=True, eq=False):
    """Effect: append these events as one batch; then call `TopicState.done(number)`."""

    number: int
    events: tuple[bytes, ...]
    expires_at: int | None


class TopicState:
    """The publishes of one topic that are not durable yet.

    Args:
        pipeline: appends that may be under way at once (`Abilities.pipeline`).
    """

    def __init__(self, pipeline: int) -> None:
        self._pipeline = pipeline
        self._waiting: list[Publish] = []
        self._holding: Counter[Any] = Counter()
        self._held: list[Publish] = []
        self._under_way: dict[int, tuple[Publish, ...]] = {}
        self._number = 0

    def publish(self, request: Publish) -> None:
        """Take in a publish."""
        held = request.reply_to in self._holding
        (self._held if held else self._waiting).append(request)

    def hold(self, publisher: Any) -> None:
        """Keep back what this one publishes from now on, until as many calls of `free`."""
        self._holding[publisher] += 1

    def free(self, publisher: Any, *, given_up: bool = False) -> tuple[Publish, ...]:
        """What was held goes on behind what waits.

        With `given_up` it is returned instead, to be answered: the store is away, and what has
        waited for that must not wait as long again.
        """
        self._holding[publisher] -= 1
        last = not self._holding[publisher]
        if last:
            del self._holding[publisher]
        if not last and not given_up:
            return ()
        own = tuple(request for request in self._held if request.reply_to is publisher)
        self._held = [request for request in self._held if request.reply_to is not publisher]
        if given_up:
            return own
        self._waiting.extend(own)
        return ()

    def idle(self) -> bool:
        """Whether nothing waits or is under way."""
        return not self._waiting and not self._under_way and not self._held

    def pump(self) -> list[Append]:
        """The appends to start now."""
        effects: list[Append] = []
        while self._waiting and len(self._under_way) < self._pipeline:
            batch = self._next_batch()
            self._number += 1
            self._under_way[self._number] = batch
            effects.append(Append(self._number, _events(batch), batch[0].expires_at))
        return effects

    def done(self, number: int) -> tuple[Publish, ...]:
        """An append has ended: the publishes to answer, in order."""
        return self._under_way.pop(number)

    def give_up(self) -> tuple[Publish, ...]:
        """The store is away: the publishes that wait behind what has just failed.

        They have waited as long as that took; publishers are promised an answer within 10 s.
        """
        waiting, self._waiting = tuple(self._waiting), []
        return waiting

    def _next_batch(self) -> tuple[Publish, ...]:
        first = self._waiting[0]
        count, events, size = 0, 0, 0
        for request in self._waiting:
            events += len(request.events)
            size += request.size
            if request.expires_at != first.expires_at:
                break
            if count and (events > BATCH_EVENTS or size > BATCH_BYTES):
                break
            count += 1
        batch = tuple(self._waiting[:count])
        del self._waiting[:count]
        return batch


def _events(batch: tuple[Publish, ...]) -> tuple[bytes, ...]:
    if len(batch) == 1:
        return batch[0].events
    return tuple(event for request in batch for event in request.events)
