from typing import Any

import msgpack
import pytest

from actorbus.store import GroupOptions
from transport.stores.rabbitmq.records import Groups, Record, read, write

KEY = ("orders", "billing")


def record(kind: Any, options: GroupOptions | None = None, **changes: Any) -> Record:
    return Record(kind=kind, id="r", topic=KEY[0], app_id=KEY[1], changes=changes, options=options)


def groups(*records: Record) -> Groups:
    known = Groups()
    for each in records:
        known.apply(each, 100)
    return known


def test_a_record_is_read_back() -> None:
    written = record("join", GroupOptions(max_attempts=3), max_attempts=3, backoff_ms=None)
    assert read(write(written)) == written


@pytest.mark.parametrize("body", [b"", b"\xc1", msgpack.packb(1), msgpack.packb({"kind": "new"})])
def test_a_body_that_is_no_record_is_none(body: bytes) -> None:
    assert read(body) is None


def test_the_first_record_of_a_group_gives_its_options() -> None:
    known = groups(record("join", GroupOptions(max_attempts=3)))
    assert known.options(KEY) == GroupOptions(max_attempts=3)


def test_changes_written_at_the_same_time_both_count() -> None:
    known = groups(
        record("join", GroupOptions()),
        record("join", GroupOptions(max_attempts=3), max_attempts=3),
        record("join", GroupOptions(ack_wait_ms=500), ack_wait_ms=500),
    )
    assert known.options(KEY) == GroupOptions(max_attempts=3, ack_wait_ms=500)


def test_reading_the_stream_again_comes_to_the_same() -> None:
    records = [
        record("join", GroupOptions()),
        record("join", GroupOptions(max_attempts=3), max_attempts=3),
        record("join", GroupOptions(), max_attempts=None),
    ]
    assert groups(*records, *records).options(KEY) == GroupOptions()


def test_a_keep_record_changes_nothing_for_who_knows_the_group() -> None:
    known = groups(record("join", GroupOptions(max_attempts=3)), record("keep", GroupOptions()))
    assert known.options(KEY) == GroupOptions(max_attempts=3)


def test_a_keep_record_brings_a_group_whose_beginning_is_dropped() -> None:
    assert groups(record("keep", GroupOptions(max_attempts=3))).options(KEY) == GroupOptions(
        max_attempts=3
    )


def test_a_forgotten_group_is_gone() -> None:
    assert groups(record("join", GroupOptions()), record("forget")).all() == []


def test_a_late_keep_record_does_not_bring_back_a_forgotten_group() -> None:
    known = groups(record("join", GroupOptions()), record("forget"), record("keep", GroupOptions()))
    assert known.options(KEY) is None


def test_a_forgotten_group_that_is_joined_again_starts_anew() -> None:
    known = groups(record("join", GroupOptions(max_attempts=3)), record("forget"), record("join"))
    assert known.options(KEY) == GroupOptions()


def test_groups_age_with_what_is_written_after_them() -> None:
    known = Groups(keep_bytes=300)
    known.apply(record("join", GroupOptions()), 100)
    mark = Record(kind="mark", id="m")
    known.apply(mark, 299)
    assert list(known.ageing()) == []
    known.apply(mark, 1)
    assert list(known.ageing()) == [KEY]


def test_a_kept_group_is_young_again() -> None:
    known = Groups(keep_bytes=300)
    known.apply(record("join", GroupOptions()), 100)
    known.apply(Record(kind="mark", id="m"), 300)
    known.apply(record("keep", GroupOptions()), 100)
    assert list(known.ageing()) == []
