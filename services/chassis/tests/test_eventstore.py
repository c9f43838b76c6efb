"""The event store: versions never clash silently, and a reader of the whole store misses nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest
from chassis import eventstore
from chassis.database import Database, Transaction
from chassis.kernel import ConcurrentUpdate, new_id


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
