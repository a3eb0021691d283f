import pytest

from transport.dapr.resources.subscription import Subscription


def made(**fields: object) -> Subscription:
    return Subscription(component="pubsub", topic="orders", **fields)  # type: ignore[arg-type]  # any


def test_without_scopes_it_is_for_every_app() -> None:
    assert made().is_for("shop")


def test_scopes_name_the_apps_that_it_is_for() -> None:
    subscription = made(scopes=("shop", "audit"))
    assert [subscription.is_for(app) for app in ("shop", "audit", "other")] == [True, True, False]


@pytest.mark.parametrize("value", ["true", "True", "1", "t", "yes"])
def test_raw_payload_is_asked_for_by_metadata(value: str) -> None:
    assert made(metadata={"rawPayload": value}).raw_payload()


@pytest.mark.parametrize("metadata", [{}, {"rawPayload": "false"}, {"rawPayload": "0"}])
def test_raw_payload_is_off_otherwise(metadata: dict[str, str]) -> None:
    assert not made(metadata=metadata).raw_payload()


def test_raw_payload_that_is_no_boolean_is_an_error() -> None:
    with pytest.raises(ValueError, match="'maybe'"):
        made(metadata={"rawPayload": "maybe"}).raw_payload()
