"""What a delivery's own events tell the other services; codes and secrets are in none of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from chassis.outbox import Announcement
from contracts.envelope import Event
from contracts.events import deliveries as public

from deliveries.domain import Delivery, Line, facts

_RENAMED: dict[type, type[Event]] = {
    facts.HoldGranted: public.DeliveryHoldGranted,
    facts.HoldRejected: public.DeliveryHoldRejected,
    facts.NoShowContested: public.VolunteerNoShowContested,
    facts.ClaimConfirmed: public.DeliveryClaimConfirmed,
    facts.DeliveryInterrupted: public.DropoffRefused,  # either way the goods stay with the volunteer
}


def announce(delivery: Delivery, event: Any) -> Announcement:
    """The public event of a domain event: the delivery as the command left it, and what only this event knows."""
    kind: type[Event] = _RENAMED.get(type(event)) or getattr(public, type(event).__name__)
    told = kind.model_validate(_snapshot(delivery) | _specifics(event))
    return Announcement(told, organization_id=delivery.provider_ids[0], parties=tuple(delivery.party_ids))


def _snapshot(delivery: Delivery) -> dict[str, Any]:
    return {
        "delivery_id": delivery.id,
        "status": delivery.status.value,
        "provider_organization_ids": delivery.provider_ids,
        "pickup_place_id": delivery.pickup_place_id,
        "receiving_organization_id": delivery.receiving_organization_id,
        "receiving_place_id": delivery.receiving_place_id,
        "volunteer_id": delivery.volunteer_id,
        "request_id": delivery.request_id,
        "opened_at": delivery.opened_at,
        "claimed_at": delivery.claimed_at,
        # In one order, so that told again they are the same bytes.
        "lines": [_line(delivery.lines[line_id]) for line_id in sorted(delivery.lines)],
    }


def _line(line: Line) -> public.DeliveryLine:
    return public.DeliveryLine.model_validate(
        {
            "line_id": line.line_id,
            "batch_id": line.batch_id,
            "organization_id": line.provider_id,
            "category": line.category,
            "product_name": line.product_name,
            "unit": line.unit,
            "planned": line.planned,
            "picked": line.picked,
            "delivered": line.delivered,
            "rejected": line.rejected,
            "returned": line.returned,
            "discarded": line.discarded,
            "lost": line.lost,
        }
    )


def _specifics(event: Any) -> dict[str, Any]:
    match event:
        case facts.ClaimReleased():  # also when another claim followed in the same command
            opened = {"status": "open", "volunteer_id": None, "claimed_at": None}
            return opened | {"previous_volunteer_id": event.volunteer_id, "reason": event.reason}
        case facts.DeliverySplit():
            return {"sibling_id": event.sibling_id, "moved": [asdict(each) for each in event.moved]}
        case facts.DeliverySplitOff():
            return {"parent_id": event.parent_id, "moved": [asdict(each) for each in event.moved]}
        case facts.WaitingListJoined() | facts.WaitingListLeft() | facts.WaitingVolunteerCalled():
            return {"waiting_id": event.volunteer_id}
        case facts.VolunteerNoShow():
            return {"status": "claimed", "volunteer_id": event.volunteer_id, "reporter_id": event.reported_by}
        case facts.HoldGranted():
            return {"line_id": event.line_id}
        case facts.HoldRejected():
            return {"line_id": event.line_id, "reason": event.reason}
        case facts.NoShowContested():
            return {"volunteer_id": event.volunteer_id, "reason": event.reason}
        case facts.DeliveryInterrupted():
            return {"reason": f"batch-{event.cause}"}
        case facts.DeliveryReturned():
            return {"usable": event.usable}
        case (
            facts.DropoffRefused()
            | facts.DeliveryDiscarded()
            | facts.DeliveryGoodsLost()
            | facts.DeliveryFailed()
            | facts.DeliveryCancelled()
        ):
            return {"reason": event.reason}
        case _:
            return {}
