"""What is over goes, each kind after its time; what is not stays."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from chassis.app import keep_house
from chassis.database import Database
from chassis.kernel import new_id

_OLD, _NEW = "now() - interval '400 days'", "now()"
_REPLAY = """INSERT INTO replays (id, queue, aggregates, status, created_at, next_at)
VALUES ($1, 'q', '{{}}', '{status}', {at}, {at})"""
_PROCESS = """INSERT INTO processes
    (id, kind, key, run, status, outcome, state, steps, correlation_id, version, started_at, changed_at)
VALUES ($1, 'house', gen_random_uuid(), 1, '{status}', nullif('{status}', 'running'), '{{}}', '[]', 'c', 1, {at}, {at})"""
_JOB = """INSERT INTO operator_jobs (id, kind, total, rate_per_s, status, created_at, next_at)
VALUES ($1, 'house', 0, 0, '{status}', {at}, {at})"""
_NOTE = """INSERT INTO retrying_messages (consumer, message_id, stream_id, version, due_at)
VALUES ('house', $1::uuid::text, $1, 1, {at})"""


@pytest.mark.parametrize(
    ("insert", "count"),
    [
        (_REPLAY, "SELECT count(*) FROM replays WHERE id = $1"),
        (_JOB, "SELECT count(*) FROM operator_jobs WHERE id = $1"),
        (_PROCESS, "SELECT count(*) FROM processes WHERE id = $1"),
        (_NOTE, "SELECT count(*) FROM retrying_messages WHERE stream_id = $1"),
    ],
    ids=["replays", "jobs", "processes", "notes of the ladder"],
)
async def test_what_is_long_over_is_forgotten(database: Database, insert: str, count: str) -> None:
    """Of one kind: what ended long ago, and what ended just now."""
    old, new = new_id(), new_id()
    await database.pool.execute(insert.format(status="done", at=_OLD), old)
    await database.pool.execute(insert.format(status="done", at=_NEW), new)

    async with database.transaction() as tx:
        await keep_house(tx, now=datetime.now(UTC))

    assert [await database.reading().fetchval(count, each) for each in (old, new)] == [0, 1]


async def test_a_process_that_runs_is_never_forgotten(database: Database) -> None:
    """However long ago it began."""
    running = new_id()
    await database.pool.execute(_PROCESS.format(status="running", at=_OLD), running)

    async with database.transaction() as tx:
        await keep_house(tx, now=datetime.now(UTC))

    assert await database.reading().fetchval("SELECT count(*) FROM processes WHERE id = $1", running) == 1
    await database.pool.execute("DELETE FROM processes WHERE id = $1", running)
