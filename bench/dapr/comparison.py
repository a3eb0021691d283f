"""All runs of all rounds, in turn."""

import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from bench.dapr import clients, servers
from bench.dapr.options import DaprOptions
from bench.dapr.servers import Server
from bench.dapr.targets import Figures
from bench.options import OUT
from bench.peers.comparison import rotated
from bench.progress import Display


async def compare(options: DaprOptions) -> list[Figures]:
    """Run everything; the runs that make a ratio are seconds apart.

    Raises:
        BenchError: a run failed.
    """
    OUT.mkdir(exist_ok=True)  # on the disk of the checkout: /tmp may be none
    with Display() as display, tempfile.TemporaryDirectory(dir=OUT) as directory:
        found = []
        for number in range(options.rounds):
            display.phase(f"round {number + 1} of {options.rounds}")
            found.append(await _round(options, Path(directory), number))
        return found


async def _round(options: DaprOptions, directory: Path, number: int) -> Figures:
    figures: Figures = {}
    async with AsyncExitStack() as stack:

        async def start(arguments: list[str], lines: int) -> Server:
            return await stack.enter_async_context(servers.running(arguments, lines, directory))

        brokers = {
            "memory": await start(servers.broker("memory:"), 3),
            "sqlite": await start(servers.broker(f"sqlite:{directory}/{number}.db"), 3),
        }
        for measure in options.measures:
            empty = await start(servers.empty(measure, options.payload), 1 + (measure != "http"))
            rates = await _measure(measure, {"empty": empty, **brokers}, options, number)
            figures |= {f"{measure}_{name}": rate for name, rate in rates.items()}
    return figures


async def _measure(
    measure: str, found: Mapping[str, Server], options: DaprOptions, number: int
) -> dict[str, float]:
    """The rates by server; each round begins with another one."""
    run = clients.MEASURES[measure]
    return {name: await run(found[name], options) for name in rotated(list(found), number)}
