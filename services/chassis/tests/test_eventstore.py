"""The event store: versions never clash silently, and a reader of the whole store misses nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from chassis import eventstore
from chassis.database import Database, Transaction
from chassis.kernel import ConcurrentUpdate, new_id
from chassis.telemetry import in_context, start_context
from chassis.wire import Event


@dataclass(frozen=True)
class Noted:
    number: int


def _append(tx: Transaction, stream: UUID, version: int) -> None:
    eventstore.append(
        tx, stream, expected_version=version - 1, ids=[new_id()], events=[Noted(version)], now=datetime.now(UTC)
    )


async def test_two_writers_of_one_version_clash(database: Database) -> None:
    """Of ten that append after the same version one succeeds; the others know."""
    stream = new_id()

    async def write() -> bool:
        try:
            async with database.command() as tx:
                _append(tx, stream, 1)
        except ConcurrentUpdate:
            return False
        return True

    assert sum(await asyncio.gather(*(write() for _ in range(10)))) == 1
    assert len(await eventstore.load(database.reading(), stream)) == 1


async def test_a_reader_of_everything_never_misses_a_late_commit(database: Database) -> None:
    """While a transaction that took its place earlier is open, nothing after it is shown; then all is, in order."""
    early, late = new_id(), new_id()
    start = await _end(database)
    async with database.transaction() as slow:
        _append(slow, early, 1)
        await slow.flush()
        async with database.command() as fast:
            _append(fast, late, 1)
        meanwhile = await eventstore.read_all(database.reading(), after=start)

    seen = [row["stream_id"] for row in await eventstore.read_all(database.reading(), after=start)]

    assert meanwhile == []
    assert seen == [early, late]


async def _end(database: Database) -> tuple[int, int, int]:
    position = (0, 0, 0)
    while rows := await eventstore.read_all(database.reading(), after=position):
        position = (rows[-1]["epoch"], rows[-1]["tx"], rows[-1]["seq"])
    return position


async def test_a_stale_expectation_is_refused(database: Database) -> None:
    """Appending where an event is already does not overwrite it."""
    stream = new_id()
    async with database.command() as tx:
        _append(tx, stream, 1)
    with pytest.raises(ConcurrentUpdate):
        async with database.command() as tx:
            _append(tx, stream, 1)


async def test_a_past_state_has_no_holes(database: Database) -> None:
    """The second of three commands carries the latest time, for it waited: before that time there is one event, not two."""
    stream, noon = new_id(), datetime(2026, 5, 4, 12, tzinfo=UTC)
    times = [noon, noon + timedelta(seconds=9), noon + timedelta(seconds=3)]
    for version, now in enumerate(times, start=1):
        async with database.command() as tx:
            eventstore.append(
                tx, stream, expected_version=version - 1, ids=[new_id()], events=[Noted(version)], now=now
            )

    async def seen(until: datetime | None) -> list[int]:
        return [row["version"] for row in await eventstore.load(database.reading(), stream, until=until)]

    assert await seen(noon - timedelta(seconds=1)) == []
    assert await seen(noon) == await seen(noon + timedelta(seconds=5)) == [1]
    assert await seen(noon + timedelta(seconds=9)) == await seen(None) == [1, 2, 3]


async def test_two_saves_of_one_transaction_stay_two(database: Database) -> None:
    """What was announced with each depends on the state it left: a replay must not take them for one."""
    stream, noon = new_id(), datetime(2026, 5, 4, 12, tzinfo=UTC)
    with in_context(start_context()):
        async with database.transaction() as tx:
            for after, count in ((0, 2), (2, 1)):
                events = [Noted(after + n) for n in range(count)]
                ids = [new_id() for _ in events]
                eventstore.append(tx, stream, expected_version=after, ids=ids, events=events, now=noon)
                await tx.flush()

    saves = eventstore.saves(await eventstore.load(database.reading(), stream))

    assert [[row["version"] for row in save] for save in saves] == [[1, 2], [3]]


async def test_the_callers_own_clock_is_kept_as_evidence(database: Database) -> None:
    """Beside the time that counts an event keeps the one that the caller claims, and a history shows it."""
    stream, claimed = new_id(), datetime(2026, 5, 4, 11, 30, tzinfo=UTC)
    with in_context(replace(start_context(), client_time=claimed)):
        async with database.command() as tx:
            _append(tx, stream, 1)

    (row,) = await eventstore.load(database.reading(), stream)

    assert (Event.of(row).client_time, Event.of(row).occurred_at > claimed) == (claimed, True)
