"""What a run is asked to do, from the command line."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
OUT: Final = HERE / "out"

Encoding = Literal["msgpack", "json"]

TEMPORARY: Final = "sqlite"
"""The store that stands for an SQLite file in a directory of its own, removed after the run."""

WARMUP_SECONDS: Final = 1.0
"""Left out of rates and latencies by default: connections, first commits and caches settle."""


class BenchError(Exception):
    """The run can't be done or has failed; the text is for the person who started it."""


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A load test.

    Attributes:
        url: of a running broker; None starts one on `store`.
        store: URL, or `sqlite` for a temporary file.
        publishers: processes that publish.
        groups: app IDs that subscribe; each gets every event.
        instances: processes a group.
        payload: bytes of each event's data.
        window: events that each publisher has in flight at most.
        max_in_flight: deliveries that each instance may have unsettled.
        duration: seconds of publishing, warm-up included; without meaning when `events` is set.
        events: published in all, then it ends; None: by duration.
        warmup: seconds at the start that rates and latencies leave out.
        encoding: of the frames.
        rate: events per second of all publishers together (open loop); None: as fast as they go.
        batch: events a call; over 1 uses `publish_many`.
        rounds: how often the whole is repeated, each time with a fresh broker.
        out: directory for the result.
        name: of the result's files, without suffix; None: from kind and time.
    """

    url: str | None = None
    store: str = TEMPORARY
    publishers: int = 1
    groups: int = 1
    instances: int = 1
    payload: int = 256
    window: int = 500
    max_in_flight: int = 1000
    duration: float = 10.0
    events: int | None = None
    warmup: float = WARMUP_SECONDS
    encoding: Encoding = "msgpack"
    rate: float | None = None
    batch: int = 1
    rounds: int = 1
    out: Path = OUT
    name: str | None = None


class ConnectionsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A test of idle connections.

    Attributes:
        count: connections opened.
        idle: seconds for which they then do nothing, while the broker's CPU is measured.
        bare: open them to a bare `websockets` server instead: what no broker over it can be below.
        url, store, encoding, rounds, out, name: as in `LoadOptions`.
    """

    count: int = 1000
    idle: float = 3.0
    bare: bool = False
    url: str | None = None
    store: str = TEMPORARY
    encoding: Encoding = "msgpack"
    rounds: int = 1
    out: Path = OUT
    name: str | None = None


class TopicsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A test of many topics.

    Attributes:
        count: topics with a group each.
        duration: seconds of each of the two load tests on one topic.
        url, store, encoding, rounds, out, name: as in `LoadOptions`.
    """

    count: int = 10_000
    duration: float = 5.0
    url: str | None = None
    store: str = TEMPORARY
    encoding: Encoding = "msgpack"
    rounds: int = 1
    out: Path = OUT
    name: str | None = None


class BacklogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A test of a backlog.

    Attributes:
        events: that nobody reads until all are published.
        duration: seconds of the load test whose rate is the normal one.
        store: as in `LoadOptions`, of a kind that outlasts the broker.
        rounds, out, name: as in `LoadOptions`.
    """

    events: int = 1_000_000
    duration: float = 5.0
    store: str = TEMPORARY
    rounds: int = 1
    out: Path = OUT
    name: str | None = None


GrowthOptions = ConnectionsOptions | TopicsOptions | BacklogOptions


def parse(arguments: Sequence[str]) -> LoadOptions | GrowthOptions:
    """Options from the command line; without a subcommand it is a load test.

    Raises:
        BenchError: options contradict each other.
        SystemExit: argparse has printed help or an error.
    """
    kind, *rest = arguments or ["load"]
    if kind == "connections":
        return _connections(rest)
    if kind == "topics":
        return _topics(rest)
    if kind == "backlog":
        return _backlog(rest)
    return _load(rest if kind == "load" else arguments)


