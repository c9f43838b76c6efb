"""Messages that cannot be handled: set aside, tried again, and brought back by an operator through the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis.testing.ledger import CONSUMER
from chassis.testing.patience import eventually
from chassis.testing.processes import Process
from chassis.testing.rig import CONSUMERS, Rig, publish, retried, waiting

from contracts import topology

LETTERS = f"/v1/ops/{CONSUMER}/dead-letters"
LADDER = len(topology.ATTEMPT_DELAYS_S)


class Operator:
    """Somebody with the right to bring dead letters back, at the consumers' API."""

    def __init__(self, rig: Rig, worker: Process, headers: dict[str, str]) -> None:
        self.rig = rig
        self._client = httpx.AsyncClient(base_url=worker.api_url, headers=headers, timeout=10)

    @classmethod
    async def at(cls, rig: Rig, worker: Process) -> Operator:
        return cls(rig, worker, await rig.admin_headers())

    async def letters(self, count: int, *, status: str = "open", timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """The dead letters of a status in full, once there are that many."""

        async def found() -> list[dict[str, Any]]:
            try:
                answer = await self._client.get(LETTERS, params={"status": status, "limit": 100})
            except httpx.TransportError as error:  # it died once more
                raise AssertionError(repr(error)) from error
            listed: list[dict[str, Any]] = answer.json()["items"]
            assert len(listed) == count, [(letter["consumer"], letter["reason"]) for letter in listed]
            return listed

        listed = await eventually(found, timeout_s=timeout_s)
        return [(await self._client.get(f"{LETTERS}/{letter['id']}")).json() for letter in listed]

    async def redrive(self, count: int, **chosen: Any) -> None:
        """Plan, confirm, and wait until the job is done."""
        planned = (await self._client.post(f"{LETTERS}/plan", json=chosen)).json()
        assert (planned["count"], planned["not_redrivable"]) == (count, 0)
        body = {"expected_count": count, "reason": "the handler is mended", "rate_per_s": 1_000, **chosen}
        started = await self._client.post(f"{LETTERS}/redrive", json=body)
        assert started.status_code == 202, started.text

        async def done() -> None:
            job = (await self._client.get(started.headers["location"])).json()
            assert (job["status"], job["done"]) == ("done", count)

        await eventually(done)


def failing(fault: str, streams: Sequence[UUID], consumers: Sequence[str] = CONSUMERS) -> dict[str, str]:
    """What a release with a defect is told."""
    return {f"{consumer}:{stream}": fault for consumer in consumers for stream in streams}


async def event_ids(rig: Rig, streams: Sequence[UUID]) -> set[UUID]:
    """The events of some streams."""
    rows = await rig.rows("producer", "SELECT event_id FROM events WHERE stream_id = ANY($1::uuid[])", list(streams))
    return {UUID(int=row["event_id"].int) for row in rows}


@pytest.mark.fault("poison in a batch of 100")
async def test_poison_in_a_batch_of_a_hundred(rig: Rig) -> None:
    """99 are applied once, one is a dead letter with its stack; once the handler is mended a redrive applies it, once."""
    producer = await rig.started("producer")
    streams = await rig.append(producer, 100)
    await eventually(lambda: _published(rig))
    [poison] = await event_ids(rig, streams[50:51])
    worker = await rig.started("consumer", "all", ledger_faults=failing("raise", streams[50:51]))
    operator = await Operator.at(rig, worker)

    letters = await operator.letters(len(CONSUMERS))
    for consumer in CONSUMERS:
        await rig.until_applied(consumer, 99)
    assert await rig.count("consumer", "applied WHERE event_id = $1", poison) == 0
    assert {letter["consumer"] for letter in letters} == set(CONSUMERS)
    assert {letter["message_id"] for letter in letters} == {str(poison)}
    assert {letter["reason"] for letter in letters} == {"permanent"}
    assert all('raise ValueError("this release cannot handle it")' in letter["stack"] for letter in letters)

    await worker.stop()
    mended = await rig.started("consumer", "all")
    await (await Operator.at(rig, mended)).redrive(len(CONSUMERS))
    verdict = await rig.at_rest()

    assert verdict.applied == dict.fromkeys(CONSUMERS, 100)


async def _published(rig: Rig) -> None:
    assert await rig.count("producer", "outbox") == 0


@pytest.mark.slow
@pytest.mark.fault("handler that kills its process each time")
async def test_a_handler_that_kills_its_process(rig: Rig) -> None:
    """What nobody survives is found out alone and becomes a dead letter; its neighbours are applied, and it is when mended."""
    producer = await rig.started("producer")
    streams = await rig.append(producer, 50)
    await eventually(lambda: _published(rig))
    deadly = await event_ids(rig, streams[25:26])
    worker = rig.process("consumer", "all", keep=True, ledger_faults=failing("die", streams[25:26], ["gated"]))
    worker.start()
    await rig.until_applied("gated", 49, timeout_s=60)
    [letter] = await (await Operator.at(rig, worker)).letters(1, timeout_s=60)
    assert (letter["reason"], {UUID(letter["message_id"])}) == ("crashed", deadly)
    assert worker.starts > 1

    rig.kept.clear()
    await worker.stop()
    mended = await rig.started("consumer", "all")
    await (await Operator.at(rig, mended)).redrive(1)
    verdict = await rig.at_rest()

    assert verdict.applied == dict.fromkeys(CONSUMERS, 50)


@pytest.mark.slow
@pytest.mark.fault("handler that kills its process each time")
async def test_a_deadly_event_that_came_too_early(rig: Rig, servers: Any) -> None:
    """Parked and then deadly: it is found out just the same, and the one before it, which was applied, is not blamed."""
    writer = await rig.started("producer", "api")
    deadly, *_ = await rig.append(writer, 10, events=2)
    rows = await waiting(rig)
    await rig.rows("producer", "DELETE FROM outbox")
    worker = rig.process("consumer", "all", keep=True, ledger_faults={f"gated:{deadly}:2": "die"})
    worker.start()
    await publish(servers, rows[1::2])
    await publish(servers, rows[::2])
    await rig.until_applied("gated", 19, timeout_s=60)
    [letter] = await (await Operator.at(rig, worker)).letters(1, timeout_s=60)
    found = await event_ids(rig, [deadly])
    assert (letter["reason"], letter["consumer"], UUID(letter["message_id"]) in found) == ("crashed", "gated", True)

    rig.kept.clear()
    await worker.stop()
    mended = await rig.started("consumer", "all")
    await (await Operator.at(rig, mended)).redrive(1)
    verdict = await rig.at_rest()

    assert verdict.applied["gated"] == 20


@pytest.mark.fault("the whole retry ladder twice")
async def test_the_whole_ladder_twice(rig: Rig, servers: Any, broker: Any) -> None:
    """Tried nine times in vain, a dead letter; redriven, nine times more; then mended and applied once.

    The broker shortens every wait in the ladder by a policy; queues, delays and attempts are the real ones.
    """
    producer = await rig.started("producer")
    streams = await rig.append(producer, 20)
    await eventually(lambda: _published(rig))
    async with broker.policy("^retry\\.", **{"message-ttl": 20}), retried(servers.broker_url) as through_the_ladder:
        worker = await rig.started("consumer", "all", ledger_faults=failing("not-yet", streams[:10]))
        operator = await Operator.at(rig, worker)
        count = 10 * len(CONSUMERS)
        for turn in (1, 2):
            await eventually(lambda turn=turn: len(through_the_ladder) == turn * LADDER * count, timeout_s=60)
            letters = await operator.letters(count)
            assert {(letter["reason"], letter["attempts"]) for letter in letters} == {("exhausted", LADDER + 1)}
            if turn == 1:
                await operator.redrive(count)
        await worker.stop()
        mended = await rig.started("consumer", "all")
        await (await Operator.at(rig, mended)).redrive(count)
        verdict = await rig.at_rest()

    assert verdict.applied == dict.fromkeys(CONSUMERS, 20)


@pytest.mark.fault("crash between retry publish and ack")
@pytest.mark.parametrize("place", ["consumer.retry_noted", "consumer.retry_published"])
async def test_a_crash_between_retry_and_acknowledgement(rig: Rig, broker: Any, place: str) -> None:
    """Whether or not the message is in the ladder already, it comes again from its queue: one effect, and no trace left."""
    producer = await rig.started("producer")
    streams = await rig.append(producer, 10, events=3)
    await eventually(lambda: _published(rig))
    async with broker.policy("^retry\\.", **{"message-ttl": 200}):
        worker = rig.process("consumer", ledger_faults=failing("not-yet", streams[:5]))
        worker.start(VAJ_TEST_CRASH=f"{place}:3")
        await worker.ended()
        await rig.started("consumer")
        verdict = await rig.at_rest()

    assert verdict.applied["gated"] == 30


@pytest.mark.fault("redrive with several subscribers")
async def test_a_redrive_reaches_the_failed_consumer_alone(rig: Rig, servers: Any) -> None:
    """Of three subscribers one failed: it alone gets the message again, the others hear nothing of it."""
    producer = await rig.started("producer")
    streams = await rig.append(producer, 20, events=3)
    worker = await rig.started("consumer", "all", ledger_faults=failing("raise", streams[:5], ["any"]))
    await (await Operator.at(rig, worker)).letters(15)
    await worker.stop()
    mended = await rig.started("consumer", "all")
    operator = await Operator.at(rig, mended)
    before = await _handled(mended)

    await operator.redrive(15)
    await rig.until_applied("any", 60)
    assert await _handled(mended) == {**before, "any": before.get("any", 0) + 15}
    verdict = await rig.at_rest()

    assert verdict.applied["any"] == verdict.applied["gated"] == 60


async def _handled(worker: Process) -> dict[str, int]:
    """Messages that came to each consumer of a process, whatever became of them."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{worker.url}/metrics")).text
    counts: dict[str, int] = {}
    for line in text.splitlines():
        if line.startswith("consumer_handled_total{"):
            consumer, value = line.split('consumer="')[1].split('"')[0], float(line.rpartition(" ")[2])
            counts[consumer] = counts.get(consumer, 0) + int(value)
    return counts
