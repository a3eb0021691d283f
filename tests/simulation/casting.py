"""Who takes part in the play."""

from typing import Any

import msgspec

ORDERS, LOST = "orders", "lost"
BILLING, STOCK, SHOP = "billing", "stock", "shop"
QUICK: dict[str, Any] = {"ack_wait_ms": 2_000, "backoff_ms": 100, "max_backoff_ms": 500}


class Part(msgspec.Struct, frozen=True):
    """What one connection is there for.

    Attributes:
        topic: that it subscribes to; None if it only publishes.
        options: of its group.
        once: each event is in its topic once; a dead letter may be there twice.
    """

    app_id: str
    topic: str | None
    options: dict[str, Any]
    once: bool = True


BILLS = Part(BILLING, ORDERS, QUICK)
STOCKS = Part(STOCK, ORDERS, {**QUICK, "max_attempts": 3, "dead_letter_topic": LOST})
STOCKS_LOST = Part(STOCK, LOST, QUICK, once=False)
PUBLISHES = Part(SHOP, None, {})

CAST = (BILLS, BILLS, STOCKS, STOCKS, STOCKS_LOST, PUBLISHES)
