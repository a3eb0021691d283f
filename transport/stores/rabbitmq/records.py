"""The records of the group registry, and what following them comes to.

A record holds a change and the options that it led to where it was written. Whoever knows the group
applies the change, in the order of the stream, so that changes by two brokers at the same time both
count. Whoever doesn't, because the stream no longer reaches back to the group's beginning, takes
the options. A *keep* record changes nothing: it repeats a group before the stream drops it.
"""

from collections.abc import Iterator
from typing import Final, Literal

import msgpack
import msgspec

from actorbus.store import GroupOptions

STREAM_BYTES: Final = 16 * 1024 * 1024
"""The stream drops its oldest records beyond this; some 50,000 of them fit."""

KEEP_BYTES: Final = STREAM_BYTES // 2
"""A group whose last record lies so far back is repeated."""

Kind = Literal["join", "keep", "forget", "mark"]
Key = tuple[str, str]
"""Topic and app ID."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record.

    Attributes:
        kind: `mark` belongs to no group: its writer waits until it reads it.
        id: unique, for the writer to know it again.
        changes: options to change; None puts one back to its default.
        options: those in force after it.
    """

    kind: Kind
    id: str
    topic: str = ""
    app_id: str = ""
    changes: dict[str, int | str | None] = {}
    options: GroupOptions | None = None

    @property
    def key(self) -> Key:
        """The group."""
        return self.topic, self.app_id


def write(record: Record) -> bytes:
    """The record as MessagePack."""
    packed: bytes = msgpack.packb(msgspec.to_builtins(record))
    return packed


def read(body: bytes) -> Record | None:
    """The record, or None for a body that is none (of a later version, or a stranger's)."""
    try:
        return msgspec.convert(msgpack.unpackb(body), Record)
    except (ValueError, msgpack.UnpackException, msgspec.ValidationError):
        return None


class Groups:
    """The groups that the records read so far come to."""

    def __init__(self, keep_bytes: int = KEEP_BYTES) -> None:
        self._keep_bytes = keep_bytes
        self._options: dict[Key, GroupOptions] = {}
        self._seen: dict[Key, int] = {}  # by the age of the last record, oldest first
        self._topics: dict[str, set[Key]] = {}
        self._forgotten: set[Key] = set()
        self._read = 0

    def apply(self, record: Record, size: int) -> None:
        """Take in one record of `size` bytes, in the stream's order."""
        self._read += size
        if record.kind == "mark":
            return
        if record.kind == "forget":
            self._forget(record.key)
            return
        known = self._options.get(record.key)
        if record.kind == "keep" and known is None and record.key in self._forgotten:
            return  # repeated by a broker that had not yet read that it is gone
        if known is None:
            self._options[record.key] = record.options or GroupOptions()
            self._topics.setdefault(record.topic, set()).add(record.key)
        else:
            self._options[record.key] = known.changed(record.changes)
        self._forgotten.discard(record.key)
        self._seen.pop(record.key, None)
        self._seen[record.key] = self._read

    def options(self, key: Key) -> GroupOptions | None:
        """A group's options, None if there is no such group."""
        return self._options.get(key)

    def ageing(self) -> Iterator[Key]:
        """Groups whose last record the stream will drop before long, oldest first."""
        for key, seen in self._seen.items():
            if self._read - seen < self._keep_bytes:
                return
            yield key

    def of(self, topic: str) -> list[Key]:
        """The groups of one topic."""
        return list(self._topics.get(topic, ()))

    def topics(self) -> list[str]:
        """Every topic that has groups."""
        return list(self._topics)

    def all(self) -> list[Key]:
        """Every group there is."""
        return list(self._options)

    def _forget(self, key: Key) -> None:
        if self._options.pop(key, None) is not None:
            keys = self._topics[key[0]]
            keys.discard(key)
            if not keys:
                del self._topics[key[0]]
        self._seen.pop(key, None)
        self._forgotten.add(key)
