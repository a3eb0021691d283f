"""The groups and their options, shared by all brokers on one RabbitMQ.

They live in a stream: joining, changing or forgetting a group appends one small record, confirmed.
Every broker reads the stream from its beginning when it starts, and then follows it. What is in
force is what has been read back, so all brokers come to the same options (`records`).

A stream, because AMQP offers nothing else that is durable, ordered, can be read by many and be read
again. It lives beside the queues: no second system has to be run, backed up or kept in step.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic

from actorbus.errors import StoreUnavailableError
from actorbus.events import new_event_id
from actorbus.store import GroupOptions
from transport.stores.rabbitmq.calls import CALL_SECONDS, within
from transport.stores.rabbitmq.connections import Link, end_channel
from transport.stores.rabbitmq.publisher import Outgoing, Publisher
from transport.stores.rabbitmq.records import STREAM_BYTES, Groups, Key, Kind, Record, read, write
from transport.stores.rabbitmq.topology import Topology

STREAM: Final = "actorbus.groups"
_ARGUMENTS: Final = {
    "x-max-length-bytes": STREAM_BYTES,
    "x-stream-max-segment-size-bytes": 1024 * 1024,  # dropped in whole segments: keep them small
}
_PREFETCH: Final = 1_000
_RETRY_SECONDS: Final = 0.5

log = structlog.get_logger("actorbus.store")


class Registry:
    """Follows the stream; answers from memory.

    Attributes:
        groups: what has been read so far.
        tried: set once the first attempt to read has ended either way.
        reason: why the stream is not read, None while it is or has not been tried.
        read_once: everything that was there at some time since the start has been read.
        caught_up: set while everything that was there when the connection came up has been read.
        on_forget: called with a group that has been forgotten, by whatever broker.
    """

    def __init__(
        self,
        link: Link,
        topology: Topology,
        publisher: Publisher,
        on_forget: Callable[[Key], None],
    ) -> None:
        self.groups = Groups()
        self.caught_up = asyncio.Event()
        self.tried = asyncio.Event()
        self.reason: str | None = None
        self.read_once = False
        self.on_forget = on_forget
        self._link = link
        self._links = (link, topology.link)
        self._topology = topology
        self._publisher = publisher
        self._next: int | None = None
        self._restore = False
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._keeping: set[str] = set()
        self._lost = asyncio.Event()
        self._up = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        for each in self._links:
            each.on_up.append(self._up.set)

    def start(self) -> None:
        """Begin to follow the stream."""
        self._spawn(self._run())

    async def close(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def check(self) -> None:
        """Raise `StoreUnavailableError` while the groups are not known."""
        self._link.check()
        if not self.caught_up.is_set():
            raise StoreUnavailableError(self.reason or f"stream {STREAM!r} has not been read yet")

    async def change(
        self, topic: str, app_id: str, changes: Mapping[str, int | str | None]
    ) -> GroupOptions:
        """Create a group or change its options; returns those in force once they are durable."""
        self.check()
        known = self.groups.options((topic, app_id))
        options = (known or GroupOptions()).changed(changes)
        if options == known:
            return options
        record = self._record("join", (topic, app_id), dict(changes), options)
        await self._write_through(record)
        return self.groups.options((topic, app_id)) or options

    async def forget(self, key: Key) -> None:
        """Remove a group from the registry."""
        await self._write_through(self._record("forget", key))

    def _record(
        self,
        kind: Kind,
        key: Key = ("", ""),
        changes: dict[str, int | str | None] | None = None,
        options: GroupOptions | None = None,
    ) -> Record:
        return Record(
            kind=kind,
            id=new_event_id(),
            topic=key[0],
            app_id=key[1],
            changes=changes or {},
            options=options,
        )

    async def _write_through(self, record: Record) -> None:
        """Append a record and wait until it has been read back."""
        read_back = asyncio.get_running_loop().create_future()
        self._waiting[record.id] = read_back
        try:
            await self._append(record)
            await within(CALL_SECONDS, f"stream {STREAM!r} gave nothing back", _wait(read_back))
        finally:
            del self._waiting[record.id]

    async def _append(self, record: Record) -> None:
        properties = Basic.Properties(delivery_mode=2, message_id=new_event_id())
        message = Outgoing("", STREAM, write(record), properties)
        if not await self._publisher.publish([message], seconds=CALL_SECONDS / 2):
            self._deleted()
            raise StoreUnavailableError(f"stream {STREAM!r} is gone")

    # --- following ----------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._connected()
            try:
                await self._follow()
            except StoreUnavailableError as error:
                if error.message != self.reason:
                    log.warning("registry_unread", reason=error.message)
                self.reason = error.message
                self.tried.set()
            self.caught_up.clear()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _connected(self) -> None:
        while any(link.reason is not None for link in self._links):
            self._up.clear()
            await self._up.wait()

    async def _follow(self) -> None:
        """Read until the channel is lost."""
        await self._topology.stream(STREAM, _ARGUMENTS)
        channel = await self._link.channel()
        self._lost.clear()
        channel.closing.add_done_callback(lambda _: self._lost.set())
        channel.on_consumer_cancel_callbacks.add(lambda _: self._deleted())
        try:
            await within(CALL_SECONDS, f"stream {STREAM!r} is not read", self._consume(channel))
            await self._write_through(self._record("mark"))
            self.reason, self.read_once = None, True
            self.caught_up.set()
            self.tried.set()
            self._keep()
            await self._lost.wait()  # as long as the store is open
        finally:
            await end_channel(channel)

    def _deleted(self) -> None:
        """The stream was deleted: it is declared anew, and filled from what is known here."""
        self._next = None
        self._restore = True
        self._lost.set()

    async def _consume(self, channel: Channel) -> None:
        await channel.basic_qos(prefetch_count=_PREFETCH)
        offset = "first" if self._next is None else self._next

        async def on_message(message: DeliveredMessage) -> None:
            self._on_message(message)
            if message.delivery_tag is not None:
                await channel.basic_ack(message.delivery_tag, wait=False)

        await channel.basic_consume(STREAM, on_message, arguments={"x-stream-offset": offset})

    def _on_message(self, message: DeliveredMessage) -> None:
        offset: Any = (message.header.properties.headers or {}).get("x-stream-offset")
        if not isinstance(offset, int) or (self._next is not None and offset < self._next):
            return  # a chunk is delivered from its beginning, before the offset asked for
        self._next = offset + 1
        record = read(message.body)
        if record is None:
            log.warning("registry_record_unknown", offset=offset)
            return
        known = self.groups.options(record.key)
        self.groups.apply(record, len(message.body))
        if known is not None and self.groups.options(record.key) is None:
            self.on_forget(record.key)
        read_back = self._waiting.get(record.id)
        if read_back is not None and not read_back.done():
            read_back.set_result(None)
        self._keeping.discard(record.id)
        if self.caught_up.is_set():
            self._keep()

    # --- keeping what the stream would drop ----------------------------------------------------

    def _keep(self) -> None:
        """Repeat the groups that are ageing, one round at a time."""
        if self._keeping:
            return
        keys = self.groups.all() if self._restore else self.groups.ageing()
        self._restore = False
        records = [self._record("keep", key, None, self.groups.options(key)) for key in keys]
        if records:
            self._keeping.update(record.id for record in records)
            self._spawn(self._append_kept(records))

    async def _append_kept(self, records: list[Record]) -> None:
        try:
            for record in records:
                await self._append(record)
        except StoreUnavailableError as error:
            log.warning("registry_not_kept", reason=error.message)
        finally:
            self._keeping.clear()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work, name="rabbitmq registry")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _wait(future: "asyncio.Future[None]") -> None:
    await future
