"""What the databases say: the event stores, read directly, and every other table that a check compares with them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

import asyncpg
from contracts.registry import event_types

from contracts import topology
from scripts.demo_run.stack import SERVICES

Row = Mapping[str, Any]
# Inboxes keep two weeks; what is older cannot be counted against them any more.
LOOKED_AT = timedelta(days=12)
STATEMENT_S_MAX = 60

# Domain events that are published under another name.
RENAMED = {
    ("deliveries", "HoldGranted"): "DeliveryHoldGranted",
    ("deliveries", "HoldRejected"): "DeliveryHoldRejected",
    ("deliveries", "NoShowContested"): "VolunteerNoShowContested",
    ("deliveries", "ClaimConfirmed"): "DeliveryClaimConfirmed",
    ("deliveries", "DeliveryInterrupted"): "DropoffRefused",
    ("resources", "CatalogueLoadRejected"): "CatalogueLoadFailed",
}
PRIVATE_PRODUCERS = {"webhooks"}  # what owners do with their endpoints concerns them alone; only trouble is published
# Steps of a load that only its workers and its history care for.
PRIVATE = {("resources", f"CatalogueLoad{step}") for step in ("Validating", "Started", "Confirmed", "Retried")}


@dataclass(frozen=True)
class Stored:
    """An event as its producer keeps it; `public` is the type it is published as, None when it is private."""

    id: UUID
    producer: str
    kind: str
    public: str | None
    stream: UUID
    version: int
    at: datetime
    data: dict[str, Any]
    actor: UUID | None


@cache
def public_types() -> dict[tuple[str, str], str]:
    """(producer, class name) of every published type."""
    return {(event.producer, event.__name__): name for name, event in event_types().items()}


def published_as(producer: str, kind: str) -> str | None:
    """The public type of a domain event, or None."""
    return public_types().get((producer, RENAMED.get((producer, kind), kind)))


def is_private(producer: str, kind: str) -> bool:
    """Known to stay inside its service."""
    return producer in PRIVATE_PRODUCERS or (producer, kind) in PRIVATE


class Evidence:
    """Connections to the seven databases, and the event stores as they were read."""

    def __init__(self, connections: Mapping[str, asyncpg.Connection]) -> None:
        self._connections = connections
        self.since = datetime.now(UTC) - LOOKED_AT
        self.stores: dict[str, list[Stored]] = {}
        self.published: dict[UUID, Stored] = {}  # every event that is published, of all services, by id

    async def rows(self, service: str, query: str, *arguments: Any) -> list[Row]:
        """All rows of a query on one service's database."""
        return list(await self._connections[service].fetch(query, *arguments))

    async def value(self, service: str, query: str, *arguments: Any) -> Any:
        """The first column of the first row."""
        return await self._connections[service].fetchval(query, *arguments)

    async def generations(self, service: str, consumer: str) -> list[str]:
        """The names under which a consumer consumes now, the live one first; a projection that is rebuilt has two."""
        rows = await self.rows(
            service,
            "SELECT number FROM projection_generations WHERE consumer = $1 AND status IN ('live', 'building')"
            " ORDER BY number",
            consumer,
        )
        return [topology.generation(consumer, row["number"]) for row in rows] or [consumer]

    async def read_stores(self) -> None:
        """Read every event store anew."""
        for service in self._connections:
            rows = await self.rows(
                service,
                "SELECT event_id, type, stream_id, version, occurred_at, data, meta FROM events"
                " WHERE occurred_at > $1 ORDER BY seq",
                self.since,
            )
            self.stores[service] = [_stored(service, row) for row in rows]
        self.published = {event.id: event for store in self.stores.values() for event in store if event.public}

    async def went_on(self) -> bool:
        """Something happened since the stores were read: what was compared with them may be newer."""
        for service, store in self.stores.items():
            count = await self.value(service, "SELECT count(*) FROM events WHERE occurred_at > $1", self.since)
            if count != len(store):
                return True
        return False

    def of(self, producer: str, *kinds: str) -> list[Stored]:
        """The events of some kinds."""
        return [event for event in self.stores[producer] if event.kind in kinds]


def _stored(producer: str, row: Row) -> Stored:
    actor = row["meta"].get("actor_id")
    kind = row["type"].partition(".r")[0]  # whatever revision of its shape was stored
    return Stored(
        id=UUID(int=row["event_id"].int),
        producer=producer,
        kind=kind,
        public=published_as(producer, kind),
        stream=UUID(int=row["stream_id"].int),
        version=row["version"],
        at=row["occurred_at"],
        data=row["data"],
        actor=UUID(actor) if actor else None,
    )


@asynccontextmanager
async def opened(settings: Mapping[str, str]) -> AsyncIterator[Evidence]:
    """Connected to every database of the instance, for reading."""
    async with AsyncExitStack() as stack:
        connections = {}
        for service in SERVICES:
            connection = await asyncpg.connect(
                settings[f"VAJ_{service.upper()}_DATABASE_URL"], command_timeout=STATEMENT_S_MAX
            )
            stack.push_async_callback(connection.close)
            await connection.execute("SET default_transaction_read_only = on")
            await connection.set_type_codec(
                "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads, format="text"
            )
            connections[service] = connection
        yield Evidence(connections)
