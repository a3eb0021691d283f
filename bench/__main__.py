"""`python -m bench [load | connections] OPTIONS`; see README.md."""

import asyncio
import resource
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from actorbus import ActorbusError
from bench import connections, environment, load, plot, report
from bench.broker import serving
from bench.options import BenchError, ConnectionsOptions, LoadOptions, parse
from bench.progress import Display, console
from bench.results import Idle, Round, Trace

SPARE_FILES: Final = 200
"""Descriptors that a process needs beside its connections."""


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; the exit status: 2 when events were lost or repeated."""
    try:
        options = parse(arguments)
        if isinstance(options, ConnectionsOptions):
            _allow_files(options.count + SPARE_FILES)
            return asyncio.run(_connections(options))
        return asyncio.run(_load(options))
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
    rounds: list[Idle] = []
    with Display() as display:
        for number in range(options.rounds):
            display.phase(f"round {number + 1} of {options.rounds}: starting the broker")
            async with serving(options.url, options.store) as broker:
                rounds.append(await connections.run_round(options, broker, display))
    path = _path(options.out, options.name or f"connections-{_now()}")
    report.print_idle(rounds, machine)
    report.save(path.with_name(f"{path.name}.json"), options, rounds, machine)
    plot.plot_idle(path.with_name(f"{path.name}.png"), rounds)
    _say_where(path)
    return 0


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
    sys.exit(main(sys.argv[1:]))
