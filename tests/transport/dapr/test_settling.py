"""What answers mean, and the options of a group."""

from transport.dapr.settling import UNANSWERED_ATTEMPTS, Policy, Retries

RETRIES = Retries(attempts=3, backoff=0.5, max_backoff=4)


def test_without_a_dead_letter_topic_no_event_is_ever_given_up() -> None:
    assert Policy().options() == {"dead_letter_topic": None, "max_attempts": None}
    assert Policy(retries=RETRIES).options() == {
        "dead_letter_topic": None,
        "max_attempts": None,
        "backoff": 0.5,
        "max_backoff": 4,
    }


def test_a_policy_counts_attempts_where_there_is_a_dead_letter_topic() -> None:
    options = Policy(dead_letter_topic="dead", retries=RETRIES).options()
    assert (options["dead_letter_topic"], options["max_attempts"]) == ("dead", 3)


def test_without_a_policy_only_attempts_without_an_answer_are_counted() -> None:
    options = Policy(dead_letter_topic="dead").options()
    assert options["max_attempts"] == UNANSWERED_ATTEMPTS


def test_an_ack_wait_is_named_only_where_it_is_asked_for() -> None:
    assert Policy(ack_wait=5).options()["ack_wait"] == 5
    assert "ack_wait" not in Policy().options()
