"""`bench messaging`: relay and consumer against plain aio-pika on the same queue, the way of an event, and memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import aio_pika
import uvloop
from chassis.app import collect_rarely
from chassis.broker import Incoming, Publisher, Subscriber, Subscription, declare_topology
from chassis.consumer import Consumer, ConsumerRunner, Order
from chassis.database import Database, Transaction
from chassis.inbox import keep_partitions
from chassis.kernel import new_id
from chassis.message_store import SqlMessageStore
from chassis.outbox import Announcement, OutboxTables, Relay, enqueue, envelope_bytes, partition_of
from chassis.settings import TelemetrySettings
from chassis.telemetry import EVENTS_PUBLISHED, configure_telemetry, in_context, start_context
from contracts.events.webhooks import EndpointTest
from contracts.registry import Received

from scripts.benchmarks.api import HOME
from scripts.benchmarks.collector import collecting_as_python_comes
from scripts.benchmarks.report import Target, bounded, compared, show
from scripts.databases import fresh_database
from scripts.stack import Stack

SERVICE, CONSUMER = "webhooks", "bench"
QUEUE, EXCHANGE = f"q.{SERVICE}.{CONSUMER}", f"evt.{SERVICE}"
ROUNDS = 7
EVENTS = 6_000  # a round
AGGREGATES_SHARE = 4  # events of one aggregate
WINDOW = 1_000  # of the floor's unconfirmed messages
PER_S, LAG_WARM_UP, LAG_MEASURED = 200, 400, 3_000
MEMORY_WARM_UP, MEMORY_MEASURED = 100_000, 900_000
WAIT_S_MAX = 120
_OUTBOX = ("part", "order_key", "message_id", "exchange", "routing_key", "headers", "body", "created_at")


@dataclass(frozen=True)
class Taken:
    """How long some messages took, on the clock and on this process's processor."""

    messages: int
    wall_s: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Messages a second."""
        return self.messages / self.wall_s

    @property
    def cpu_us(self) -> float:
        """Processor time of one message."""
        return self.cpu_s / self.messages * 1e6


@dataclass
class Rig:
    """One service's relay and consumer, with a counter per endpoint as the projection."""

    database: Database
    broker_url: str
    publisher: Publisher
    handled_at: dict[str, float] = field(default_factory=dict)
    handled: int = 0

    @property
    def relay(self) -> Relay:
        """A new one, as after a start of the process."""
        return Relay(OutboxTables(self.database), self.publisher, owner=new_id())

    def subscriber(self, order: Order = Order.ANY) -> Subscriber:
        """A new one with the consumer's queue."""
        consumer = Consumer(CONSUMER, {EndpointTest: _project}, order=order)
        runner = ConsumerRunner(SERVICE, consumer, SqlMessageStore(self.database), self.publisher)

        async def handle(batch: list[Incoming]) -> None:
            await runner.handle(batch)
            self.handled += len(batch)
            at = time.monotonic()
            self.handled_at.update((incoming.message_id, at) for incoming in batch)

        return Subscriber(self.broker_url, name="bench", subscriptions=[Subscription(queue=QUEUE, handle=handle)])


