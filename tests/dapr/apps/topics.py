"""The topics that each subscribing app here has, under a prefix of its own."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Options:
    """How a topic is subscribed to."""

    dead_letter_topic: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def stream_metadata(self) -> dict[str, str]:
        """Streams also name how long a handler may take."""
        return {**self.metadata, "ackWaitSeconds": "1"}


TOPICS = {
    "orders": Options(),
    "letters": Options(dead_letter_topic="dead"),
    "dead": Options(),
    "raw": Options(metadata={"rawPayload": "true"}),
}
