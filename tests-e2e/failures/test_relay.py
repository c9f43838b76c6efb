"""Faults between a commit and the broker."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Any

import aio_pika
import httpx
import pytest
from chassis.testing.bus import Tap
from chassis.testing.ledger import CONSUMER, PRODUCER
from chassis.testing.links import Link
from chassis.testing.patience import eventually
from chassis.testing.rig import CONSUMERS, Rig
from contracts.events.webhooks import EndpointTest

from contracts import topology

KILLED = -9
SHORT_LEASES = {"chassis.outbox.Pace": {"lease": 2, "renew": 0.5}}


async def test_nothing_breaks(rig: Rig) -> None:
    """With nothing broken the ledger balances: what the judge says elsewhere is about the fault."""
    producer, _ = await rig.pair(workers=2)
    for _ in range(5):
        await rig.append(producer, 10, events=4)

    verdict = await rig.at_rest()

    assert verdict.sent == 200


@pytest.mark.fault("crash after commit before publish")
@pytest.mark.parametrize(("role", "place"), [("api", "command.committed"), ("all", "outbox.read")])
async def test_a_crash_between_commit_and_publish(rig: Rig, role: str, place: str) -> None:
    """What is committed is sent by whoever comes next."""
    rig.constants |= SHORT_LEASES
    _, writer = await asyncio.gather(rig.started("consumer"), rig.started("producer", role, crash=f"{place}:1"))
    await _append_until_it_dies(rig, writer)
    written = await rig.count("producer", "events")
    assert written == await rig.count("producer", "outbox") > 0
    await rig.started("producer")

    verdict = await rig.at_rest()

    assert verdict.sent == written


@pytest.mark.fault("crash after confirm before delete")
async def test_a_crash_between_confirm_and_delete(rig: Rig, servers: Any) -> None:
    """The rows are sent a second time, and applied once."""
    rig.constants |= SHORT_LEASES
    async with Tap(servers.broker_url, PRODUCER) as wire:
        _, producer = await asyncio.gather(rig.started("consumer"), rig.started("producer", crash="outbox.confirmed:3"))
        await _append_until_it_dies(rig, producer)
        producer.start()
        await rig.at_rest()

    copies = Counter(received.envelope.id for received in wire.received)
    assert max(copies.values()) == 2


async def _append_until_it_dies(rig: Rig, producer: Any) -> None:
    async def append() -> None:
        with contextlib.suppress(httpx.TransportError):  # it died meanwhile
            await rig.append(producer, 5, events=2)
        assert not producer.alive

    await eventually(append)
    assert producer.exit_code == KILLED


@pytest.mark.fault("rollback after outbox insert")
async def test_a_rollback_after_the_outbox_insert(rig: Rig, servers: Any) -> None:
    """What was rolled back was never sent, and its numbers were not used up."""
    async with Tap(servers.broker_url, PRODUCER) as wire:
        producer, _ = await rig.pair()
        rolled_back = await rig.append(producer, 10, events=3, rolled_back=True)
        committed = await rig.append(producer, 10, events=3)
        await rig.append(producer, rolled_back[:5])
        verdict = await rig.at_rest()

    assert verdict.sent == 35
    assert {r.envelope.subject for r in wire.received} == {*committed, *rolled_back[:5]}


@pytest.mark.fault("two relays, one paused past its lease")
async def test_two_relays_one_paused_past_its_lease(rig: Rig, servers: Any) -> None:
    """What the paused one holds is sent by the other; waking up it knows that its time is over, and sends nothing twice."""
    rig.constants |= SHORT_LEASES
    async with Tap(servers.broker_url, PRODUCER) as wire:
        _, first = await asyncio.gather(rig.started("consumer"), rig.started("producer", crash="outbox.read:1:STOP"))
        writer = await rig.started("producer", "api")
        streams = await rig.append(writer, 20, events=5)
        await eventually(lambda: first.paused)
        await rig.started("producer")
        await rig.append(writer, streams, events=5)
        await rig.until_applied("gated", 200)
        first.resume()
        await rig.append(writer, streams, events=5)
        verdict = await rig.at_rest()

    assert verdict.sent == 300
    assert set(Counter(received.envelope.id for received in wire.received).values()) == {1}


@pytest.mark.fault("broker restart with 1,000 unconfirmed")
async def test_the_broker_restarts_with_a_thousand_unconfirmed(rig: Rig, servers: Any, broker: Any) -> None:
    """The broker has them all, no confirm ever arrives, and it is killed: sent again, applied once."""
    async with Link(servers.broker_url) as link:
        writer, _ = await asyncio.gather(rig.started("producer", "api"), rig.started("consumer"))
        for _ in range(6):
            await rig.append(writer, 200)
        relay = await rig.started("producer", broker_url=link.url, crash="outbox.read:1:STOP")
        await eventually(lambda: relay.paused)
        link.silence(to_server=False)
        relay.resume()
        await rig.until_applied("any", 1_000)
        assert await rig.count("producer", "outbox") == 1_200
        await broker.killed_and_back()

        verdict = await rig.at_rest(timeout_s=60)

    assert verdict.sent == 1_200


@pytest.mark.fault("nack of v1 while v2 is accepted")
async def test_a_first_version_is_refused_and_its_successors_are_taken(rig: Rig, servers: Any) -> None:
    """One message of many is refused: its successors overtake it, and whoever needs the order still gets it."""
    async with Link(servers.broker_url) as link:
        writer, _ = await asyncio.gather(rig.started("producer", "api"), rig.started("consumer"))
        await rig.append(writer, 5, events=20)
        link.replace_once(*_published_to(EndpointTest.routing_key(), "nobody"))
        await rig.started("producer", broker_url=link.url)

        verdict = await rig.at_rest()

    assert verdict.sent == 100
    assert verdict.overtaken == 1


def _published_to(key: str, other: str) -> tuple[bytes, bytes]:
    """The beginning of a publication as AMQP writes it, and the same with another routing key."""
    exchange = topology.exchange(PRODUCER).encode()
    return tuple(exchange + bytes([len(key)]) + text.ljust(len(key), ".").encode() for text in (key, other))  # type: ignore[return-value]


@pytest.mark.fault("nack of v1 while v2 is accepted")
async def test_a_queue_that_is_full_refuses_what_other_queues_take(rig: Rig, broker: Any) -> None:
    """A queue over its length has messages nacked which the other queues have already: sent again, applied once."""
    producer, _ = await rig.pair()

    async def refused() -> bool:
        await rig.append(producer, 10, events=50)
        return "outbox.refused" in producer.log.read_text()

    async with broker.policy("^q\\.", **{"max-length": 3}):  # queues hear of it a little later
        await eventually(refused)
    written = await rig.count("producer", "events")

    verdict = await rig.at_rest(timeout_s=60)

    assert verdict.sent == written


@pytest.mark.fault("unroutable message")
async def test_an_unroutable_message(rig: Rig, servers: Any) -> None:
    """While no queue is bound nothing gets lost; it is sent once there is one."""
    producer, _ = await rig.pair()
    async with await aio_pika.connect(servers.broker_url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(topology.exchange(PRODUCER))
        queues = [await channel.get_queue(topology.queue(CONSUMER, name)) for name in CONSUMERS]
        keys = {"gated": "endpoint.*.v1"}
        for name, queue in zip(CONSUMERS, queues, strict=True):
            await queue.unbind(exchange, keys.get(name, EndpointTest.routing_key()))
        await rig.append(producer, 10, events=3)
        await eventually(lambda: "outbox.refused" in producer.log.read_text())
        assert await rig.count("producer", "outbox") == 30
        for name, queue in zip(CONSUMERS, queues, strict=True):
            await queue.bind(exchange, keys.get(name, EndpointTest.routing_key()))

    verdict = await rig.at_rest()

    assert verdict.sent == 30


@pytest.mark.fault("connection.blocked")
async def test_the_broker_blocks_publishers(rig: Rig, broker: Any) -> None:
    """With its memory alarm on, the broker takes nothing; commands go on, and everything is sent when it is off."""
    producer, _ = await rig.pair()
    await broker.control("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        for _ in range(5):
            await rig.append(producer, 10, events=4)

        async def blocked() -> None:
            assert "blocked" in await broker.control("list_connections", "state")

        await eventually(blocked)
        assert await rig.count("producer", "outbox") == 200
    finally:
        await broker.control("set_vm_memory_high_watermark", "absolute", "512MiB")

    verdict = await rig.at_rest()

    assert verdict.sent == 200


@pytest.mark.fault("slow transaction holding a lower id")
async def test_a_slow_transaction_holds_a_lower_id(rig: Rig) -> None:
    """Rows that commit after higher ones were sent and deleted are sent too."""
    producer, _ = await rig.pair()
    async with rig.lock("producer"):
        slow = asyncio.create_task(rig.append(producer, 10, events=2, held=True))
        await eventually(lambda: rig.count("producer", "pg_stat_activity WHERE wait_event_type = 'Lock'"))
        await rig.append(producer, 20, events=5)
        await rig.until_applied("gated", 100)
    await slow

    verdict = await rig.at_rest()

    assert verdict.sent == 120
