"""What is known of messages that went back before they could be acknowledged.

RabbitMQ delivers such a message whole. If it comes to this broker, what was settled here is left
out, and attempts that ended here count.
"""

from collections import OrderedDict
from typing import Final

import msgspec

from transport.stores.rabbitmq.messages import History

MESSAGES: Final = 1_024
"""Messages remembered per group; beyond, the oldest are forgotten and may come again whole."""


class Memory(msgspec.Struct, frozen=True):
    """One message: the events left to settle, as bits, and their histories."""

    left: int
    histories: dict[int, History]


class Memories:
    """The messages of one group, by AMQP message id."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Memory] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def put(self, message_id: str | None, left: int, histories: dict[int, History]) -> None:
        """Remember a message, unless it has no id to know it by."""
        if message_id is None:
            return
        self._known[message_id] = Memory(left, dict(histories))
        self._known.move_to_end(message_id)
        if len(self._known) > MESSAGES:
            self._known.popitem(last=False)

    def take(self, message_id: str | None) -> Memory | None:
        """What is known of a message that has come."""
        return self._known.pop(message_id, None) if message_id is not None else None
