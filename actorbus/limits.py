"""Every limit of the broker and the client, each with the reason for its number."""

from typing import Final

NAME_BYTES: Final = 120
"""Longest topic, app ID or instance label: RabbitMQ refuses names over 127 characters (pamqp)."""

FRAME_BYTES: Final = 8 * 1024 * 1024
"""Longest WebSocket message, either way; bounds the memory one connection can claim at once."""

EVENT_BYTES: Final = FRAME_BYTES // 8
"""Longest event after wrapping: JSON escapes can grow it sixfold, and it must still fit a frame."""

BATCH_EVENTS: Final = 1000
"""Most events of one publish frame: keeps one frame's work on the loop under some 10 ms."""

PUBLISH_BYTES: Final = 16 * 1024 * 1024
"""Bytes of publishes that one connection may have unanswered before it is no longer read."""

PUBLISH_PAUSE_MS: Final = 5_000
"""How long a connection over its publish budget is not read before its publishes are refused."""

TOPIC_PENDING_BYTES: Final = 64 * 1024 * 1024
"""Bytes of accepted publishes that may wait for one topic's store before `overloaded`."""

GROUPS_PER_APP: Final = 20_000
"""Groups that one app ID may have in use at one broker: some 12 KiB each."""

GROUP_OUTSTANDING: Final = 10_000
"""Leased plus delayed events of one group: bounds what one group keeps in memory."""

GROUP_READ_AHEAD_BYTES: Final = 4 * 1024 * 1024
"""Bytes of ready events that a group buffers ahead of its instances' windows."""

DATA_DEPTH: Final = 64
"""Deepest nesting of an event's data: far under the recursion limits of every JSON reader."""

REF_BYTES: Final = 64
"""Longest text `ref` of a frame."""

REASON_CHARACTERS: Final = 256
"""An acknowledgement's `reason` is cut to this many printable characters."""

MAX_IN_FLIGHT_DEFAULT: Final = 256
"""A connection's window unless its `hello` names another."""

MAX_IN_FLIGHT: Final = 65_535
"""Largest window of a connection or cap of a group."""

ACK_IDS: Final = MAX_IN_FLIGHT
"""Most ids of one `ack` or `extend`: no connection holds more, and 8 MiB of them take seconds."""

HELLO_MS: Final = 5_000
"""How long a new connection may take to say `hello`."""

OUTBOX_BYTES: Final = 4 * 1024 * 1024
"""Unsent bytes of a connection above which it takes no deliveries and is not read."""

SEND_MS: Final = 20_000
"""How long one write to a client may take before it is a slow consumer (25 s promised)."""

ACK_WAIT_MS: Final = (100, 600_000)
"""Range of `ack_wait_ms`."""

DELAY_MS: Final = (0, 3_600_000)
"""Range of an acknowledgement's `delay_ms`."""

BACKOFF_MS: Final = (10, 3_600_000)
"""Range of `backoff_ms` and `max_backoff_ms`."""

TTL_MS: Final = (1, 2**53)
"""Range of `ttl_ms`."""

INTEGER: Final = 2**53
"""Largest magnitude of an integer `ref`: what every JSON reader keeps exactly."""
