"""A subscriber process, one instance of a group: `python -m bench.subscriber TASK`."""

import actorbus
from bench.app import Bench, main
from bench.arrivals import Arrivals, take_for
from bench.messages import Ready, SubscriberTask


async def work(task: SubscriberTask, bench: Bench) -> None:
    """Connect, subscribe, take deliveries, and report when asked to."""
    arrivals = Arrivals(task.publishers)
    connection = actorbus.connect(
        task.url,
        app_id=task.app_id,
        instance=task.instance,
        max_in_flight=task.max_in_flight,
        encoding=task.encoding,
    )
    async with connection as bus, bus.subscribe(task.topic) as deliveries:
        bench.tell(Ready())
        await take_for(bench, arrivals, take(deliveries, arrivals))


async def take(deliveries: actorbus.Subscription, arrivals: Arrivals) -> None:
    """Handle deliveries as an app would, each acknowledged by itself, until cancelled."""
    async for delivery in deliveries:
        arrivals.note(delivery.data, delivery.attempt)
        await delivery.ack()


if __name__ == "__main__":
    main(SubscriberTask, work)
