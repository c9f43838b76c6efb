"""The service that is simulated: the real relay, consumers, gaps and ingester, each in processes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast
from uuid import UUID

import asyncpg
from contracts.envelope import Event
from contracts.events.identity import UserSuspended
from contracts.registry import Received

from chassis.broker import Outgoing, Subscription, handle_for_ever
from chassis.confirms import Answer
from chassis.consumer import Consumer, ConsumerRunner, Handler, NotYet, Order
from chassis.database import Transaction
from chassis.gaps import Gaps
from chassis.ingester import Ingester
from chassis.kernel import ConcurrentUpdate
from chassis.outbox import Pace, Relay
from chassis.testing.simulation.broker import RECONNECT_S, STEP_S, Broker, SimulatedPublisher
from chassis.testing.simulation.database import Changes, Database
from chassis.testing.simulation.producer import AnswersFromEvents
from chassis.testing.simulation.schedule import CONSUMERS
from chassis.testing.simulation.stores import SimulatedMessages, SimulatedOutbox
from chassis.testing.simulation.world import Killed, Process, World
from contracts import topology

SERVICE = "identity"
ORDERS = dict(zip(CONSUMERS, (Order.ANY, Order.GATED, Order.MONOTONIC), strict=True))
# As in production, only shorter: what matters is what is longer than what.
PACE = Pace(lease=3.0, renew=1.0, poll_max=1.0, refused_min=0.05, refused_max=2.0, unavailable=0.1)
GAP_POLL_S, RESEND_AFTER_S = 0.5, 1.0
SLOW_S = 1.5
CANCEL_SEEN_S = 1.0  # by the watchdog

Applied = Callable[[str, UUID, int], None]


class Plan:
    """What is still wrong with handlers; `mend` takes the defects away."""

    def __init__(self, world: World, subjects: Sequence[UUID]) -> None:
        self._left = {
            (consumer, subjects[subject], version): [ill, times]
            for (consumer, subject, version), (ill, times) in world.schedule.ills.items()
        }

    def next_ill(self, consumer: str, subject: UUID, version: int) -> str | None:
        """What befalls this try."""
        found = self._left.get((consumer, subject, version))
        if found is None or not found[1]:
            return None
        if found[0] != "defect":
            found[1] = cast("int", found[1]) - 1
        return cast("str", found[0])

    def mend(self) -> None:
        """The fix is deployed; what passes by itself passes."""
        self._left = {key: found for key, found in self._left.items() if found[0] != "defect"}


def declare(broker: Broker, *, delivery_limit: int) -> None:
    """The topology of `chassis.broker.declare_topology`."""
    for name, order in ORDERS.items():
        bindings = Consumer(name, dict.fromkeys((UserSuspended,), _nothing), order).bindings
        sources = [(topology.exchange(producer), key) for producer, key in bindings]
        broker.declare(topology.queue(SERVICE, name), sources, limit=delivery_limit)
    for delay_s, step_s in zip(topology.RETRY_DELAYS_S, STEP_S, strict=True):
        step = topology.retry_queue(SERVICE, delay_s)
        broker.declare(step, [(step, "")], step_s=step_s)
    broker.declare(topology.dead_letter_queue(SERVICE))
    broker.declare(topology.control_queue(SERVICE))


async def _nothing(tx: Transaction, received: Received) -> None:
    raise AssertionError("never called")


class Leased:
    """What a relay publishes through; whatever it hands over, it has the lease at that instant."""

    def __init__(self, process: Process, publisher: SimulatedPublisher, database: Database, owner: UUID) -> None:
        self.ready = publisher.ready
        self._process = process
        self._publisher = publisher
        self._database = database
        self._owner = owner

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[Answer]:
        self._process.must_live()
        for message in messages:
            holder, until = self._database.tables.leases[message.slot]
            if holder != self._owner or until < self._database.now:
                world, who = self._process.world, self._process.name
                world.broken(f"{who} publishes {world.names.get(message.message_id)} without its lease")
        return await self._publisher.publish_all(messages)


def start_relay(world: World, broker: Broker, database: Database, name: str) -> Process:
    """A process with a relay, and with the answers to who misses facts."""
    process, owner = Process(world, name), world.new_id()
    publisher = SimulatedPublisher(broker, process)
    leased = Leased(process, publisher, database, owner)
    relay = Relay(SimulatedOutbox(database, process), leased, owner=owner, pace=PACE, clock=process.clock)
    control = AnswersFromEvents(process, database, publisher, SERVICE).subscription
    process.start(
        {"publisher": publisher.run, "relay": relay.run, "control": lambda: _consume(process, broker, control)}
    )
    return process


def start_consumers(
    world: World, broker: Broker, database: Database, name: str, *, plan: Plan, applied: Applied
) -> Process:
    """A process with every consumer of the service, its ingester and its gaps."""
    process = Process(world, name)
    publisher = SimulatedPublisher(broker, process)
    store = SimulatedMessages(database, process)
    alone = asyncio.Lock()
    runners = [
        ConsumerRunner(SERVICE, _consumer(process, consumer, plan, applied), store, publisher, alone=alone)
        for consumer in CONSUMERS
    ]
    subscriptions = [*(runner.subscription for runner in runners), Ingester(SERVICE, store).subscription]
    roles = {
        subscription.queue: lambda subscription=subscription: _consume(process, broker, subscription)
        for subscription in subscriptions
    }
    gaps = Gaps(runners, publisher, poll_s=GAP_POLL_S, resend_after_s=RESEND_AFTER_S)
    process.start({"publisher": publisher.run, **roles, "gaps": gaps.run})
    return process


def _consumer(process: Process, name: str, plan: Plan, applied: Applied) -> Consumer:
    async def handle(tx: Transaction, received: Received) -> None:
        envelope = received.envelope
        subject, version = envelope.subject, envelope.aggregateversion
        cast("Changes", tx).change(lambda: applied(name, subject, version))
        await _suffer(process, plan.next_ill(name, subject, version))

    handlers: dict[type[Event], Handler] = {UserSuspended: handle}
    return Consumer(name, handlers, ORDERS[name])


async def _suffer(process: Process, ill: str | None) -> None:
    match ill:
        case "conflicts":
            raise ConcurrentUpdate
        case "not yet":
            raise NotYet
        case "transient":
            raise asyncpg.QueryCanceledError("too slow")
        case "defect":
            raise RuntimeError("a defect")
        case "kills":
            process.kill()
            raise Killed
        case "slow":
            await asyncio.sleep(SLOW_S)


async def _consume(process: Process, broker: Broker, subscription: Subscription) -> None:
    """`chassis.broker.Subscriber`: a channel, until it is lost; then another."""
    schedule, world = process.world.schedule, process.world
    limited = replace(subscription, prefetch=schedule.prefetch, batch_max=min(schedule.batch, subscription.batch_max))
    while True:
        try:
            channel = broker.consume(process, limited.queue, limited.prefetch)
        except ConnectionError:
            await asyncio.sleep(world.random.uniform(*RECONNECT_S))
            continue
        handling = asyncio.ensure_future(handle_for_ever(channel, channel.arrived, limited))
        lost = asyncio.ensure_future(channel.lost.wait())
        try:
            await asyncio.wait({handling, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            handling.cancel()
            lost.cancel()
            await asyncio.gather(handling, lost, return_exceptions=True)
            broker.cut(channel)
        if not handling.cancelled() and (error := handling.exception()) and not isinstance(error, ConnectionError):
            raise error
        await asyncio.sleep(world.random.uniform(*RECONNECT_S))
