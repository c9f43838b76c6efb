"""RabbitMQ: supervised connections, publishing with confirms, consuming. Only here and in `confirms` is aio-pika known."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import aio_pika
import aiormq
from aio_pika.abc import AbstractConnection

from chassis.confirms import Answer, BrokerUnavailable, ConfirmChannel, Outgoing, PublishRefused
from chassis.telemetry import log
from contracts import topology

CONNECT_TIMEOUT_S = 5
RECONNECT_DELAYS_S = (0.1, 0.2, 0.5, 1, 2)  # then 2 s for ever: consuming again within 5 s of a broker's return
HEARTBEAT_S = 10
WATCHDOG_S = 5
BROKER_START_S_MAX = 60  # the longest a set-up waits for a broker that is starting
PUBLISH_CHANNELS = 4


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
        except (OSError, TimeoutError, aiormq.exceptions.AMQPError, aio_pika.exceptions.AMQPException) as error:
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
        self.ready.set()
        try:
            await lost.wait()
        finally:
            self.ready.clear()
            self._channels = []

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
        self._subscriptions = subscriptions
        self._active: set[str] = set()

    @property
    def missing(self) -> list[str]:
        """Queues that should be consumed and are not."""
        return [s.queue for s in self._subscriptions if s.queue not in self._active]

    async def run(self) -> None:
        """Consume until cancelled."""
        await keep_connected(self._url, f"{self._name}.consume", self._session)

    async def _session(self, connection: AbstractConnection) -> None:
        tasks = [asyncio.ensure_future(self._consume(connection, s)) for s in self._subscriptions]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

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
        handling = asyncio.ensure_future(_handle_for_ever(underlay, arrived, subscription))
        try:
            while not handling.done():
                await asyncio.wait({handling}, timeout=WATCHDOG_S)
                if tag not in cast("aiormq.Channel", underlay).consumers or channel.is_closed:
                    log.error("broker.consumer_lost", queue=subscription.queue)
                    raise aiormq.exceptions.ChannelClosed(0, "the consumer is gone")
            handling.result()
        finally:
            self._active.discard(subscription.queue)
            handling.cancel()
            await asyncio.gather(handling, return_exceptions=True)


async def _handle_for_ever(
    channel: aiormq.abc.AbstractChannel, arrived: asyncio.Queue[Incoming], subscription: Subscription
) -> None:
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


async def declare_topology(url: str, service: str, bindings: Mapping[str, list[tuple[str, str]]]) -> None:
    """Declare a service's exchange, queues, retry ladder and dead-letter queue; `bindings` is consumer → (producer, key)."""
    async with await _connect_patiently(url) as connection:
        channel = await connection.channel()
        exchanges = {
            producer: await channel.declare_exchange(
                topology.exchange(producer), aio_pika.ExchangeType.TOPIC, durable=True
            )
            for producer in {service, *(producer for keys in bindings.values() for producer, _ in keys)}
        }
        dead = topology.dead_letter_queue(service)
        await channel.declare_queue(dead, durable=True, arguments={"x-queue-type": "quorum"})
        for delay_s in topology.RETRY_DELAYS_S:
            name = topology.retry_queue(service, delay_s)
            exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.FANOUT, durable=True)
            queue = await channel.declare_queue(
                name, durable=True, arguments={**_QUORUM, "x-message-ttl": delay_s * 1000}
            )
            await queue.bind(exchange)
        for consumer, keys in bindings.items():
            arguments = {**_QUORUM, "x-dead-letter-routing-key": dead, "x-delivery-limit": topology.DELIVERY_LIMIT}
            queue = await channel.declare_queue(topology.queue(service, consumer), durable=True, arguments=arguments)
            for producer, routing_key in keys:
                await queue.bind(exchanges[producer], routing_key)


async def _connect_patiently(url: str) -> AbstractConnection:
    """A connection, however long the broker takes to start, within reason."""
    deadline = asyncio.get_running_loop().time() + BROKER_START_S_MAX
    while True:
        try:
            return await aio_pika.connect(url, timeout=CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError, aiormq.exceptions.AMQPError):
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
    "BrokerUnavailable",
    "Incoming",
    "Outgoing",
    "PublishRefused",
    "Publisher",
    "Subscriber",
    "Subscription",
    "declare_topology",
    "keep_connected",
    "queue_depths",
]
