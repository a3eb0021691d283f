"""`python -m bench.dapr OPTIONS`; see ../README.md."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from bench import environment
from bench.dapr import chart, report
from bench.dapr.comparison import compare
from bench.dapr.options import parse
from bench.dapr.targets import reached
from bench.options import BenchError
from bench.processes import end_in_order_when_terminated
from bench.progress import console

PACKAGES: Final = ("dapr", "grpcio", "httptools", "uvicorn")


def main(arguments: Sequence[str]) -> int:
    """Compare; the exit status: 1 when a run failed, 2 when a target is missed."""
    options = parse(arguments)
    try:
        machine = environment.describe(PACKAGES)
        rounds = asyncio.run(compare(options))
    except (BenchError, OSError) as error:
        console.print(f"bench: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    found = reached(rounds)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / (options.name or f"dapr-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    report.print_all(rounds, found, machine)
    report.save(path.with_name(f"{path.name}.json"), options, rounds, found, machine)
    chart.plot(path.with_name(f"{path.name}.png"), rounds, found)
    console.print(f"saved as {path}.json and .png", style="dim", soft_wrap=True)
    return 0 if all(each.met for each in found) else 2


if __name__ == "__main__":
    end_in_order_when_terminated()
    sys.exit(main(sys.argv[1:]))
