"""What one commit of the SQLite store changes, and how to take it back in memory if that fails."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec.msgpack

Row = tuple[Any, ...]


class Removed(NamedTuple):
    """The batches of a topic that begin from `start` to before `end`."""

    topic_id: int
    start: int
    end: int


pack: Final = msgspec.msgpack.Encoder().encode
"""What the store keeps, as MessagePack."""

_unpack: Final = msgspec.msgpack.Decoder(
    tuple[
        list[tuple[int, int, int, int | None, int, bytes]],
        list[tuple[int, str | None, bytes]],
        list[tuple[int, int, str, bytes, int, bytes]],
        list[tuple[int, int, int, int, int]],
        list[tuple[int, int]],
        list[Removed],
        list[int],
        list[int],
    ]
)


class Changes:
    """Rows to be written, and what is to be removed.

    Attributes:
        batches: topic_id, first, count, expires_at, created_at, events.
        topics: id, name, gone; by id.
        groups: id, topic_id, app_id, options, floor, settled.
        attempts: group_id, position, attempts, lost, not_before.
        settled_attempts: group_id, position.
        removed_batches: ranges of them.
        removed_groups: ids; with their attempts.
        removed_topics: ids; their batches have gone before, or go with them.
    """

    def __init__(self) -> None:
        self.batches: list[Row] = []
        self.topics: dict[int, Row] = {}
        self.groups: list[Row] = []
        self.attempts: list[Row] = []
        self.settled_attempts: list[Row] = []
        self.removed_batches: list[Removed] = []
        self.removed_groups: list[int] = []
        self.removed_topics: list[int] = []
        self._undo: list[Callable[[], object]] = []

    def __bool__(self) -> bool:
        return bool(
            self.batches
            or self.groups
            or self.topics
            or self.attempts
            or self.settled_attempts
            or self.removed_batches
            or self.removed_groups
            or self.removed_topics
        )

    def on_failure(self, undo: Callable[[], object]) -> None:
        """Have `undo` called if the commit fails, the last one first."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Take everything back in memory."""
        while self._undo:
            self._undo.pop()()

    def pack(self) -> bytes:
        """All of it, for the journal."""
        return pack(self._parts())

    def _parts(self) -> tuple[list[Any], ...]:
        return (
            self.batches,
            list(self.topics.values()),
            self.groups,
            self.attempts,
            self.settled_attempts,
            self.removed_batches,
            self.removed_groups,
            self.removed_topics,
        )

    @classmethod
    def unpack(cls, packed: bytes) -> "Changes":
        """What `pack` packed.

        Raises:
            msgspec.DecodeError: these are no changes.
        """
        changes = cls()
        (
            changes.batches,
            topics,
            changes.groups,
            changes.attempts,
            changes.settled_attempts,
            changes.removed_batches,
            changes.removed_groups,
            changes.removed_topics,
        ) = _unpack.decode(packed)
        changes.topics = {row[0]: row for row in topics}
        return changes
