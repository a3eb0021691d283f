"""`python -m bench [load | connections | topics | backlog] OPTIONS`; see README.md."""

import asyncio
import resource
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from actorbus import ActorbusError
from bench import backlog, connections, environment, load, plot, report, topics
from bench.broker import serving
from bench.options import (
    BacklogOptions,
    BenchError,
    ConnectionsOptions,
    LoadOptions,
    TopicsOptions,
    parse,
)
from bench.processes import end_in_order_when_terminated
from bench.progress import Display, console
from bench.results import Backlog, Growth, Round, Trace

T = TypeVar("T")

SPARE_FILES: Final = 200
"""Descriptors that a process needs beside its connections."""


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; the exit status: 2 when events were lost or repeated."""
    try:
        options = parse(arguments)
        if isinstance(options, ConnectionsOptions):
            _allow_files(options.count + SPARE_FILES)
            return asyncio.run(_connections(options))
        if isinstance(options, LoadOptions):
            return asyncio.run(_load(options))
        return asyncio.run(_growth(options))
    except (BenchError, ActorbusError, OSError) as error:
        console.print(f"bench: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


async def _load(options: LoadOptions) -> int:
    machine = environment.describe()
    rounds: list[Round] = []
    traces: list[Trace] = []
    with Display() as display:
        for number in range(options.rounds):
            display.phase(f"round {number + 1} of {options.rounds}: starting the broker")
            async with serving(options.url, options.store) as broker:
                result, trace = await load.run_round(options, broker, display)
            rounds.append(result)
            traces.append(trace)
    path = _path(options.out, options.name or f"load-{_now()}")
    report.print_load(options, rounds, machine)
    report.save(path.with_name(f"{path.name}.json"), options, rounds, machine)
    plot.plot_load(path.with_name(f"{path.name}.png"), report.title(options), traces)
    _say_where(path)
    return 2 if any(_wrong(each) for each in rounds) else 0


async def _connections(options: ConnectionsOptions) -> int:
    machine = environment.describe()
    rounds = await _rounds(options.rounds, partial(connections.run_round, options))
    path = _path(options.out, options.name or f"connections-{_now()}")
    report.print_idle(rounds, machine)
    report.save(path.with_name(f"{path.name}.json"), options, rounds, machine)
    plot.plot_idle(path.with_name(f"{path.name}.png"), rounds)
    _say_where(path)
    return 0


async def _growth(options: TopicsOptions | BacklogOptions) -> int:
    machine = environment.describe()
    rounds: list[Growth] = []
    if isinstance(options, TopicsOptions):
        rounds += await _rounds(options.rounds, partial(topics.run_round, options))
    else:
        rounds += await _rounds(options.rounds, partial(backlog.run_round, options))
    kind = report.kind_of(options)
    path = _path(options.out, options.name or f"{kind}-{_now()}")
    report.print_growth(kind, rounds, machine)
    report.save(path.with_name(f"{path.name}.json"), options, rounds, machine)
    plot.plot_growth(path.with_name(f"{path.name}.png"), kind, rounds)
    _say_where(path)
    return 2 if any(isinstance(each, Backlog) and each.lost for each in rounds) else 0


async def _rounds(count: int, run_round: Callable[[Display], Awaitable[T]]) -> list[T]:
    results: list[T] = []
    with Display() as display:
        for number in range(count):
            display.phase(f"round {number + 1} of {count}: starting the broker")
            results.append(await run_round(display))
    return results


def _wrong(result: Round) -> bool:
    return any(group.verdict.lost or group.verdict.duplicates for group in result.groups)


def _allow_files(count: int) -> None:
    """Let this process and its children have so many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise BenchError(f"{count} open files are needed and {hard} allowed; raise `ulimit -n`")
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _path(out: Path, name: str) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    return out / name


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S")


def _say_where(path: Path) -> None:
    console.print(f"saved as {path}.json and .png", style="dim", soft_wrap=True)


if __name__ == "__main__":
    end_in_order_when_terminated()
    sys.exit(main(sys.argv[1:]))
