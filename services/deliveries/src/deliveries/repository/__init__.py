"""Loads and saves deliveries, and the tables beside them: custody secrets and tries, known batches, volunteers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.database import Row, Transaction
from chassis.repository import Repository

from deliveries.domain import EVENTS, CodeTries, Delivery, DeliveryNotFound, Handshake, Window
from deliveries.public_events import announce
from deliveries.repository.follow_ups import FOLLOW_UPS as FOLLOW_UPS
from deliveries.repository.tasks import TASKS as TASKS
from deliveries.repository.tasks import TEMPLATES as TEMPLATES


def _columns(delivery: Delivery) -> dict[str, Any]:
    busy = delivery.busy
    return {
        "status": delivery.status,
        "party_ids": delivery.party_ids,
        "batch_ids": [line.batch_id for line in delivery.lines.values()],
        "pickup_place_id": delivery.pickup_place_id,
        "receiving_place_id": delivery.receiving_place_id,
        "planned_by": delivery.planned_by,
        "volunteer_id": delivery.volunteer_id,
        "waiting_ids": delivery.waiting,
        "claimed_at": delivery.claimed_at,
        "busy_from": busy.from_at if busy else None,
        "busy_to": busy.to_at if busy else None,
        "created_at": delivery.planned_at,
    }


DELIVERIES = Repository(
    table="deliveries",
    aggregate=Delivery,
    events=EVENTS,
    columns=_columns,
    announce=announce,
    not_found=DeliveryNotFound,
)

# -- custody -----------------------------------------------------------------------------------------------------------

_TRIES = """INSERT INTO custody_tries (delivery_id, stage, failed_at) VALUES ($1, $2, '{}')
ON CONFLICT (delivery_id, stage) DO UPDATE SET failed_at = custody_tries.failed_at RETURNING failed_at"""


def keep_secret(tx: Transaction, delivery_id: UUID, sealed: bytes) -> None:
    """Queue a delivery's sealed secret."""
    tx.write("INSERT INTO custody_secrets (delivery_id, sealed) VALUES ($1, $2)", delivery_id, sealed)


async def sealed_secret(tx: Transaction, delivery_id: UUID) -> bytes:
    """A delivery's sealed secret; raises `DeliveryNotFound` once it is over."""
    sealed: bytes | None = await tx.fetchval("SELECT sealed FROM custody_secrets WHERE delivery_id = $1", delivery_id)
    if sealed is None:
        raise DeliveryNotFound
    return sealed


async def locked_tries(tx: Transaction, delivery_id: UUID, stage: Handshake) -> CodeTries:
    """The wrong codes of a stage; its row stays locked until the transaction ends, so that tries come one by one."""
    return CodeTries(failed_at=tuple(await tx.fetchval(_TRIES, delivery_id, stage)))


def keep_tries(tx: Transaction, delivery_id: UUID, stage: Handshake, tries: CodeTries) -> None:
    """Queue the wrong codes of a stage."""
    sql = "UPDATE custody_tries SET failed_at = $3 WHERE delivery_id = $1 AND stage = $2"
    tx.write(sql, delivery_id, stage, list(tries.failed_at))


def forget_custody(tx: Transaction, delivery_id: UUID) -> None:
    """Queue the removal of what no handshake needs any more."""
    tx.write("DELETE FROM custody_secrets WHERE delivery_id = $1", delivery_id)
    tx.write("DELETE FROM custody_tries WHERE delivery_id = $1", delivery_id)


# -- batches, as their events tell -------------------------------------------------------------------------------------

_KNOW_BATCH = """INSERT INTO known_batches (batch_id, version, organization_id, place_id, status, category, product_name,
    unit, storage, use_by_at, pickup_from, pickup_to, gtin) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (batch_id) DO UPDATE SET version = excluded.version, organization_id = excluded.organization_id,
    place_id = excluded.place_id, status = excluded.status, category = excluded.category,
    product_name = excluded.product_name, unit = excluded.unit, storage = excluded.storage,
    use_by_at = excluded.use_by_at, pickup_from = excluded.pickup_from, pickup_to = excluded.pickup_to,
    gtin = excluded.gtin
WHERE known_batches.version < excluded.version"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBatch:
    """A batch as its newest event told it."""

    batch_id: UUID
    version: int
    organization_id: UUID
    place_id: UUID
    status: str
    category: str
    product_name: str
    unit: str
    storage: str
    use_by_at: datetime | None
    pickup_from: datetime
    pickup_to: datetime
    gtin: str | None = None

    @property
    def pickup_window(self) -> Window:
        """When it can be fetched."""
        return Window(from_at=self.pickup_from, to_at=self.pickup_to)


def know_batch(tx: Transaction, batch: KnownBatch) -> None:
    """Queue what is known of a batch; an older version changes nothing."""
    tx.write(
        _KNOW_BATCH, batch.batch_id, batch.version, batch.organization_id, batch.place_id, batch.status, batch.category,
        batch.product_name, batch.unit, batch.storage, batch.use_by_at, batch.pickup_from, batch.pickup_to,
        batch.gtin,
    )  # fmt: skip


async def known_batches(tx: Transaction, batch_ids: Collection[UUID]) -> dict[UUID, KnownBatch]:
    """Those of the batches that are known."""
    rows = await tx.fetch("SELECT * FROM known_batches WHERE batch_id = ANY($1::uuid[])", list(batch_ids))
    return {row["batch_id"]: KnownBatch(**dict(row)) for row in rows}


# -- volunteers, as identity's events tell -----------------------------------------------------------------------------

_KNOW_VOLUNTEER = """INSERT INTO volunteers (user_id, version, vehicle, capacity_g, lat, lon, radius_m)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (user_id) DO UPDATE SET version = excluded.version, vehicle = excluded.vehicle,
    capacity_g = excluded.capacity_g, lat = excluded.lat, lon = excluded.lon, radius_m = excluded.radius_m
