"""RabbitMQ: supervised connections, publishing with confirms, consuming. Only here and in `confirms` is aio-pika known."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import aio_pika
import aiormq
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractQueue

from chassis.confirms import Answer, BrokerUnavailable, ConfirmChannel, Outgoing, PublishRefused
from chassis.telemetry import log
from contracts import topology

CONNECT_TIMEOUT_S = 5
RECONNECT_DELAYS_S = (0.1, 0.2, 0.5, 1, 2)  # then 2 s for ever: consuming again within 5 s of a broker's return
HEARTBEAT_S = 10
WATCHDOG_S = 5
BROKER_START_S_MAX = 60  # the longest a set-up waits for a broker that is starting
PUBLISH_CHANNELS = 4
LEAVE_S_MAX = 1.0  # on a dead link nobody answers
BRIEF_S_MAX = 15  # for a queue that is declared or deleted while the service runs
CONNECTION_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    aiormq.exceptions.AMQPError,
    aio_pika.exceptions.AMQPException,
    StopAsyncIteration,  # aiormq's word for a server that hangs up during the handshake
)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as it came; acknowledging its tag is the subscription's business."""

    tag: int
    message_id: str
    routing_key: str
    body: bytes
    headers: Mapping[str, Any]


Session = Callable[[AbstractConnection], Awaitable[None]]


async def keep_connected(url: str, name: str, session: Session) -> None:
    """Run `session` on a connection for ever: any close or error tears all down, backs off with jitter and rebuilds."""
    failures = 0
    while True:
        try:
            connection = await aio_pika.connect(
                f"{url}?heartbeat={HEARTBEAT_S}", timeout=CONNECT_TIMEOUT_S, client_properties={"connection_name": name}
            )
            async with connection:
                failures = 0
                await _until_closed(connection, session)
        except CONNECTION_ERRORS as error:
            log.warning("broker.disconnected", connection=name, error=repr(error))
        delay_s = RECONNECT_DELAYS_S[min(failures, len(RECONNECT_DELAYS_S) - 1)]
        failures += 1
        await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311 - jitter


async def _until_closed(connection: AbstractConnection, session: Session) -> None:
    closed = asyncio.Event()
    connection.close_callbacks.add(lambda *_: closed.set())
    work = asyncio.ensure_future(session(connection))
    watch = asyncio.ensure_future(closed.wait())
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        for task in (work, watch):
            task.cancel()
        await asyncio.gather(work, watch, return_exceptions=True)


class Publisher:
    """Publishes with confirms on a few channels of its own connection."""

    def __init__(self, url: str, *, name: str) -> None:
        self._url = url
        self._name = name
        self._connection: AbstractConnection | None = None
        self._channels: list[ConfirmChannel] = []
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        await keep_connected(self._url, f"{self._name}.publish", self._session)

    async def _session(self, connection: AbstractConnection) -> None:
        channels = [
            await connection.channel(publisher_confirms=True, on_return_raises=True) for _ in range(PUBLISH_CHANNELS)
        ]
        self._channels = [ConfirmChannel(await channel.get_underlay_channel()) for channel in channels]
        lost = asyncio.Event()
        for channel in channels:
            channel.close_callbacks.add(lambda *_: lost.set())
        self._connection = connection
        self.ready.set()
        try:
            await lost.wait()
        finally:
            self.ready.clear()
            self._channels, self._connection = [], None

    async def look(self, queue: str) -> QueueState | None:
        """What is in a queue and who takes it out, None when there is no such queue; raises `BrokerUnavailable`."""
        if self._connection is None:
            raise BrokerUnavailable
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                channel = await self._connection.channel(publisher_confirms=False)
                try:
                    found = await channel.declare_queue(queue, passive=True)
                except aio_pika.exceptions.ChannelNotFoundEntity:
                    return None
                await channel.close()
        except CONNECTION_ERRORS as error:
            raise BrokerUnavailable(repr(error)) from error
        return QueueState(found.declaration_result.message_count or 0, found.declaration_result.consumer_count or 0)

    async def publish(self, message: Outgoing) -> None:
        """Return when the broker has it safe; raises `PublishRefused` or `BrokerUnavailable`."""
        [answer] = await self.publish_all([message])
        if answer is not None:
            raise answer

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[Answer]:
        """What `publish` would have said of each, in order; messages of one slot keep theirs, across calls too."""
        channels = self._channels
        if not channels:
            return [BrokerUnavailable() for _ in messages]
        chosen: dict[int, list[int]] = {}
        for index, message in enumerate(messages):
            chosen.setdefault(message.slot % len(channels), []).append(index)
        answers: list[Answer] = [None] * len(messages)

        async def send(number: int, indexes: list[int]) -> None:
            for index, answer in zip(
                indexes, await channels[number].send([messages[index] for index in indexes]), strict=True
            ):
                answers[index] = answer

        await asyncio.gather(*(send(number, indexes) for number, indexes in chosen.items()))
        return answers


