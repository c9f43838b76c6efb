"""The inbox's partitions: made ahead, dropped in time, and nothing forgotten that a late housekeeper left lying."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from chassis.database import Database
from chassis.inbox import DAYS_KEPT, first_time, keep_partitions
from chassis.partitions import DAYS_AHEAD

TODAY = date(2030, 6, 15)  # far from the days that other tests live in


def _id_on(day: date, number: int = 1) -> UUID:
    """An event id of noon of that day."""
    millis = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp() * 1000)
    return UUID(int=millis << 80 | 7 << 76 | 2 << 62 | number)


async def _keep(database: Database, today: date) -> None:
    async with database.transaction() as tx:
        await keep_partitions(tx, today)


async def _partitions(database: Database) -> set[str]:
    rows = await database.reading().fetch(
        "SELECT relname FROM pg_class WHERE relname ~ '^inbox_2030' AND relkind = 'r'"
    )
    return {row["relname"] for row in rows}


async def _is_first(database: Database, message_id: UUID) -> bool:
    async with database.transaction() as tx:
        return await first_time(tx, "partitions", [message_id]) == {message_id}


async def test_partitions_are_made_ahead_and_dropped_in_time(database: Database) -> None:
    """Yesterday to three days ahead; after two weeks a day is gone, and what was in it."""
    await _keep(database, TODAY)
    made = await _partitions(database)
    await _keep(database, TODAY)
    await _keep(database, TODAY + timedelta(days=DAYS_KEPT + DAYS_AHEAD + 1))

    assert made == {f"inbox_{TODAY + timedelta(days=n):%Y%m%d}" for n in range(-1, DAYS_AHEAD + 1)}
    assert made & await _partitions(database) == set()


async def test_what_came_on_a_day_without_a_partition_is_still_known(database: Database) -> None:
    """Housekeeping that comes late makes the partition and moves into it what fell into the default one."""
    late = TODAY + timedelta(days=100)
    message_id = _id_on(late)
    assert await _is_first(database, message_id)

    await _keep(database, late)

    assert not await _is_first(database, message_id)
    query = "SELECT tableoid::regclass::text FROM inbox WHERE message_id = $1"
    assert await database.reading().fetchval(query, message_id) == f"inbox_{late:%Y%m%d}"


async def test_messages_of_long_ago_are_forgotten_as_others_are(database: Database) -> None:
    """Once more after two weeks they would be new; until then they are known."""
    message_id = _id_on(date(2001, 1, 1))
    assert await _is_first(database, message_id)
    await _keep(database, TODAY)
    assert not await _is_first(database, message_id)

    await database.pool.execute(
        "UPDATE inbox SET processed_at = now() - interval '15 days' WHERE message_id = $1", message_id
    )
    await _keep(database, TODAY)

    assert await _is_first(database, message_id)
