"""Each message has its effect exactly once, whatever happens to it on the way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from chassis.app import Service
from chassis.broker import Incoming, Publisher, Subscriber
from chassis.consumer import Consumer, ConsumerRunner, NotYet
from chassis.database import Database, Transaction
from chassis.kernel import ConcurrentUpdate, new_id
from chassis.message_store import SqlMessageStore
from chassis.outbox import Announcement, envelope_bytes
from chassis.roles import Role
from chassis.telemetry import in_context, start_context
from chassis.testing import Bus, eventually
from chassis.testing.links import Link
from contracts.events.webhooks import EndpointTest
from contracts.registry import Received

from services.chassis.tests.probe import running


async def _times(database: Database, subject: UUID) -> int:
    return await database.reading().fetchval("SELECT times FROM effects WHERE subject = $1", subject) or 0


def _message(subject: UUID, event_id: UUID | None = None) -> Incoming:
    from datetime import UTC, datetime

    event_id = event_id or new_id()
    with in_context(start_context()):
        body = envelope_bytes(Announcement(EndpointTest(endpoint_id=subject)), subject, event_id, 1, datetime.now(UTC))
    return Incoming(1, str(event_id), "endpoint.test.v1", body, {})


class Probe:
    """A runner whose handler can be told to fail, then counts."""

    def __init__(self, service: Service, database: Database, publisher: Publisher) -> None:
        self.failures: list[BaseException] = []
        self._count = service.consumers[0].handlers[EndpointTest]
        self.runner = ConsumerRunner(
            "webhooks", Consumer("probe", {EndpointTest: self._handle}), SqlMessageStore(database), publisher
        )

    async def _handle(self, tx: Transaction, received: Received) -> None:
        await self._count(tx, received)
        if self.failures:
            raise self.failures.pop(0)


@pytest.fixture
async def probe(service: Service, effects: Database, publisher: Publisher, declared: None) -> Probe:
    return Probe(service, effects, publisher)


async def test_duplicates_have_one_effect(probe: Probe, effects: Database) -> None:
    """The same message twice in a batch and again later counts once."""
    subject = new_id()
    message = _message(subject)

    await probe.runner.handle([message, message])
    await probe.runner.handle([message])

    assert await _times(effects, subject) == 1


async def test_two_workers_with_the_same_messages_apply_each_once(probe: Probe, effects: Database) -> None:
    """Whoever commits first wins; the other sees a duplicate, in any order of the batch and without deadlock."""
    subjects = [new_id() for _ in range(20)]
    messages = [_message(subject) for subject in subjects]

    await asyncio.gather(probe.runner.handle(messages), probe.runner.handle(messages[::-1]))

    assert [await _times(effects, subject) for subject in subjects] == [1] * 20


async def test_poison_is_put_aside_with_its_stack_and_neighbours_pass(probe: Probe, effects: Database) -> None:
    """One failing message in a batch of a hundred: 99 applied once, one dead letter, no effect of the poison."""
    subjects = [new_id() for _ in range(100)]
    poisoned = subjects[50]
    original = probe._count

    async def count(tx: Transaction, received: Received) -> None:
        await original(tx, received)
        event: Any = received.event
        if event.endpoint_id == poisoned:
            raise ValueError("cannot be handled")

    probe._count = count
    messages = [_message(subject) for subject in subjects]
    await probe.runner.handle(messages)

    assert [await _times(effects, s) for s in subjects] == [0 if s == poisoned else 1 for s in subjects]
    row = await effects.reading().fetchrow(
        "SELECT error_type, error_stack, reason FROM dead_letters WHERE message_id = $1", messages[50].message_id
    )
    assert row is not None
    assert (row["error_type"], row["reason"]) == ("ValueError", "permanent")
    assert "cannot be handled" in row["error_stack"]


async def test_a_conflict_is_tried_again_at_once(probe: Probe, effects: Database) -> None:
    """Losing a race twice costs nothing but time."""
    subject = new_id()
    probe.failures = [ConcurrentUpdate(), ConcurrentUpdate(), ConcurrentUpdate()]

    await probe.runner.handle([_message(subject)])

    assert await _times(effects, subject) == 1


async def test_what_is_not_possible_yet_returns_to_its_own_queue(
    probe: Probe, effects: Database, broker_url: str, bus: Bus
) -> None:
    """Through the ladder and back to this consumer's queue alone, with one more attempt on its header; then it works."""
    subject = new_id()
    probe.failures = [NotYet("the cause is still on its way")]
    subscriber = Subscriber(broker_url, name="probe", subscriptions=[probe.runner.subscription])

    async with running(Role("consumers", subscriber.run)):
        await bus.publish(EndpointTest(endpoint_id=subject), subject=subject)
        await eventually(lambda: _times(effects, subject))

    assert await _times(effects, subject) == 1


async def test_the_last_attempt_ends_as_a_dead_letter(probe: Probe, effects: Database) -> None:
    """After eight retries a message that still cannot be handled is kept, not dropped."""
    message = _message(new_id())
    probe.failures = [NotYet("never")] * 2
    last = Incoming(1, message.message_id, message.routing_key, message.body, {"x-attempt": 9})

    await probe.runner.handle([last])

    query = "SELECT reason FROM dead_letters WHERE message_id = $1"
    assert await effects.reading().fetchval(query, message.message_id) == "exhausted"


@pytest.fixture
async def link(broker_url: str) -> AsyncIterator[Link]:
    async with Link(broker_url) as opened:
        yield opened


async def test_cut_links_lose_and_double_nothing(probe: Probe, effects: Database, bus: Bus, link: Link) -> None:
    """With the consumer's connection cut again and again, every message has its effect once, in the same process."""
    subscriber = Subscriber(link.url, name="cut", subscriptions=[probe.runner.subscription])
    subjects = [new_id() for _ in range(300)]

    async with running(Role("consumers", subscriber.run)):
        for number, subject in enumerate(subjects):
            await bus.publish(EndpointTest(endpoint_id=subject), subject=subject)
            if number % 60 == 59:
                link.cut()

        async def all_once() -> None:
            rows = await effects.reading().fetch("SELECT times FROM effects WHERE subject = ANY($1::uuid[])", subjects)
            assert [row["times"] for row in rows] == [1] * len(subjects)

        await eventually(all_once, timeout_s=20)


async def test_a_failed_step_fails_the_batch_even_when_a_later_handler_swallows_it(effects: Database) -> None:
    """A transaction whose statement failed never ends as a silent rollback."""
    subject = new_id()

    with pytest.raises(asyncpg.NotNullViolationError):  # noqa: PT012 - the block is the transaction
        async with effects.transaction() as tx:
            tx.write("INSERT INTO effects (subject, times) VALUES ($1, 1)", subject)
            tx.end_step()
            tx.write("INSERT INTO effects (subject, times) VALUES ($1, NULL)", new_id())
            tx.end_step()
            with contextlib.suppress(asyncpg.NotNullViolationError):
                await tx.fetch("SELECT 1")

    assert await _times(effects, subject) == 0


async def test_a_step_is_seen_by_the_next_reading(effects: Database) -> None:
    """Steps wait for company, but never past a read of the same transaction, and keep their order."""
    subject = new_id()
    add = "INSERT INTO effects VALUES ($1, $2) ON CONFLICT (subject) DO UPDATE SET times = effects.times * 10 + $2"

    async with effects.transaction() as tx:
        for digit in (1, 2, 3):
            tx.write(add, subject, digit)
            tx.end_step()
        assert await tx.fetchval("SELECT times FROM effects WHERE subject = $1", subject) == 123
