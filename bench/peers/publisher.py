"""The publisher process of a comparison: `python -m bench.peers.publisher TASK`."""

from bench.app import Bench, main
from bench.messages import PeerPublisherTask
from bench.peers.contestants import CONTESTANTS
from bench.peers.peer import told
from bench.publisher import publish_for


async def work(task: PeerPublisherTask, bench: Bench) -> None:
    """Connect, wait for the start, publish, tell the result."""
    peer = CONTESTANTS[task.contestant].open()
    with told():
        async with peer.publisher(task.address, task.topic, task.window) as outlet:
            await publish_for(bench, task, outlet)


if __name__ == "__main__":
    main(PeerPublisherTask, work)