def _load(arguments: Sequence[str]) -> LoadOptions:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Load test: publishers and subscribers as processes over real sockets. "
        "`python -m bench connections`, `topics` and `backlog` measure how cost grows.",
    )
    add = parser.add_argument
    add("--publishers", type=whole, default=1, metavar="N", help="publisher processes")
    add("--groups", type=whole, default=1, metavar="N", help="app IDs; each gets every event")
    add("--instances", type=whole, default=1, metavar="N", help="processes a group")
    add("--payload", type=whole, default=256, metavar="BYTES", help="data of each event")
    add("--window", type=whole, default=500, metavar="N", help="events in flight a publisher")
    add("--max-in-flight", type=whole, default=1000, metavar="N", help="unsettled an instance")
    add("--duration", type=seconds, default=10.0, metavar="S", help="seconds of publishing")
    add("--events", type=whole, metavar="N", help="publish so many instead of for a time")
    add("--warmup", type=seconds, metavar="S", help="not measured; 1 at most, 0 with --events")
    add("--rate", type=seconds, metavar="N", help="open loop: events/s of all publishers")
    add("--batch", type=whole, default=1, metavar="N", help="events a publish_many call")
    _add_common(parser)
    values = _given(parser, arguments)
    values.setdefault("warmup", _warmup(values))
    return _checked(msgspec.convert(values, LoadOptions))


def _warmup(values: Mapping[str, Any]) -> float:
    return 0.0 if "events" in values else warmup_of(values["duration"])


def warmup_of(duration: float) -> float:
    """The warm-up of a run of so many seconds: its first quarter, and not more than needed."""
    return min(WARMUP_SECONDS, duration / 4)


def _connections(arguments: Sequence[str]) -> ConnectionsOptions:
    parser = argparse.ArgumentParser(
        prog="python -m bench connections",
        description="Memory and CPU of the broker with idle connections.",
    )
    parser.add_argument("--count", type=whole, default=1000, metavar="N", help="connections")
    parser.add_argument("--idle", type=seconds, default=3.0, metavar="S", help="seconds idle")
    parser.add_argument("--bare", action="store_true", help="to a bare websockets server")
    _add_common(parser)
    options = msgspec.convert(_given(parser, arguments), ConnectionsOptions)
    if options.bare and options.url is not None:
        raise BenchError("--bare starts a server of its own; leave out --url")
    return options


def _topics(arguments: Sequence[str]) -> TopicsOptions:
    parser = argparse.ArgumentParser(
        prog="python -m bench topics", description="Memory and speed of a broker with many topics."
    )
    add = parser.add_argument
    add("--count", type=whole, default=10_000, metavar="N", help="topics with a group each")
    add("--duration", type=seconds, default=5.0, metavar="S", help="of each load test")
    _add_common(parser)
    return msgspec.convert(_given(parser, arguments), TopicsOptions)


def _backlog(arguments: Sequence[str]) -> BacklogOptions:
    parser = argparse.ArgumentParser(
        prog="python -m bench backlog",
        description="Memory, start and speed of a broker with many undelivered events.",
    )
    add = parser.add_argument
    add("--events", type=whole, default=1_000_000, metavar="N", help="of the backlog")
    add("--duration", type=seconds, default=5.0, metavar="S", help="of the normal load test")
    add("--store", default=TEMPORARY, metavar="URL", help="sqlite (temporary), amqp://…")
    _add_result(parser)
    options = msgspec.convert(_given(parser, arguments), BacklogOptions)
    if options.store.startswith("memory:"):
        raise BenchError("--store memory: keeps no backlog over a restart; use sqlite or amqp")
    return options


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--url", metavar="URL", help="a running broker, instead of one of its own")
    add("--store", default=TEMPORARY, metavar="URL", help="sqlite (temporary), memory:, amqp://…")
    add("--encoding", choices=["msgpack", "json"], default="msgpack", help="of the frames")
    _add_result(parser)


def _add_result(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--rounds", type=whole, default=1, metavar="N", help="repeat; the median is reported")
    add("--out", type=Path, default=OUT, metavar="DIR", help="for JSON and plot (bench/out)")
    add("--name", metavar="NAME", help="of the result's files")


def _given(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    values = vars(parser.parse_args(arguments))
    return {name: value for name, value in values.items() if value is not None}


def _checked(options: LoadOptions) -> LoadOptions:
    if options.events is None and options.warmup >= options.duration:
        raise BenchError(
            f"nothing is left to measure: --warmup {options.warmup:g} s"
            f" of --duration {options.duration:g} s; make it shorter"
        )
    if options.batch > options.window:
        raise BenchError(
            f"--batch {options.batch} is more than --window {options.window}:"
            " the window counts events; make it a multiple of the batch"
        )
    return options


def whole(text: str) -> int:
    """A number of 1 or more from the command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return value


def seconds(text: str) -> float:
    """A finite number over 0 from the command line."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return value
