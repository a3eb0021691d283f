"""Finds out what the app subscribes to, and pushes that to it."""

import asyncio
from typing import Final

import structlog

from actorbus.client.backoff import Backoff
from actorbus.errors import RefusedError
from transport.dapr.delivery import Source
from transport.dapr.door import Door
from transport.dapr.metadata import Rule, Subscribed
from transport.dapr.resources.load import Resources
from transport.dapr.resources.subscription import Subscription
from transport.dapr.settling import Policy
from transport.dapr.sidecar.app import App, AppAwayError, NoAnswerError
from transport.dapr.sidecar.caller import HOLD_SECONDS, Caller
from transport.dapr.sidecar.config import SidecarConfig
from transport.dapr.sidecar.discovery import Discovered, merged
from transport.dapr.sidecar.grpc_app import GrpcApp
from transport.dapr.sidecar.http_app import HttpApp
from transport.dapr.sidecar.presence import Presence
from transport.dapr.sidecar.push import Feed, Push

log = structlog.get_logger("actorbus.dapr")

ASKED: Final = 4
"""How often the app is asked what it subscribes to, as by Dapr, before that counts as nothing."""

AGAIN: Final = (0.5, 4.0)
"""First and longest wait before it is asked again, seconds."""


class Subscriber:
    """All subscriptions of the app. Made within a running event loop.

    Args:
        config: where the app is.
        port: of the app.
        door: what has the connections.
        resources: declared subscriptions and retry policies.
    """

    def __init__(self, config: SidecarConfig, port: int, door: Door, resources: Resources) -> None:
        self._config = config
        self._door = door
        self._resources = resources
        self._presence = Presence(config.app_host, port)
        self._app = _app(config, door)
        self._caller = Caller(self._app, self._presence, config.max_concurrency, hold=HOLD_SECONDS)
        self._pushes: list[Push] = []
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> int:
        """Wait for the app, ask it, and subscribe; the number of subscriptions.

        Raises:
            ActorbusError: the app does not come, or what it wants can't be served.
        """
        config = self._config
        await self._presence.first(config.app_wait)
        found = await self._ask()
        for problem in found.problems:
            log.error("subscription_left_out", reason=problem)
        declared = self._resources.subscriptions_of(config.app_id)
        for one in merged(found.subscriptions, declared):
            await self._open(one)
        return len(self._pushes)

    async def run(self) -> None:
        """Push events until `close`.

        Raises:
            ActorbusError: a connection to the broker ended for good.
        """
        if self._running:
            done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                await task
        await asyncio.Event().wait()

    async def drain(self) -> None:
        """Take nothing new, and finish what is under way. Bounded."""
        await asyncio.gather(*(push.drain() for push in self._pushes))

    async def close(self) -> None:
        """Break off what is under way, and disconnect. Bounded."""
        await asyncio.gather(*(push.close() for push in self._pushes))
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._presence.close()
        await self._app.close()

    async def _ask(self) -> Discovered:
        backoff = Backoff(*AGAIN)
        reason = ""
        for attempt in range(ASKED):
            if attempt:
                await asyncio.sleep(backoff.next())
            try:
                return await self._app.subscriptions()
            except NoAnswerError as error:
                reason = error.message
            except AppAwayError as error:
                reason = error.message
                await self._presence.first(self._config.app_wait)
        return Discovered(problems=(f"the app does not say what it subscribes to: {reason}",))

    async def _open(self, wanted: Subscription) -> None:
        """Subscribe; what the broker refuses is left out."""
        config, door = self._config, self._door
        if not door.config.serves(wanted.component, config.app_id):
            log.error(
                "subscription_left_out",
                topic=wanted.topic,
                reason=f"there is no component {wanted.component[:120]}: --resources-path defines"
                " components, and --url is pubsub",
            )
            return
        policy = Policy(
            dead_letter_topic=wanted.dead_letter_topic,
            retries=self._resources.retries(wanted.component, config.app_id),
        )
        source = Source(wanted.component, wanted.topic, wanted.raw_payload())
        feed = Feed(source, wanted.routes, policy, wanted.bulk)
        window = feed.window(config.max_concurrency)
        bus = door.buses.make(wanted.component, config.app_id, max_in_flight=window)
        push = Push(self._caller, feed, bus)
        try:
            await push.open()
        except RefusedError as error:
            log.error("subscription_left_out", topic=wanted.topic, reason=error.message)  # noqa: TRY400 - no failure of ours
            return
        self._pushes.append(push)
        self._running.append(asyncio.create_task(push.run()))
        door.metadata.subscribe(config.app_id, shown(wanted))


def shown(wanted: Subscription) -> Subscribed:
    """A subscription as `/v1.0/metadata` shows it."""
    rules = [
        Rule("" if rule.match is None else rule.match.source, rule.path)
        for rule in wanted.routes.rules
    ]
    if wanted.routes.default is not None:
        rules.append(Rule(path=wanted.routes.default))
    return Subscribed(
        component=wanted.component,
        topic=wanted.topic,
        kind=wanted.kind,
        metadata=wanted.metadata,
        rules=tuple(rules),
        dead_letter_topic=wanted.dead_letter_topic or "",
    )


def _app(config: SidecarConfig, door: Door) -> App:
    if config.app_protocol == "grpc":
        return GrpcApp(config.app_address, config.app_token)
    default = door.config.default_component()
    return HttpApp(config.app_address, config.app_token, default)