WHERE volunteers.version < excluded.version"""
_SUSPEND = """INSERT INTO volunteers (user_id, suspended) VALUES ($1, true)
ON CONFLICT (user_id) DO UPDATE SET suspended = true"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volunteer:
    """Somebody who offers to carry."""

    user_id: UUID
    vehicle: str | None
    capacity_g: int | None
    suspended: bool

    @property
    def active(self) -> bool:
        """Offered to carry, and not suspended."""
        return self.vehicle is not None and not self.suspended

    def carries(self, weight_g: int) -> bool:
        """The vehicle takes this weight."""
        return weight_g <= (self.capacity_g or 0)


def know_volunteer(
    tx: Transaction,
    user_id: UUID,
    *,
    version: int,
    vehicle: str,
    capacity_g: int,
    lat: float,
    lon: float,
    radius_m: int,
) -> None:
    """Queue a volunteer's profile; an older version changes nothing, and a suspension stays."""
    tx.write(_KNOW_VOLUNTEER, user_id, version, vehicle, capacity_g, lat, lon, radius_m)


def suspend_volunteer(tx: Transaction, user_id: UUID) -> None:
    """Queue a suspension, profile known or not."""
    tx.write(_SUSPEND, user_id)


async def locked_volunteer(tx: Transaction, user_id: UUID) -> Volunteer | None:
    """A volunteer, locked until the transaction ends: one volunteer's claims are decided one by one."""
    sql = "SELECT user_id, vehicle, capacity_g, suspended FROM volunteers WHERE user_id = $1 FOR UPDATE"
    row = await tx.fetchrow(sql, user_id)
    return None if row is None else Volunteer(**dict(row))


# -- which deliveries --------------------------------------------------------------------------------------------------

_CLAIMS = """SELECT
    count(*) FILTER (WHERE claimed_at > $4) AS recent,
    coalesce(bool_or(status IN ('claimed', 'in_transit', 'rerouting')
        AND tstzrange(busy_from, busy_to) && tstzrange($2, $3)), false) AS overlapping
FROM deliveries WHERE volunteer_id = $1 AND id <> $5
    AND (claimed_at > $4 OR status IN ('claimed', 'in_transit', 'rerouting'))"""
_OF_BATCH = """SELECT id FROM deliveries WHERE batch_ids @> ARRAY[$1::uuid]
    AND status IN ('planned', 'open', 'claimed', 'in_transit', 'rerouting') ORDER BY id"""
_OF_PARTY = """SELECT id FROM deliveries WHERE party_ids @> ARRAY[$1::uuid]
    AND status IN ('planned', 'open', 'claimed') ORDER BY id"""
_WAITED_FOR = """SELECT id FROM deliveries WHERE waiting_ids @> ARRAY[$1::uuid] AND status IN ('open', 'claimed')
    ORDER BY id"""
_OF_VOLUNTEER = "SELECT id FROM deliveries WHERE volunteer_id = $1 AND status = 'claimed' ORDER BY id"


async def claims_of(
    tx: Transaction, volunteer_id: UUID, *, besides: UUID, span: Window, since: datetime
) -> tuple[bool, int]:
    """Whether another claim of the volunteer overlaps the span, and how many were made since."""
    row = await tx.fetchrow(_CLAIMS, volunteer_id, span.from_at, span.to_at, since, besides)
    return (False, 0) if row is None else (row["overlapping"], row["recent"])


async def unfinished_of_batch(tx: Transaction, batch_id: UUID) -> list[UUID]:
    """Deliveries with goods of the batch that have not ended."""
    return _ids(await tx.fetch(_OF_BATCH, batch_id))


async def waiting_of_party(tx: Transaction, organization_id: UUID) -> list[UUID]:
    """Deliveries of an organization that nobody picked up yet."""
    return _ids(await tx.fetch(_OF_PARTY, organization_id))


async def waited_for_by(tx: Transaction, volunteer_id: UUID) -> list[UUID]:
    """Deliveries on whose waiting list the volunteer is."""
    return _ids(await tx.fetch(_WAITED_FOR, volunteer_id))


async def claimed_by(tx: Transaction, volunteer_id: UUID) -> list[UUID]:
    """Deliveries that the volunteer claimed and did not pick up yet."""
    return _ids(await tx.fetch(_OF_VOLUNTEER, volunteer_id))


def _ids(rows: list[Row]) -> list[UUID]:
    return [row["id"] for row in rows]
