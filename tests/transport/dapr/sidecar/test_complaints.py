"""Lines in the log about what goes wrong event by event."""

import structlog

from transport.dapr.sidecar.complaints import EVERY_SECONDS, Complaints


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_is_logged_and_the_next_line_counts_those_between() -> None:
    clock = Clock()
    complaints = Complaints(clock)
    with structlog.testing.capture_logs() as entries:
        for _ in range(5):
            complaints.say("app_refused_event", topic="orders", reason="RETRY")
        complaints.say("rule_failed", topic="orders", reason="no such key")
        clock.now = EVERY_SECONDS
        complaints.say("app_refused_event", topic="orders", reason="DROP")
    assert [(one["event"], one["reason"], one["times"]) for one in entries] == [
        ("app_refused_event", "RETRY", 1),
        ("rule_failed", "no such key", 1),
        ("app_refused_event", "DROP", 5),
    ]
