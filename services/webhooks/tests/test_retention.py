"""What is over goes after 30 days and not before; what may still be sent or asked for stays."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from chassis.database import Database
from chassis.partitions import DAYS_AHEAD, first_id_of
from webhooks import retention, usecases
from webhooks.domain import MessageStatus

from services.webhooks.tests.engine import an_endpoint, claimed, finished, record, some_messages, statuses


async def _ages(database: Database, days: int) -> None:
    """Everything there is happened so many days ago."""
    moved = first_id_of(datetime.now(UTC).date() - timedelta(days=days))
    for table in ("webhook_messages", "webhook_events"):
        rows = await database.pool.fetch(f"SELECT id FROM {table}")
        for number, row in enumerate(rows):
            old = UUID(int=moved.int | (row["id"].int & (1 << 64) - 1) | number << 64)
            await database.pool.execute(f"UPDATE {table} SET id = $2 WHERE id = $1", row["id"], old)
            if table == "webhook_events":
                await database.pool.execute(
                    "UPDATE webhook_messages SET event_id = $2 WHERE event_id = $1", row["id"], old
                )
    back = timedelta(days=days)
    await database.pool.execute(
        "UPDATE webhook_messages SET due_at = due_at - $1::interval, created_at = created_at - $1::interval", back
    )
    await database.pool.execute("UPDATE webhook_events SET stored_at = stored_at - $1::interval", back)


async def _counts(database: Database) -> tuple[int, int]:
    return (
        await database.pool.fetchval("SELECT count(*) FROM webhook_messages"),
        await database.pool.fetchval("SELECT count(*) FROM webhook_events"),
    )


@pytest.mark.parametrize(("days", "left"), [(29, (3, 3)), (32, (1, 1))])
async def test_what_is_over_is_forgotten_after_thirty_days(empty: Database, days: int, left: tuple[int, int]) -> None:
    """Delivered and given up go with their events; what waits for a retry stays, however old."""
    await some_messages(empty, await an_endpoint(empty), 3)
    ends = (MessageStatus.DELIVERED, MessageStatus.EXHAUSTED, MessageStatus.RETRYING)
    await record(empty, [finished(piece, end) for piece, end in zip(await claimed(empty), ends, strict=True)])
    await _ages(empty, days)

    await retention.round_of(empty, datetime.now(UTC))

    assert await _counts(empty) == left


async def test_an_event_stays_as_long_as_a_message_of_it(empty: Database) -> None:
    """What was given up today can be tried again, though its event is old."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint)
    await _ages(empty, 40)
    (piece,) = await claimed(empty)
    await record(empty, [finished(piece, MessageStatus.EXHAUSTED)])

    await retention.round_of(empty, datetime.now(UTC))

    assert await _counts(empty) == (1, 1)


async def test_what_was_held_for_thirty_days_is_given_up_visibly(empty: Database) -> None:
    """It ends with a reason, and stays to be seen; what is held for a shorter time waits on."""
    endpoint = await an_endpoint(empty)
    endpoint.pause()
    await some_messages(empty, endpoint)
    await empty.pool.execute("UPDATE webhook_messages SET status = 'held'")
    await _ages(empty, 29)
    await retention.round_of(empty, datetime.now(UTC))
    before = await statuses(empty, endpoint)
    await _ages(empty, 2)

    await retention.round_of(empty, datetime.now(UTC))

    row = await empty.pool.fetchrow("SELECT status, last_error FROM webhook_messages")
    assert before == [("held", 0)]
    assert (row["status"], row["last_error"]) == ("exhausted", "held-too-long")


async def test_attempts_lie_in_the_partition_of_their_day(empty: Database) -> None:
    """Made ahead, three days of them."""
    today = datetime.now(UTC).date()
    await _keep(empty, today)
    await some_messages(empty, await an_endpoint(empty))
    (piece,) = await claimed(empty)
    await record(empty, [finished(piece, MessageStatus.DELIVERED)])

    names = await _partitions(empty)
    where = await empty.pool.fetchval("SELECT tableoid::regclass::text FROM webhook_attempts")
    assert where == f"webhook_attempts_{today:%Y%m%d}"
    assert names >= {f"webhook_attempts_{today + timedelta(days=n):%Y%m%d}" for n in range(DAYS_AHEAD + 1)}


async def test_attempts_are_dropped_by_the_day_after_thirty_days(empty: Database) -> None:
    """The day is gone with all that was in it, and those before it; the thirtieth is still there."""
    today = datetime.now(UTC).date()
    await _keep(empty, today)
    await some_messages(empty, await an_endpoint(empty))
    (piece,) = await claimed(empty)
    await record(empty, [finished(piece, MessageStatus.DELIVERED)])

    await _keep(empty, today + timedelta(days=30))
    kept = await empty.pool.fetchval("SELECT count(*) FROM webhook_attempts")
    await _keep(empty, today + timedelta(days=31))

    assert kept == 1
    assert await empty.pool.fetchval("SELECT count(*) FROM webhook_attempts") == 0
    assert f"webhook_attempts_{today:%Y%m%d}" not in await _partitions(empty)


async def _keep(database: Database, today: date) -> None:
    async with database.transaction() as tx:
        await usecases.ATTEMPTS.keep(tx, today)


async def _partitions(database: Database) -> set[str]:
    rows = await database.pool.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'webhook_attempts'::regclass"
    )
    return {row["relname"] for row in rows}
