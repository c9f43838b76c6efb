"""Loads and saves batches."""

from __future__ import annotations

from typing import Any

from chassis.repository import Repository

from batches.domain import EVENTS, Batch, BatchNotFound
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
        "created_at": batch.created_at,
    }


BATCHES = Repository(
    table="batches", aggregate=Batch, events=EVENTS, columns=_columns, announce=announce, not_found=BatchNotFound
)
