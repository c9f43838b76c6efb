"""Small tools of these tests: run a role for a while, announce the probe's event, refuse one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

from chassis.broker import Publisher
from chassis.database import Database
from chassis.kernel import new_id
from chassis.outbox import PARTITIONS, Announcement, enqueue
from chassis.roles import Role
from contracts.events.webhooks import EndpointTest


@contextlib.asynccontextmanager
async def running(*roles: Role) -> AsyncIterator[None]:
    """Run roles until the block ends; then cancel them as the supervisor would."""
    tasks = [asyncio.create_task(role.run()) for role in roles]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def announce(database: Database, subject: UUID, *versions: int) -> list[UUID]:
    """Commit one outbox row per version of an aggregate."""
    ids = [new_id() for _ in versions]
    event = Announcement(EndpointTest(endpoint_id=subject))
    async with database.command() as tx:
        messages = [(event_id, version, event) for event_id, version in zip(ids, versions, strict=True)]
        enqueue(tx, stream_id=subject, messages=messages, now=datetime.now(UTC))
    return ids


async def left_in(database: Database) -> int:
    """How many messages are in the outbox."""
    count: int = await database.reading().fetchval("SELECT count(*) FROM outbox")
    return count


async def declare_unbound(publisher: Publisher) -> None:
    """An exchange from which no way leads on."""
    await publisher._channels[0]._channel.exchange_declare(
        exchange="evt.nobody-binds", exchange_type="topic", durable=True
    )


def in_one_partition() -> tuple[UUID, UUID]:
    """Two aggregates."""
    first = new_id()
    return first, UUID(int=first.int + PARTITIONS)
