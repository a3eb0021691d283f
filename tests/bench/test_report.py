import json
from pathlib import Path
from typing import Any

from bench.options import LoadOptions
from bench.plot import rates
from bench.report import save, store_name, title
from bench.results import GROWTH_TARGETS, Backlog, Idle, Topics

ROUND = Idle(
    connections=1,
    start_mib=1.0,
    end_mib=2.0,
    kib_each=1024.0,
    opening_cpu_us=1.0,
    idle_cpu_percent=0.0,
)


def saved(path: Path, options: LoadOptions) -> dict[str, Any]:
    file = path / "result.json"
    save(file, options, [ROUND], {"cpu": "x"})
    result: dict[str, Any] = json.loads(file.read_text())
    return result


def test_a_result_holds_neither_passwords_nor_paths(tmp_path: Path) -> None:
    options = LoadOptions(store="amqp://guest:secret@rabbit.internal:5672/prod", out=tmp_path)

    text = json.dumps(saved(tmp_path, options))

    assert not [word for word in ("secret", "rabbit.internal", str(tmp_path)) if word in text]


def test_a_result_names_the_address_of_no_running_broker(tmp_path: Path) -> None:
    options = LoadOptions(url="ws://broker.internal:8090/v1")

    assert saved(tmp_path, options)["options"]["url"] == "a running broker"


def test_targets_of_growth_name_numbers_that_are_measured() -> None:
    fields = {"topics": Topics.__struct_fields__, "backlog": Backlog.__struct_fields__}

    assert not [
        (kind, number)
        for kind, numbers in GROWTH_TARGETS.items()
        for number in numbers
        if number not in fields[kind]
    ]


def test_stores_are_named_by_their_kind() -> None:
    stores = ["sqlite", "sqlite:/var/lib/x.db", "memory:", "amqps://u:p@h/v"]

    assert [store_name(store) for store in stores] == ["sqlite", "sqlite", "memory", "RabbitMQ"]


def test_the_title_names_rate_and_batch_where_there_are_any() -> None:
    assert title(LoadOptions(rate=1000.0, batch=5)).endswith("at 1000/s, publish_many of 5")


def test_rates_are_drawn_from_growing_counts() -> None:
    counts = [(0.25, 100), (0.5, 200), (0.75, 200), (1.0, 400)]

    assert rates(counts) == ([0.5, 1.0], [400.0, 400.0])
