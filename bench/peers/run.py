"""One run: a contestant does the work of one measure, and what arrived is judged."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import Final

from bench.load import (
    ANSWER_SECONDS,
    LEAD_SECONDS,
    LOOK_SECONDS,
    READY_SECONDS,
    merged,
    per_second,
)
from bench.measure import confirmed, judge
from bench.messages import (
    PeerPublisherTask,
    PeerSubscriberTask,
    Published,
    Received,
    Report,
    Start,
)
from bench.options import warmup_of
from bench.peers.contestants import Contestant
from bench.peers.measures import Measure
from bench.peers.peer import Peer, Running
from bench.peers.results import Sample
from bench.processes import AppProcess, running
from bench.progress import Display
from bench.results import latency_ms
from bench.usage import Usage

PATIENCE_SECONDS: Final = 10.0
"""How long nothing may arrive before what is missing counts as lost: no server here is killed, so
nothing is on its way that a lease of 30 s would bring again."""

IN_FLIGHT: Final = 1000
"""Deliveries that a subscriber may have unacknowledged: twice what is in flight to the server."""


class Run:
    """A contestant at work.

    Args:
        contestant: who it is.
        peer: the same, opened.
        server: its running server.
        measure: the work.
        seconds: of publishing, warm-up included.
    """

    def __init__(
        self, contestant: Contestant, peer: Peer, server: Running, measure: Measure, seconds: float
    ) -> None:
        self._contestant = contestant
        self._peer = peer
        self._server = server
        self._measure = measure
        self._seconds = seconds
        self._topic = f"bench{secrets.token_hex(4)}"
        self._groups = [f"group-{number}" for number in range(measure.groups)]

    async def run(self, display: Display) -> Sample:
        """Do it.

        Raises:
            BenchError: a process failed, or took too long.
        """
        address, topic = self._server.address, self._topic
        await self._peer.prepare(address, topic, self._groups)
        try:
            return await self._with_apps(display)
        finally:
            await self._peer.discard(address, topic, self._groups)

    async def _with_apps(self, display: Display) -> Sample:
        subscribing = [(group, self._subscriber(group)) for group in self._groups]
        publishing = [("the publisher", self._publisher())]
        async with (
            running("bench.peers.subscriber", subscribing, READY_SECONDS) as subscribers,
            running("bench.peers.publisher", publishing, READY_SECONDS) as publishers,
        ):
            (publisher,) = publishers
            before = await asyncio.to_thread(self._server.usage)
            start = self._start([*subscribers, publisher])
            sent = await self._published(publisher, display)
            got = await self._arrived(subscribers, sent)
            after = await asyncio.to_thread(self._server.usage)
        return sample(self._measure, start, sent, got, (before, after))

    def _publisher(self) -> PeerPublisherTask:
        measure, rate = self._measure, self._measure.rate
        return PeerPublisherTask(
            contestant=self._contestant.name,
            address=self._server.address,
            topic=self._topic,
            number=0,
            payload=measure.payload,
            window=measure.window,
            batch=measure.batch or self._contestant.batch,
            events=None,
            seconds=self._seconds,
            rate=rate,
            phase=0.0,
        )

    def _subscriber(self, group: str) -> PeerSubscriberTask:
        return PeerSubscriberTask(
            contestant=self._contestant.name,
            address=self._server.address,
            topic=self._topic,
            group=group,
            in_flight=IN_FLIGHT,
        )

    def _start(self, apps: Sequence[AppProcess]) -> Start:
        at = time.monotonic_ns() + round(LEAD_SECONDS * 1e9)
        start = Start(at=at, measured_from=at + round(warmup_of(self._seconds) * 1e9))
        for app in apps:
            app.tell(start)
        return start

    async def _published(self, publisher: AppProcess, display: Display) -> Published:
        answer = asyncio.create_task(
            publisher.expect(Published, LEAD_SECONDS + self._seconds + ANSWER_SECONDS)
        )
        while not answer.done():
            display.show()
            await asyncio.wait([answer], timeout=LOOK_SECONDS)
        return answer.result()

    async def _arrived(self, subscribers: Sequence[AppProcess], sent: Published) -> list[Received]:
        """Wait until every group has everything, or nothing has come for too long."""
        needed = sent.claimed - len(sent.failed)
        seen, changed = [-1], time.monotonic()
        while True:
            for app in subscribers:
                app.check()
            counts = [0 if app.progress is None else app.progress.count for app in subscribers]
            if counts != seen:
                seen, changed = counts, time.monotonic()
            if min(counts) >= needed or time.monotonic() - changed > PATIENCE_SECONDS:
                break
            await asyncio.sleep(LOOK_SECONDS)
        for app in subscribers:
            app.tell(Report())
        return await asyncio.gather(*(app.expect(Received, ANSWER_SECONDS) for app in subscribers))


def sample(
    measure: Measure,
    start: Start,
    sent: Published,
    got: Sequence[Received],
    usage: tuple[Usage, Usage],
) -> Sample:
    """What a run amounts to."""
    published = [confirmed(sent.claimed, sent.failed)]
    verdicts = [judge(published, each.received, [each.bitmaps]) for each in got]
    last = max(each.last for each in got)
    rate = per_second(sum(each.measured for each in got), start.measured_from, last)
    events = sent.claimed - len(sent.failed)
    cpu = usage[1].cpu_seconds - usage[0].cpu_seconds
    return Sample(
        published=events,
        failed=len(sent.failed),
        lost=sum(verdict.lost for verdict in verdicts),
        duplicates=sum(verdict.duplicates for verdict in verdicts),
        per_second=rate,
        mb_per_second=round(rate * measure.payload / 1e6, 2),
        latency_ms=latency_ms(merged(got)),
        server_cpu_us=round(cpu * 1e6 / events, 2) if events else 0.0,
    )