class QueueState(NamedTuple):
    """Messages ready in a queue, and how many consume it."""

    ready: int
    consumers: int


@dataclass(frozen=True)
class Subscription:
    """One queue consumed on a channel of its own; `handle` gets batches and returns when they may be acknowledged."""

    queue: str
    handle: Callable[[list[Incoming]], Awaitable[None]]
    prefetch: int = 300
    batch_max: int = 100


class Subscriber:
    """Consumes queues on its own connection and notices when the broker silently stopped delivering."""

    def __init__(self, url: str, *, name: str, subscriptions: list[Subscription]) -> None:
        self._url = url
        self._name = name
        self._subscriptions = {subscription.queue: subscription for subscription in subscriptions}
        self._active: set[str] = set()
        self._tasks: dict[str, asyncio.Future[None]] = {}
        self._changed = asyncio.Event()

    @property
    def missing(self) -> list[str]:
        """Queues that should be consumed and are not."""
        return [queue for queue in self._subscriptions if queue not in self._active]

    @property
    def active(self) -> frozenset[str]:
        """Queues that are consumed now."""
        return frozenset(self._active)

    def add(self, subscription: Subscription) -> None:
        """Consume one more queue from now on."""
        self._subscriptions[subscription.queue] = subscription
        self._changed.set()

    async def remove(self, queue: str) -> None:
        """Return when it is consumed no more; what was not acknowledged goes back to it."""
        self._subscriptions.pop(queue, None)
        task = self._tasks.pop(queue, None)
        if task is not None:
            await _cancelled([task])

    async def run(self) -> None:
        """Consume until cancelled."""
        await keep_connected(self._url, f"{self._name}.consume", self._session)

    async def _session(self, connection: AbstractConnection) -> None:
        self._tasks = {}
        try:
            while True:
                self._changed.clear()
                for queue in self._subscriptions.keys() - self._tasks.keys():
                    self._tasks[queue] = asyncio.ensure_future(self._consume(connection, self._subscriptions[queue]))
                await self._something_happened()
        finally:
            await _cancelled([*self._tasks.values()])

    async def _something_happened(self) -> None:
        """A subscription came, or one ended, which raises its error."""
        changed: asyncio.Future[Any] = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait([changed, *self._tasks.values()], return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        for task in [*self._tasks.values()]:
            if task.done():
                task.result()

    async def _consume(self, connection: AbstractConnection, subscription: Subscription) -> None:
        channel = await connection.channel(publisher_confirms=False)
        underlay = await channel.get_underlay_channel()
        await channel.set_qos(prefetch_count=subscription.prefetch)
        await channel.declare_queue(subscription.queue, passive=True)
        arrived: asyncio.Queue[Incoming] = asyncio.Queue()

        async def take(message: aiormq.abc.DeliveredMessage) -> None:
            arrived.put_nowait(_incoming(message))

        # Beneath aio-pika, which makes a second task and an object of twenty fields of every message.
        tag = (await underlay.basic_consume(subscription.queue, take)).consumer_tag
        self._active.add(subscription.queue)
        handling = asyncio.ensure_future(handle_for_ever(underlay, arrived, subscription))
        try:
            while not handling.done():
                await asyncio.wait({handling}, timeout=WATCHDOG_S)
                if tag not in cast("aiormq.Channel", underlay).consumers or channel.is_closed:
                    log.error("broker.consumer_lost", queue=subscription.queue)
                    raise aiormq.exceptions.ChannelClosed(0, "the consumer is gone")
            handling.result()
        finally:
            await _cancelled([handling])
            self._active.discard(subscription.queue)
            if not connection.is_closed:  # consumed no more while others are: what is unacknowledged goes back
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(LEAVE_S_MAX):
                        await channel.close()


async def _cancelled(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Acknowledging(Protocol):
    """What handling needs of a channel."""

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> Awaitable[None]: ...


async def handle_for_ever(channel: Acknowledging, arrived: asyncio.Queue[Incoming], subscription: Subscription) -> None:
    """Batches of what arrived, each acknowledged once it is handled."""
    while True:
        batch = [await arrived.get()]
        while len(batch) < subscription.batch_max and not arrived.empty():
            batch.append(arrived.get_nowait())
        await subscription.handle(batch)
        await channel.basic_ack(batch[-1].tag, multiple=True)  # delivery order: everything up to here is done


def _incoming(message: aiormq.abc.DeliveredMessage) -> Incoming:
    properties = message.header.properties
    return Incoming(
        tag=message.delivery_tag or 0,
        message_id=properties.message_id or "",
        routing_key=message.routing_key or "",
        body=message.body,
        headers=properties.headers or {},
    )


_QUORUM: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-overflow": "reject-publish",
    "x-dead-letter-strategy": "at-least-once",
    "x-dead-letter-exchange": "",
}


@dataclass(frozen=True)
class Bound:
    """A consumer's queue: what it binds to, as (producer, routing key), and whether only one at a time consumes it."""

    name: str
    bindings: Sequence[tuple[str, str]]
    single: bool = False


async def declare_topology(
    url: str, service: str, bindings: Mapping[str, Sequence[tuple[str, str]]], *, single: Collection[str] = ()
) -> None:
    """Declare a service's exchange, queues, retry ladder, control and dead-letter queue; `bindings` is consumer → (producer, key).

    A queue of one of the consumers in `single` is consumed by one process at a time.
    """
    async with await _connect_patiently(url) as connection:
        channel = await connection.channel()
        await _exchange(channel, service)
        await channel.declare_queue(
            topology.dead_letter_queue(service), durable=True, arguments={"x-queue-type": "quorum"}
        )
        for delay_s in topology.RETRY_DELAYS_S:
            name = topology.retry_queue(service, delay_s)
            exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.FANOUT, durable=True)
            queue = await channel.declare_queue(
                name, durable=True, arguments={**_QUORUM, "x-message-ttl": delay_s * 1000}
            )
            await queue.bind(exchange)
        await _consumed(channel, service, topology.control_queue(service))
        for name, keys in bindings.items():
            await _bound(channel, service, Bound(name, keys, single=name in single))