async def _project(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    tx.write(
        "INSERT INTO effects (subject, version) VALUES ($1, $2)"
        " ON CONFLICT (subject) DO UPDATE SET version = greatest(effects.version, excluded.version)",
        event.endpoint_id,
        received.envelope.aggregateversion,
    )


def run() -> list[Target]:
    """Servers only; everything measured is in this process."""
    stack = Stack(HOME, caller=os.environ)
    stack.up(infrastructure_only=True)
    try:
        with _logged_to(HOME / "messaging.log"):
            return uvloop.run(_measure(stack))
    finally:
        stack.down()


@contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    """The service's own logging, at its usual level, into a file."""
    with path.open("w", encoding="utf-8") as file:
        with contextlib.redirect_stdout(file):
            configure_telemetry("bench", TelemetrySettings())
        yield


async def _measure(stack: Stack) -> list[Target]:
    async with _rig(stack) as rig:
        collect_rarely()  # as a service does when it starts
        targets = await _throughput(rig)
        for measure in (_lag, _memory):
            target = await measure(rig)
            show(target)
            targets.append(target)
        return targets


@asynccontextmanager
async def _rig(stack: Stack) -> AsyncIterator[Rig]:
    broker_url = stack.settings["VAJ_BROKER_URL"]
    async with fresh_database(stack.settings["VAJ_DATABASE_ADMIN_URL"], "bench_messaging", "chassis") as url:
        database = Database(url)
        await database.open()
        await database.pool.execute("CREATE TABLE effects (subject uuid PRIMARY KEY, version int NOT NULL)")
        async with database.transaction() as tx:
            await keep_partitions(tx, datetime.now(UTC).date())
        await declare_topology(broker_url, SERVICE, {CONSUMER: [(SERVICE, EndpointTest.routing_key())]})
        rig = Rig(database, broker_url, Publisher(broker_url, name="bench"))
        async with _running(rig.publisher.run):
            await rig.publisher.ready.wait()
            yield rig
        await database.close()


@asynccontextmanager
async def _running(*roles: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(role()) for role in roles]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _throughput(rig: Rig) -> list[Target]:
    """Each round publishes and consumes the same kind of messages on the same queue, ours and plain in turns."""
    await _purge(rig.broker_url)
    await _round(rig)
    rounds = [await _round(rig) for _ in range(ROUNDS)]
    named = ("relay", "plain publisher", "consumer", "gated consumer", "plain consumer")
    for name, taken in zip(named, zip(*rounds, strict=True), strict=True):
        print(f"  {name:<20} {statistics.median(t.cpu_us for t in taken):>6.0f} µs of processor a message")
    relay, publisher, consumer, gated, plain = (
        [taken.per_s for taken in column] for column in zip(*rounds, strict=True)
    )
    targets = [
        compared("relay against a plain publisher", relay, publisher, at_least=0.8, unit="msg/s"),
        compared("consumer against one that only acks", consumer, plain, at_least=0.5, unit="msg/s"),
        compared("gated consumer against the same", gated, plain, at_least=0.5, unit="msg/s"),
    ]
    for target in targets:
        show(target)
    return targets


async def _round(rig: Rig) -> tuple[Taken, Taken, Taken, Taken, Taken]:
    await _fill(rig.database, EVENTS)
    relayed = await _taken(EVENTS, lambda: _relay(rig))
    consumed = await _taken(EVENTS, lambda: _consume(rig, Order.ANY))
    await _fill(rig.database, EVENTS)
    await _relay(rig)
    gated = await _taken(EVENTS, lambda: _consume(rig, Order.GATED))
    bodies = [_body(new_id(), new_id(), 1) for _ in range(EVENTS)]
    with collecting_as_python_comes():
        published = await _taken(EVENTS, lambda: _publish_plainly(rig.broker_url, bodies))
        acked = await _taken(EVENTS, lambda: _consume_plainly(rig.broker_url))
    return relayed, published, consumed, gated, acked


async def _taken(messages: int, work: Callable[[], Awaitable[float]]) -> Taken:
    """`work` tells the time at which it began in earnest: connected, with nothing done yet."""
    cpu_s = time.process_time()
    began = await work()
    return Taken(messages, time.monotonic() - began, time.process_time() - cpu_s)


async def _relay(rig: Rig) -> float:
    """Rows committed before are confirmed and deleted."""
    expected = _published() + EVENTS
    began = time.monotonic()
    async with _running(rig.relay.run):
        await _until(lambda: _published() >= expected)
        return began


async def _consume(rig: Rig, order: Order) -> float:
    """Inbox or position, projection and ack of what waits in the queue."""
    expected = rig.handled + EVENTS
    began = time.monotonic()
    async with _running(rig.subscriber(order).run):
        await _until(lambda: rig.handled >= expected)
    return began


async def _publish_plainly(url: str, bodies: list[bytes]) -> float:
    """aio-pika as its documentation has it, with a sliding window of unconfirmed messages."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchange = await channel.get_exchange(EXCHANGE)
        window = asyncio.Semaphore(WINDOW)

        async def publish(body: bytes) -> None:
            message = aio_pika.Message(
                body,
                message_id=str(new_id()),
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                content_type="application/cloudevents+json",
            )
            try:
                await exchange.publish(message, EndpointTest.routing_key(), mandatory=True)
            finally:
                window.release()

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for body in bodies:
                await window.acquire()
                group.create_task(publish(body))
    return began


async def _consume_plainly(url: str) -> float:
    """aio-pika that reads and forgets, acknowledging every fifty."""
    done, count = asyncio.Event(), 0

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        nonlocal count
        count += 1
        if count % 50 == 0:
            await message.ack(multiple=True)
        if count == EVENTS:
            done.set()

    began = time.monotonic()
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=Subscription.prefetch)
        queue = await channel.get_queue(QUEUE)
        await queue.consume(take)
        async with asyncio.timeout(WAIT_S_MAX):
            await done.wait()
    return began


async def _lag(rig: Rig) -> Target:
    """From the commit to the commit of the handler, at a steady pace."""
    committed: dict[str, float] = {}
    rig.handled_at.clear()
    async with _running(rig.relay.run, rig.subscriber().run):
        began = time.monotonic()
        for number in range(LAG_WARM_UP + LAG_MEASURED):
            await asyncio.sleep(max(0.0, began + number / PER_S - time.monotonic()))
            event_id = await _announce(rig.database)
            committed[str(event_id)] = time.monotonic()
        await _until(lambda: committed.keys() <= rig.handled_at.keys())
    lags_s = [max(0.0, rig.handled_at[event_id] - at) for event_id, at in committed.items()][LAG_WARM_UP:]
    p95_s = statistics.quantiles(lags_s, n=100)[94]
    return bounded("commit → handled at 200 events/s, p95", p95_s * 1000, at_most=50, unit="ms")


async def _announce(database: Database) -> UUID:
    subject, event_id = new_id(), new_id()
    async with database.command() as tx:
        event = Announcement(EndpointTest(endpoint_id=subject))
        enqueue(tx, stream_id=subject, messages=[(event_id, 1, event)], now=datetime.now(UTC))
    return event_id


async def _memory(rig: Rig) -> Target:
    """Growth of this process, with relay and consumer running, after a warm-up."""
    async with _running(rig.relay.run, rig.subscriber().run):
        await _pass(rig, MEMORY_WARM_UP)
        before = _resident_mib()
        await _pass(rig, MEMORY_MEASURED)
        grown = _resident_mib() - before
    return bounded(f"memory growth over {MEMORY_MEASURED:,} events", max(grown, 0.0), at_most=20, unit="MiB")


async def _pass(rig: Rig, events: int) -> None:
    for _ in range(0, events, EVENTS):
        expected = rig.handled + EVENTS
        await _fill(rig.database, EVENTS)
        await _until(lambda expected=expected: rig.handled >= expected)  # type: ignore[misc]
        rig.handled_at.clear()


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


async def _fill(database: Database, events: int) -> None:
    """Outbox rows as `enqueue` would have left them, four to an aggregate."""
    now = datetime.now(UTC)
    records: list[tuple[Any, ...]] = []
    for _ in range(events // AGGREGATES_SHARE):
        subject = new_id()
        for version in range(1, AGGREGATES_SHARE + 1):
            event_id = new_id()
            body = _body(subject, event_id, version)
            key = EndpointTest.routing_key()
            records.append((partition_of(subject), subject, event_id, EXCHANGE, key, {}, body, now))
    async with database.pool.acquire() as connection:
        await connection.executemany(
            f"INSERT INTO outbox ({', '.join(_OUTBOX)}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", records
        )


def _body(subject: UUID, event_id: UUID, version: int) -> bytes:
    with in_context(start_context(sample_ratio=0.05)):
        return envelope_bytes(
            Announcement(EndpointTest(endpoint_id=subject)), subject, event_id, version, datetime.now(UTC)
        )


def _published() -> float:
    published: float = EVENTS_PUBLISHED._value.get()
    return published


async def _purge(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        await (await (await connection.channel()).get_queue(QUEUE)).purge()


async def _until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while not reached():
            await asyncio.sleep(0.002)
