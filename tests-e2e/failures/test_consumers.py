"""Faults between the broker and an effect."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import aio_pika
import pytest
from chassis.testing.ledger import CONSUMER
from chassis.testing.links import Link
from chassis.testing.patience import eventually
from chassis.testing.rig import CONSUMERS, Rig, publish, retried, waiting

from contracts import topology

KILLED = -9
LOCKED = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = $1"
AWAY_S = float(os.environ.get("VAJ_FAULT_AWAY_S", "300"))


@pytest.mark.fault("same message to two workers at once")
@pytest.mark.parametrize("first", ["commits", "is killed"])
async def test_two_workers_have_the_same_message_at_once(rig: Rig, servers: Any, first: str) -> None:
    """One waits for the other: when that commits there is nothing to do, when it dies the effect is this one's."""
    writer = await rig.started("producer", "api")
    [stream] = await rig.append(writer, 1)
    faults = {f"{consumer}:{stream}": "wait" for consumer in CONSUMERS}
    workers = await asyncio.gather(*(rig.started("consumer", ledger_faults=faults) for _ in range(2)))
    rows = await waiting(rig)

    async with rig.lock("consumer"):
        for _ in range(2):  # the broker gives them to its consumers in turn
            await publish(servers, rows)
        await eventually(lambda: _wait_for_each_other(rig))
        if first == "is killed":
            workers[0].kill()
    await rig.started("producer")

    verdict = await rig.at_rest()

    assert verdict.sent == 1


async def _wait_for_each_other(rig: Rig) -> None:
    counts = [await rig.count("consumer", LOCKED, event) for event in ("advisory", "transactionid")]
    assert counts == [len(CONSUMERS)] * 2


@pytest.mark.fault("crash after handler commit before ack")
@pytest.mark.parametrize("place", ["consumer.handled", "consumer.committed"])
async def test_a_crash_between_effect_and_acknowledgement(rig: Rig, place: str) -> None:
    """Three workers die in turn, before and after they committed; what comes again has its effect once."""
    producer = await rig.started("producer")
    workers = [rig.process("consumer", keep=True) for _ in range(3)]
    for number, worker in enumerate(workers, 1):
        worker.start(VAJ_TEST_CRASH=f"{place}:{number}")
    for _ in range(10):
        await rig.append(producer, 10, events=5)
    await eventually(lambda: all(worker.starts > 1 for worker in workers))

    verdict = await rig.at_rest()

    assert verdict.sent == 500


@pytest.mark.fault("consumer database down 5 min")
async def test_the_consumers_database_is_away(rig: Rig, servers: Any) -> None:
    """Consumers wait in place: nothing goes through the ladder, nothing is given up, and they go on by themselves."""
    async with Link(rig.database_urls["consumer"]) as link, retried(servers.broker_url) as through_the_ladder:
        producer, worker = await asyncio.gather(rig.started("producer"), rig.started("consumer", database_url=link.url))
        await rig.append(producer, 20, events=5)
        await rig.until_applied("gated", 100)
        await link.refuse()
        for _ in range(5):
            await rig.append(producer, 20, events=5)
        await eventually(lambda: worker.log.read_text().count("consumer.paused") > 2 * len(CONSUMERS))
        await link.accept()

        verdict = await rig.at_rest()

    assert verdict.sent == 600
    assert through_the_ladder == []


@pytest.mark.slow
@pytest.mark.fault("consumer database down 5 min")
async def test_the_database_server_is_away_for_five_minutes(rig: Rig, servers: Any, stack: Any) -> None:
    """The server itself is stopped that long, with messages in every queue."""
    producer, [worker] = await rig.pair()
    worker.pause()
    await rig.append(producer, 100, events=10)
    await eventually(lambda: _nothing_waits(rig))
    async with retried(servers.broker_url) as through_the_ladder:
        await asyncio.to_thread(stack.stop, "postgres")
        try:
            worker.resume()
            await asyncio.sleep(AWAY_S)
            assert worker.alive
        finally:
            await asyncio.to_thread(stack.start, "postgres")

        verdict = await rig.at_rest(timeout_s=60)

    assert verdict.sent == 1_000
    assert through_the_ladder == []


async def _nothing_waits(rig: Rig) -> None:
    assert await rig.count("producer", "outbox") == 0


@pytest.mark.fault("server-side basic.cancel")
async def test_the_broker_cancels_the_consumers(rig: Rig, servers: Any) -> None:
    """Queues that are deleted under their consumers and declared again are consumed again, in the same processes."""
    producer, workers = await rig.pair(workers=2)
    streams = await rig.append(producer, 20, events=5)
    await rig.until_applied("gated", 100)
    await eventually(lambda: _nothing_waits(rig))

    async with await aio_pika.connect(servers.broker_url) as connection:
        channel = await connection.channel()
        for consumer in CONSUMERS:
            await channel.queue_delete(topology.queue(CONSUMER, consumer))
    await rig.append(producer, streams, events=5)
    await rig.declare()
    verdict = await rig.at_rest()

    assert verdict.sent == 200
    assert [worker.starts for worker in workers] == [1, 1]


@pytest.mark.fault("events arriving 3, 1, 2 and 2 never")
@pytest.mark.parametrize("crash", ["", "consumer.parked:1"])
async def test_an_early_event_waits_for_its_turn(rig: Rig, servers: Any, crash: str) -> None:
    """Third, first, second: applied as first, second, third, also when the process dies with the early one parked."""
    writer = await rig.started("producer", "api")
    await rig.append(writer, 10, events=3)
    rows = await waiting(rig)
    await rig.rows("producer", "DELETE FROM outbox")
    worker = rig.process("consumer", keep=True)
    worker.start(**({"VAJ_TEST_CRASH": crash} if crash else {}))

    for version in (3, 1):
        await publish(servers, rows[version - 1 :: 3])
    await eventually(lambda: _parked(rig, 10))
    await rig.until_applied("any", 20)
    await publish(servers, rows[1::3])
    verdict = await rig.at_rest()

    assert verdict.sent == 30
    assert verdict.applied == {"any": 30, "gated": 30, "monotonic": 10}
    assert (worker.starts > 1) == bool(crash)


async def _parked(rig: Rig, count: int) -> None:
    assert await rig.count("consumer", "parked_messages") == count
