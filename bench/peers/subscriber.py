"""A subscriber process of a comparison, one a group: `python -m bench.peers.subscriber TASK`."""

from bench.app import Bench, main
from bench.arrivals import Arrivals, take_for
from bench.messages import PeerSubscriberTask, Ready
from bench.peers.contestants import CONTESTANTS
from bench.peers.peer import Share, told


async def work(task: PeerSubscriberTask, bench: Bench) -> None:
    """Connect, take deliveries, and report when asked to."""
    arrivals = Arrivals(publishers=1)
    share = Share(
        address=task.address, topic=task.topic, group=task.group, in_flight=task.in_flight
    )
    peer = CONTESTANTS[task.contestant].open()
    taking = peer.take(share, arrivals.note, lambda: bench.tell(Ready()))
    with told():
        await take_for(bench, arrivals, taking)


if __name__ == "__main__":
    main(PeerSubscriberTask, work)