async def _exchange(channel: AbstractChannel, service: str) -> AbstractExchange:
    return await channel.declare_exchange(topology.exchange(service), aio_pika.ExchangeType.TOPIC, durable=True)


async def _consumed(channel: AbstractChannel, service: str, name: str, *, single: bool = False) -> AbstractQueue:
    arguments = {
        **_QUORUM,
        "x-dead-letter-routing-key": topology.dead_letter_queue(service),
        "x-delivery-limit": topology.DELIVERY_LIMIT,
        **({"x-single-active-consumer": True} if single else {}),
    }
    return await channel.declare_queue(name, durable=True, arguments=arguments)


async def _bound(channel: AbstractChannel, service: str, consumer: Bound) -> None:
    queue = await _consumed(channel, service, topology.queue(service, consumer.name), single=consumer.single)
    exchanges = {producer: await _exchange(channel, producer) for producer in {one for one, _ in consumer.bindings}}
    for producer, routing_key in consumer.bindings:
        await queue.bind(exchanges[producer], routing_key)


async def declare_queue(url: str, service: str, consumer: Bound) -> None:
    """Declare and bind one more consumer's queue; raises `BrokerUnavailable`."""
    async with _briefly(url) as channel:
        await _bound(channel, service, consumer)


async def unbind_queue(url: str, service: str, consumer: Bound) -> None:
    """Nothing new comes to a consumer's queue from these bindings; raises `BrokerUnavailable`."""
    async with _briefly(url) as channel:
        queue = await channel.declare_queue(topology.queue(service, consumer.name), passive=True)
        for producer, routing_key in consumer.bindings:
            await queue.unbind(topology.exchange(producer), routing_key)


async def delete_queue(url: str, name: str) -> None:
    """Delete a queue and what is in it; none is no error; raises `BrokerUnavailable`."""
    async with _briefly(url) as channel:
        await channel.queue_delete(name)


@contextlib.asynccontextmanager
async def _briefly(url: str) -> AsyncIterator[AbstractChannel]:
    try:
        async with asyncio.timeout(BRIEF_S_MAX), await aio_pika.connect(url, timeout=CONNECT_TIMEOUT_S) as connection:
            yield await connection.channel()
    except CONNECTION_ERRORS as error:
        raise BrokerUnavailable(repr(error)) from error


async def _connect_patiently(url: str) -> AbstractConnection:
    """A connection, however long the broker takes to start, within reason."""
    deadline = asyncio.get_running_loop().time() + BROKER_START_S_MAX
    while True:
        try:
            return await aio_pika.connect(url, timeout=CONNECT_TIMEOUT_S)
        except CONNECTION_ERRORS:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.2)


async def queue_depths(url: str, queues: list[str]) -> dict[str, int]:
    """Messages waiting in each queue."""
    async with await aio_pika.connect(url, timeout=CONNECT_TIMEOUT_S) as connection:
        channel = await connection.channel()
        return {
            name: (await channel.declare_queue(name, passive=True)).declaration_result.message_count or 0
            for name in queues
        }


__all__ = [
    "Bound",
    "BrokerUnavailable",
    "Incoming",
    "Outgoing",
    "PublishRefused",
    "Publisher",
    "QueueState",
    "Subscriber",
    "Subscription",
    "declare_queue",
    "declare_topology",
    "delete_queue",
    "keep_connected",
    "queue_depths",
    "unbind_queue",
]
