"""A detector of blocking calls: whatever of the broker would hold up the loop raises instead."""

from collections.abc import Iterator
from contextlib import contextmanager

from blockbuster import BlockBuster

import actorbus
import actors
import transport


@contextmanager
def no_blocking() -> Iterator[None]:
    """While it lasts, a file, a sleep, a lock or a socket that would block a loop raises."""
    detector = BlockBuster([actorbus, actors, transport])
    detector.activate()
    try:
        yield
    finally:
        detector.deactivate()
