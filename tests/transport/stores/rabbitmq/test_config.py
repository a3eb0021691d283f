import pytest

from actorbus.errors import StoreUnusableError
from transport.stores.rabbitmq.config import parse


def test_a_url_gives_address_and_mode() -> None:
    config = parse("amqp://me:secret@rabbit:5673/vhost?interop=dapr")
    assert (config.address, config.interop) == ("rabbit:5673", True)


@pytest.mark.parametrize(("scheme", "port"), [("amqp", 5672), ("amqps", 5671)])
def test_the_port_has_the_scheme_s_default(scheme: str, port: int) -> None:
    assert parse(f"{scheme}://rabbit").address == f"rabbit:{port}"


def test_a_connection_is_named_and_has_a_short_heartbeat() -> None:
    url = parse("amqp://me:secret@rabbit/v").named("publish")
    assert url == "amqp://me:secret@rabbit/v?heartbeat=10&name=actorbus+publish"


@pytest.mark.parametrize(
    "url",
    [
        "redis://rabbit",
        "amqp://",
        "amqp://rabbit:0x/",
        "amqp://me:se#cret@rabbit",
        "amqp://rabbit/?interop=celery",
        "amqp://rabbit/?heartbeat=1",
        "amqp://rabbit/?cafile=/etc/hosts",
        "amqps://rabbit/?cafile=/no/such/file",
    ],
)
def test_a_url_that_can_never_work_is_refused(url: str) -> None:
    with pytest.raises(StoreUnusableError):
        parse(url)


@pytest.mark.parametrize("url", ["amqp://me:secret@rabbit/?x=1", "amqp://me:secret@rabbit:port"])
def test_an_error_does_not_repeat_the_password(url: str) -> None:
    with pytest.raises(StoreUnusableError) as caught:
        parse(url)
    assert "secret" not in str(caught.value)


def test_the_password_is_not_in_the_representation() -> None:
    assert "secret" not in repr(parse("amqp://me:secret@rabbit"))


def test_amqps_takes_a_private_authority() -> None:
    assert "cafile=%2Fetc%2Fhosts" in parse("amqps://rabbit/?cafile=/etc/hosts").url
