"""Leases and turns on a real database: nothing is given to two, nobody waits behind a backlog, no late result misleads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest_asyncio
from chassis.database import Database
from chassis.kernel import new_id
from chassis.migrate import migrate
from webhooks import repository, usecases
from webhooks.domain import (
    Attempt,
    Decision,
    Endpoint,
    EndpointId,
    EndpointSettings,
    MessageStatus,
    OrganizationId,
    Outcome,
)
from webhooks.repository import ENDPOINTS, Attempted, Claimed, Listener, StoredEvent

NOW = datetime.now(UTC)
SETTINGS = EndpointSettings(url="https://partner.example/hook")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def quiet() -> AsyncIterator[Database]:
    """A database in which no dispatcher is at work."""
    admin_url = os.environ["VAJ_TEST_DATABASE_ADMIN_URL"]
    name = f"test_webhooks_{uuid4().hex[:8]}"
    connection = await asyncpg.connect(admin_url)
    await connection.execute(f"CREATE DATABASE {name}")
    url = f"{admin_url.rpartition('/')[0]}/{name}"
    try:
        await migrate(url, "webhooks")
        database = Database(url)
        await database.open()
        yield database
        await database.close()
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


@pytest_asyncio.fixture(loop_scope="session")
async def empty(quiet: Database) -> Database:
    async with quiet.command() as tx:
        await tx.fetch("TRUNCATE webhook_endpoints, webhook_gates, webhook_messages, webhook_events, webhook_attempts")
    return quiet


async def an_endpoint(database: Database) -> Endpoint:
    endpoint = Endpoint.create(
        EndpointId(new_id()), organization_id=OrganizationId(new_id()), settings=SETTINGS, sealed_secret="s", now=NOW
    )
    await save(database, endpoint)
    return endpoint


async def save(database: Database, endpoint: Endpoint) -> None:
    async with database.command() as tx:
        ENDPOINTS.save(tx, endpoint, now=NOW)


async def some_messages(database: Database, endpoint: Endpoint, count: int) -> list[UUID]:
    ids: list[UUID] = []
    for number in range(count):
        event = StoredEvent(new_id(), "vouajudar.batches.batch.ready.v1", new_id(), 1, b"%d" % number, None, "c")
        listener = Listener(endpoint.id, endpoint.organization_id, MessageStatus.PENDING)
        async with database.command() as tx:
            ids += repository.store(tx, event, [listener])
    return ids


async def claimed(database: Database, count: int, *, slots: int = 10, margin_s: float = 5) -> list[Claimed]:
    async with database.command() as tx:
        return await usecases.claim(tx, count, slots_per_endpoint=slots, margin_s=margin_s)


def finished(piece: Claimed, status: MessageStatus, *, wait_s: float = 0) -> Attempted:
    outcome = Outcome.DELIVERED if status is MessageStatus.DELIVERED else Outcome.FAILED
    attempt = Attempt(outcome, 3, status=200 if outcome is Outcome.DELIVERED else 500)
    return Attempted(
        new_id(), piece, attempt, Decision(status), timedelta(seconds=wait_s), NOW, SETTINGS.url, [("webhook-id", "1")]
    )


async def record(database: Database, done: Sequence[Attempted]) -> None:
    async with database.command() as tx:
        usecases.record(tx, done, more_may_start=False)


async def lapse(database: Database) -> None:
    """Every lease is over, and the sweeper came by."""
    async with database.command() as tx:
        await tx.fetch("UPDATE webhook_messages SET due_at = now() - interval '1 second' WHERE status = 'delivering'")
    await sweep(database)


async def sweep(database: Database) -> None:
    async with database.command() as tx:
        await usecases.sweep(tx)


async def statuses(database: Database, endpoint: Endpoint) -> list[tuple[str, int]]:
    query = "SELECT status, attempts FROM webhook_messages WHERE endpoint_id = $1 ORDER BY id"
    return [(row["status"], row["attempts"]) for row in await database.reading().fetch(query, endpoint.id)]


async def test_a_message_is_claimed_by_one_of_many(empty: Database) -> None:
    """Twenty dispatchers that claim at once share the messages without an overlap."""
    ids = [mid for _ in range(10) for mid in await some_messages(empty, await an_endpoint(empty), 5)]

    taken = [piece for pieces in await asyncio.gather(*(claimed(empty, 4) for _ in range(20))) for piece in pieces]
    taken += await claimed(empty, 100)

    assert sorted(piece.message_id for piece in taken) == sorted(ids)


async def test_endpoints_take_turns(empty: Database) -> None:
    """A long backlog of one endpoint leaves room for the single message of another; slots bound each."""
    busy, quiet = await an_endpoint(empty), await an_endpoint(empty)
    await some_messages(empty, busy, 30)
    (late,) = await some_messages(empty, quiet, 1)

    first = await claimed(empty, 4)
    second = await claimed(empty, 100)

    assert late in {piece.message_id for piece in first}
    assert [piece.body for piece in first if piece.endpoint_id == busy.id] == [b"0", b"1", b"2"]
    assert len(first) + len(second) == 11
    assert await claimed(empty, 100) == []


async def test_a_lapsed_lease_gives_the_message_to_the_next(empty: Database) -> None:
    """What a crashed process left is due again when the lease ends, not before, and has lost no attempt."""
    await some_messages(empty, await an_endpoint(empty), 1)
    (lost,) = await claimed(empty, 1)

    before = await claimed(empty, 1)
    await lapse(empty)
    (again,) = await claimed(empty, 1)

    assert before == []
    assert (again.message_id, again.event_id, again.attempts) == (lost.message_id, lost.event_id, 0)
    assert again.lease_id != lost.lease_id


async def test_a_late_failure_is_logged_only(empty: Database) -> None:
    """The result of a lapsed lease changes nothing that belongs to the next one; a late acceptance counts."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint, 2)
    late = await claimed(empty, 2)
    await lapse(empty)
    await claimed(empty, 2)

    await record(empty, [finished(late[0], MessageStatus.EXHAUSTED), finished(late[1], MessageStatus.DELIVERED)])

    assert sorted(await statuses(empty, endpoint)) == [("delivered", 1), ("delivering", 0)]
    assert await empty.reading().fetchval("SELECT count(*) FROM webhook_attempts") == 2


