"""What a delivery's own events tell the other services; codes and secrets are in none of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from chassis.outbox import Announcement
from contracts.envelope import Event
from contracts.events import deliveries as public

from deliveries.domain import Delivery, Line, facts, follow_ups
from deliveries.domain.follow_ups import FollowUp, Said
from deliveries.domain.tasks import Task, TaskCompleted, TaskTemplates

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


# -- beside the delivery -----------------------------------------------------------------------------------------------


def announce_follow_up(follow_up: FollowUp, said: Said) -> Announcement:
    """What is said while a delivery waits; who was asked to carry it is no business of the organizations."""
    kind: type[Event] = getattr(public, type(said).__name__)
    told = kind.model_validate(_concerned(follow_up, said) | _said(said))
    if isinstance(said, follow_ups.DeliveryOffered):
        return Announcement(told)
    parties = (*said.about.provider_ids, said.about.receiving_organization_id)
    return Announcement(told, organization_id=said.about.provider_ids[0], parties=tuple(dict.fromkeys(parties)))


def _concerned(follow_up: FollowUp, said: Said) -> dict[str, Any]:
    about = said.about
    return {
        "follow_up_id": follow_up.id,
        "delivery_id": about.delivery_id,
        "provider_organization_ids": list(about.provider_ids),
        "pickup_place_id": about.pickup_place_id,
        "receiving_organization_id": about.receiving_organization_id,
        "receiving_place_id": about.receiving_place_id,
        "volunteer_id": about.volunteer_id,
        "goods": [
            public.Goods.model_validate(
                {
                    "category": goods.category,
                    "product_name": goods.product_name,
                    "unit": goods.unit,
                    "quantity": goods.quantity,
                }
            )
            for goods in about.goods
        ],
    }


def _said(said: Said) -> dict[str, Any]:
    match said:
        case follow_ups.DeliveryOffered():
            return {"ring": said.ring, "radius_m": said.radius_m, "volunteer_ids": list(said.volunteer_ids)}
        case follow_ups.DeliveryUnclaimed():
            return {"offered": said.offered}
        case follow_ups.PickupReminded():
            return {"pickup_from": said.pickup_from, "confirm_by": said.confirm_by}
        case follow_ups.PickupDelayed():
            return {"due_at": said.due_at, "release_at": said.release_at}
        case follow_ups.DropoffDelayed():
            return {"due_at": said.due_at, "times": said.times}
        case follow_ups.RerouteAsked():
            return {"decide_by": said.decide_by, "place_ids": list(said.place_ids)}
        case follow_ups.RerouteDelayed():
            return {"decide_by": said.decide_by, "times": said.times}


def announce_templates(templates: TaskTemplates, _event: Any) -> Announcement:
    """That an organization's templates are others now; their texts are read from the API."""
    stages = sorted({template.stage.value for template in templates.templates})
    told = {"organization_id": templates.id, "stages": stages, "count": len(templates.templates)}
    return Announcement(public.TaskTemplatesChanged.model_validate(told), templates.id, (templates.id,))


def announce_task(task: Task, event: Any) -> Announcement:
    """What became of a task; the note of who did it stays inside."""
    kind: type[Event] = getattr(public, type(event).__name__)
    told = {
        "task_id": task.id,
        "delivery_id": task.delivery_id,
        "stage": task.template.stage.value,
        "title": task.template.title,
        "role": task.template.role.value,
        "organization_id": task.organization_id,
        "assigned_organization_ids": list(task.assigned_organization_ids),
        "volunteer_id": task.volunteer_id,
        "place_id": task.place_id,
        "due_at": task.due_at,
    }
    specifics = {"completed_by": event.completed_by} if isinstance(event, TaskCompleted) else {}
    return Announcement(kind.model_validate(told | specifics), task.organization_id, tuple(task.party_ids))
