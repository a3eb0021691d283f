"""A store from another distribution, in a broker: docs/stores.md."""

import asyncio
from pathlib import Path

import pytest

import actorbus
from actorbus.errors import StoreUnusableError
from actorbus.testing import TestBroker
from transport.stores import open_store


def test_serve_finds_an_installed_store_by_its_scheme(
    example_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(example_store), prepend=":")

    async def main() -> None:
        async with (
            TestBroker(store="example:") as broker,
            actorbus.connect(broker.url, app_id="billing") as bus,
            bus.subscribe("orders", max_attempts=2, dead_letter_topic="failed") as deliveries,
            bus.subscribe("failed") as failed,
        ):
            await bus.publish("orders", 1)
            await (await anext(deliveries)).retry(delay=0.01)
            again = await anext(deliveries)
            assert (again.data, again.attempt) == (1, 2)
            await again.retry()
            assert (await anext(failed)).data == 1

    asyncio.run(main())


def test_a_url_that_it_refuses_is_told_in_its_words(
    example_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(example_store))
    with pytest.raises(StoreUnusableError, match="nothing to configure"):
        open_store("example:somewhere")


def test_it_imports_nothing_but_the_public_package() -> None:
    for module in (Path(__file__).parent / "example_store").rglob("*.py"):
        text = module.read_text(encoding="utf-8")
        assert "import transport" not in text
        assert "from transport" not in text
        assert "actors" not in text
