"""`python -m bench.peers OPTIONS`; see ../README.md."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from bench import environment
from bench.options import BenchError
from bench.peers import chart, report, versions
from bench.peers.comparison import compare
from bench.peers.options import PeersOptions, parse
from bench.peers.results import Outcome, wrong
from bench.processes import end_in_order_when_terminated
from bench.progress import console


def main(arguments: Sequence[str]) -> int:
    """Compare; the exit status: 1 when a run failed, 2 when actorbus lost or repeated events."""
    options = parse(arguments)
    try:
        machine = environment.describe(versions.PACKAGES) | {"servers": versions.of_servers()}
        outcomes = asyncio.run(compare(options))
    except (BenchError, OSError) as error:
        console.print(f"bench: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / (options.name or f"peers-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    report.print_all(options, outcomes, machine)
    report.save(path.with_name(f"{path.name}.json"), options, outcomes, machine)
    chart.plot(path.with_name(f"{path.name}.png"), options, outcomes)
    console.print(f"saved as {path}.json and .png", style="dim", soft_wrap=True)
    return _status(options, outcomes)


def _status(options: PeersOptions, outcomes: Sequence[Outcome]) -> int:
    ours = {each.name for each in options.contestants if each.ours}
    if ours & wrong(outcomes).keys():
        return 2
    return 1 if any(each.error for each in outcomes) else 0


if __name__ == "__main__":
    end_in_order_when_terminated()
    sys.exit(main(sys.argv[1:]))
