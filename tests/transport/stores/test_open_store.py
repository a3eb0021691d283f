from importlib.metadata import EntryPoint
from pathlib import Path
from typing import NoReturn

import pytest

import transport.stores
from actorbus.errors import StoreUnusableError
from transport.stores import open_store
from transport.stores.memory import MemoryStore
from transport.stores.sqlite.store import SqliteStore


def refusal(url: str) -> str:
    with pytest.raises(StoreUnusableError) as caught:
        open_store(url)
    return caught.value.message


def with_example(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = EntryPoint("example", value, "actorbus.stores")
    monkeypatch.setattr(transport.stores, "entry_points", lambda group: (entry,))


def example_store(url: str) -> MemoryStore:
    assert url == "example:here"
    return MemoryStore()


def refusing_store(url: str) -> NoReturn:
    raise StoreUnusableError("the example has no bucket")


def test_memory_and_sqlite_are_built_in(tmp_path: Path) -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    assert isinstance(open_store(f"sqlite:{tmp_path}/a.db?retain=7d"), SqliteStore)


def test_an_unknown_scheme_is_refused_naming_the_known_ones() -> None:
    assert refusal("postgres://me:secret@host/db") == (
        "unknown store scheme 'postgres': use one of amqp, amqps, memory, sqlite"
    )


def test_a_url_without_a_scheme_is_refused_without_repeating_it() -> None:
    assert "secret" not in refusal("me@secret/actorbus.db")


def test_an_installed_distribution_adds_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    with_example(monkeypatch, f"{__name__}:example_store")
    assert isinstance(open_store("example:here"), MemoryStore)


def test_a_factory_may_refuse_its_url(monkeypatch: pytest.MonkeyPatch) -> None:
    with_example(monkeypatch, f"{__name__}:refusing_store")
    assert refusal("example:") == "the example has no bucket"


def test_a_factory_that_is_not_there_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with_example(monkeypatch, "no_such_package:open_store")
    assert refusal("example:") == (
        "store 'example' can't be loaded: No module named 'no_such_package'"
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory:x", "a memory url has no path: use memory: or sqlite:PATH"),
        ("sqlite:", "a sqlite url needs a path: use sqlite:actorbus.db"),
        ("sqlite:x?sync=off", "unknown parameter 'sync' in a sqlite url: use retain"),
        (
            "sqlite:x?retain=week",
            "retain=week is no duration: use a number with s, m, h or d, as in 7d",
        ),
        (
            "memory:?retain=0s",
            "retain=0s is no duration: use a number with s, m, h or d, as in 7d",
        ),
    ],
)
def test_a_wrong_log_url_is_refused(url: str, message: str) -> None:
    assert refusal(url) == message


@pytest.mark.parametrize(
    ("duration", "milliseconds"),
    [("2s", 2_000), ("3m", 180_000), ("4h", 14_400_000), ("7d", 604_800_000)],
)
def test_durations_have_four_units(duration: str, milliseconds: int) -> None:
    store = open_store(f"memory:?retain={duration}")
    assert isinstance(store, MemoryStore)
    assert store._retain_ms == milliseconds