async def test_a_retry_waits_for_its_time(empty: Database) -> None:
    """A retrying message is not claimed before it is due."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint, 2)
    soon, later = await claimed(empty, 2)

    await record(
        empty, [finished(soon, MessageStatus.RETRYING), finished(later, MessageStatus.RETRYING, wait_s=60)]
    )  # fmt: skip

    assert [piece.message_id for piece in await claimed(empty, 10)] == [soon.message_id]


async def test_what_is_due_at_a_paused_endpoint_is_held_and_let_go_later(empty: Database) -> None:
    """However pausing and storing interleave, a due message of a paused endpoint ends up held, and free when enabled."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint, 3)
    endpoint.pause()
    await save(empty, endpoint)

    assert await claimed(empty, 10) == []
    assert await statuses(empty, endpoint) == [("held", 0)] * 3
    await sweep(empty)
    assert await statuses(empty, endpoint) == [("held", 0)] * 3

    endpoint.enable()
    await save(empty, endpoint)
    await sweep(empty)

    assert len(await claimed(empty, 10)) == 3


async def test_what_waits_for_a_deleted_endpoint_is_cancelled(empty: Database) -> None:
    """Pending and held alike."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint, 1)
    endpoint.pause()
    await save(empty, endpoint)
    await claimed(empty, 10)
    await some_messages(empty, endpoint, 1)
    endpoint.delete()
    await save(empty, endpoint)

    await sweep(empty)
    assert await claimed(empty, 10) == []

    assert await statuses(empty, endpoint) == [("cancelled", 0)] * 2


async def test_the_stream_of_an_endpoint_folds_to_its_row(empty: Database) -> None:
    """The stored events give the very endpoint that the row holds."""
    endpoint = await an_endpoint(empty)
    endpoint.mark_failing(NOW, percent=50)
    endpoint.rotate_secret("t", now=NOW)
    endpoint.disable("gone")
    await save(empty, endpoint)

    row = await ENDPOINTS.get(empty.reading(), endpoint.id)

    assert row == await ENDPOINTS.as_of(empty.reading(), endpoint.id)
    assert row == endpoint
