"""What a batch's own events tell the other services."""

from __future__ import annotations

from typing import Any

from chassis.outbox import Announcement
from contracts.envelope import Event
from contracts.events import batches as public
from contracts.values import Quantities, Window

from batches.domain import facts
from batches.domain.batch import Batch


def announce(batch: Batch, event: Any) -> Announcement:
    """The public event of a domain event: the batch as the command left it, and what only this event knows."""
    return Announcement(_public(batch, event), organization_id=batch.organization_id)


def _public(batch: Batch, event: Any) -> Event:
    kind: type[Event] = getattr(public, type(event).__name__)
    return kind.model_validate(_snapshot(batch) | _specifics(batch, event))


def _snapshot(batch: Batch) -> dict[str, Any]:
    window = batch.pickup_window
    return {
        "batch_id": batch.id,
        "organization_id": batch.organization_id,
        "place_id": batch.place_id,
        "status": batch.status.value,
        "kind": batch.kind.value,
        "category": batch.product.category.value,
        "product_name": batch.product.name,
        "gtin": batch.product.gtin,
        "unit": batch.unit.value,
        "storage": batch.storage.value,
        "use_by_at": batch.use_by_at,
        "pickup_window": None if window is None else Window(from_at=window.from_at, to_at=window.to_at),
        "quantities": Quantities(
            total=batch.total,
            available=batch.available,
            held=batch.held,
            in_transit=batch.in_transit,
            delivered=batch.delivered,
            lost=batch.lost,
        ),
    }


def _specifics(batch: Batch, event: Any) -> dict[str, Any]:
    match event:
        case facts.BatchHeld() | facts.BatchDelivered() | facts.BatchLost():
            return _hold(event, event.quantity)
        case facts.BatchHoldRejected():
            return _hold(event, event.quantity) | {"reason": event.reason.value}
        case facts.BatchHoldReleased():
            return _hold(event, event.restocked + event.lost)
        case facts.BatchHoldSplit():
            sibling = {"sibling_hold_id": event.sibling_hold_id, "sibling_delivery_id": event.sibling_delivery_id}
            return _hold(event, event.quantity) | sibling
        case facts.BatchPickedUp():
            return _hold(event, event.picked)
        case facts.BatchReturned():
            return _hold(event, event.restocked + event.lost) | {"usable": event.restocked > 0}
        case facts.BatchAdjusted() | facts.BatchCancelled():
            return {"reason": event.reason}
        case facts.BatchRecalled():
            return {"severity": event.severity.value, "reason": event.reason}
        case facts.TemperatureRecorded():
            return {"temperature_dc": event.temperature_dc, "stage": event.stage.value, "in_band": event.in_band}
        case _:
            return {}


def _hold(event: Any, quantity: int) -> dict[str, Any]:
    return {"hold_id": event.hold_id, "delivery_id": event.delivery_id, "quantity": quantity}
