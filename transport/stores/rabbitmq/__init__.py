"""The RabbitMQ store: the way past one machine.

Several brokers share one RabbitMQ cluster. Per topic there is a durable fanout exchange named after
the topic, per group a durable quorum queue bound to it; RabbitMQ spreads a queue's messages over
the brokers that read it. One message holds many events (`messages`); which of them are settled is
kept in memory until all are and the message can be acknowledged (`ledger`, `feed`). Groups and
their options live in a stream that every broker follows (`registry`).
"""

from transport.stores.rabbitmq.store import open_store

__all__ = ["open_store"]
