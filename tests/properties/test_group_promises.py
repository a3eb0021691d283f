"""Whatever happens, and in whatever order: no event is lost, stuck or leased twice."""

from tests.properties.machine import EXAMPLES, GroupMachine, QueueMachine, play

EVERYWHERE = {"slept", "reopened", "reset", "alone"}


def test_a_group_on_a_log_keeps_its_promises() -> None:
    play(GroupMachine, EXAMPLES)
    assert GroupMachine.seen >= EVERYWHERE


def test_a_group_on_a_queue_keeps_its_promises() -> None:
    play(QueueMachine, EXAMPLES)
    assert QueueMachine.seen >= EVERYWHERE | {"moved", "not moved"}
