"""Loads and saves batches, and what is known of the deliveries that carry them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from chassis.database import Row, Transaction
from chassis.repository import Repository

from batches.domain import (
    EVENTS,
    UPCASTERS,
    Batch,
    BatchNotFound,
    DeliveryId,
    Followed,
    OrganizationId,
    PlaceId,
    Receiver,
    UserId,
)
from batches.public_events import announce


def _columns(batch: Batch) -> dict[str, Any]:
    window = batch.pickup_window
    return {
        "organization_id": batch.organization_id,
        "place_id": batch.place_id,
        "status": batch.status,
        "kind": batch.kind,
        "category": batch.product.category,
        "product_name": batch.product.name,
        "gtin": batch.product.gtin,
        "unit": batch.unit,
        "storage": batch.storage,
        "lot_code": batch.lot_code,
        "handling_notes": batch.handling_notes,
        "use_by_at": batch.use_by_at,
        "est_ready_at": batch.est_ready_at,
        "pickup_from": window.from_at if window else None,
        "pickup_to": window.to_at if window else None,
        "total": batch.total,
        "available": batch.available,
        "held": batch.held,
        "in_transit": batch.in_transit,
        "delivered": batch.delivered,
        "lost": batch.lost,
        "temperature_dc": batch.temperature_dc,
        "temperature_alarm": batch.temperature_alarm,
        "created_at": batch.created_at,
    }


BATCHES = Repository(
    table="batches",
    aggregate=Batch,
    events=EVENTS,
    upcasters=UPCASTERS,
    columns=_columns,
    announce=announce,
    not_found=BatchNotFound,
)

_FOLLOW = """INSERT INTO followed_deliveries (delivery_id, version, status, volunteer_id, receiving_organization_id,
    receiving_place_id) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (delivery_id) DO UPDATE SET version = excluded.version, status = excluded.status,
    volunteer_id = excluded.volunteer_id, receiving_organization_id = excluded.receiving_organization_id,
    receiving_place_id = excluded.receiving_place_id
WHERE followed_deliveries.version < excluded.version"""
_FOLLOWED = """SELECT delivery_id, status, volunteer_id, receiving_organization_id, receiving_place_id
FROM followed_deliveries WHERE delivery_id = ANY($1::uuid[])"""


def follow(tx: Transaction, delivery_id: UUID, delivery: Followed, *, version: int) -> None:
    """Queue what is known of a delivery; an older version changes nothing."""
    at = delivery.receiver
    tx.write(_FOLLOW, delivery_id, version, delivery.status, delivery.volunteer_id, at.organization_id, at.place_id)


async def followed(tx: Transaction, delivery_ids: Sequence[UUID]) -> dict[DeliveryId, Followed]:
    """Those of the deliveries that are known."""
    rows = await tx.fetch(_FOLLOWED, list(delivery_ids))
    return {DeliveryId(row["delivery_id"]): _followed(row) for row in rows}


def _followed(row: Row) -> Followed:
    return Followed(
        status=row["status"],
        volunteer_id=None if row["volunteer_id"] is None else UserId(row["volunteer_id"]),
        receiver=Receiver(
            organization_id=OrganizationId(row["receiving_organization_id"]),
            place_id=PlaceId(row["receiving_place_id"]),
        ),
    )
