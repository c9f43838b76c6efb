"""The engine taken apart: messages stored, claimed and recorded by hand, in a database in which no dispatcher is at work."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from chassis.database import Database
from chassis.kernel import new_id
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
URL = "https://partner.example/hook"
READY = "vouajudar.batches.batch.ready.v1"
TABLES = "webhook_endpoints, webhook_gates, webhook_messages, webhook_events, webhook_attempts, events, outbox"


async def an_endpoint(database: Database, *, organization_id: UUID | None = None, **settings: Any) -> Endpoint:
    """An active endpoint, of an organization of its own unless told otherwise."""
    endpoint = Endpoint.create(
        EndpointId(new_id()), organization_id=OrganizationId(organization_id or new_id()),
        settings=EndpointSettings(**{"url": URL, **settings}), sealed_secret="s", now=NOW,
    )  # fmt: skip
    await save(database, endpoint)
    return endpoint


async def save(database: Database, endpoint: Endpoint) -> None:
    async with database.command() as tx:
        ENDPOINTS.save(tx, endpoint, now=NOW)


async def loaded(database: Database, endpoint: Endpoint) -> Endpoint:
    """The endpoint as it is stored now."""
    return await ENDPOINTS.get(database.reading(), endpoint.id)


async def some_messages(
    database: Database, endpoint: Endpoint, count: int = 1, *, subject: UUID | None = None, first: int = 1,
    event_type: str = READY,
) -> list[UUID]:  # fmt: skip
    """Messages of as many aggregates, or of this one in versions from `first` on; their bodies count from 0."""
    ids: list[UUID] = []
    for number in range(count):
        version = 1 if subject is None else first + number
        event = StoredEvent(new_id(), event_type, subject or new_id(), version, b"%d" % number, None, "c")
        listener = Listener(endpoint.id, endpoint.organization_id, MessageStatus.PENDING, endpoint.settings.ordered)
        async with database.command() as tx:
            ids += repository.store(tx, event, [listener])
    return ids


async def claimed(database: Database, count: int = 100, *, slots: int = 10, **options: Any) -> list[Claimed]:
    async with database.command() as tx:
        return await usecases.claim(tx, count, slots_per_endpoint=slots, **{"margin_s": 5, **options})


def finished(piece: Claimed, status: MessageStatus, *, wait_s: float = 0, code: int | None = None) -> Attempted:
    outcome = Outcome.DELIVERED if status is MessageStatus.DELIVERED else Outcome.FAILED
    attempt = Attempt(outcome, 3, status=code or (200 if outcome is Outcome.DELIVERED else 500))
    decision = Decision(status, NOW if status is MessageStatus.RETRYING else None, disable_endpoint=code == 410)
    return Attempted(new_id(), piece, attempt, decision, timedelta(seconds=wait_s), NOW, URL, [("webhook-id", "1")])


async def record(database: Database, done: Sequence[Attempted], *, now: datetime | None = None) -> None:
    """As the recorder does it: in a real transaction when one of them tells of trouble."""
    if any(usecases.tells_of_trouble(one) for one in done):
        async with database.transaction() as tx:
            await usecases.record_trouble(tx, done, now=now or datetime.now(UTC), more_may_start=False)
    else:
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


async def everything_is_due(database: Database) -> None:
    """No wait is left: of retries, of order, of breakers."""
    async with database.command() as tx:
        await tx.fetch(
            "UPDATE webhook_messages SET due_at = now() - interval '1 second' WHERE status IN ('pending', 'retrying')"
        )
        await tx.fetch("UPDATE webhook_gates SET open_until = now() - interval '1 second' WHERE open_until IS NOT NULL")


async def statuses(database: Database, endpoint: Endpoint) -> list[tuple[str, int]]:
    query = "SELECT status, attempts FROM webhook_messages WHERE endpoint_id = $1 ORDER BY id"
    return [(row["status"], row["attempts"]) for row in await database.reading().fetch(query, endpoint.id)]
