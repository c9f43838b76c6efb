"""What other services' facts mean for people: who has which part in them, and what the text is filled with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from chassis.consumer import Consumer, Handler, NotYet
from chassis.database import Transaction
from contracts.envelope import Event
from contracts.events import batches, deliveries, identity, resources, webhooks
from contracts.registry import Received

from notifications import usecases
from notifications.domain import TELLINGS, DirectoryBehind, Fact, Followed, Party

BATCH_EVENTS: tuple[type[Event], ...] = (
    batches.BatchExpired, batches.BatchRecalled, batches.TemperatureRecorded, batches.BatchHoldRejected,
)  # fmt: skip
DELIVERY_EVENTS: tuple[type[Event], ...] = (
    deliveries.DeliveryPlanned, deliveries.DeliverySplit, deliveries.DeliverySplitOff, deliveries.DeliveryOpened,
    deliveries.DeliveryClaimed, deliveries.ClaimReleased, deliveries.WaitingVolunteerCalled, deliveries.PickupConfirmed,
    deliveries.DropoffRefused, deliveries.DeliveryRerouted, deliveries.DeliveryCompleted,
    deliveries.DeliveryReturned, deliveries.DeliveryDiscarded, deliveries.DeliveryFailed, deliveries.DeliveryCancelled,
    deliveries.DeliveryExpired,
)  # fmt: skip
FOLLOW_UP_EVENTS: tuple[type[Event], ...] = (
    deliveries.DeliveryOffered, deliveries.DeliveryUnclaimed, deliveries.PickupReminded, deliveries.PickupDelayed,
    deliveries.DropoffDelayed, deliveries.RerouteAsked, deliveries.RerouteDelayed,
)  # fmt: skip
TASK_EVENTS: tuple[type[Event], ...] = (deliveries.TaskCreated, deliveries.TaskExpired)
RESOURCE_EVENTS: tuple[type[Event], ...] = (
    resources.ResourceRequestFulfilled, resources.ReservationMade, resources.ReservationReceived,
    resources.ReservationCancelled, resources.ReservationExpired,
)  # fmt: skip
MATCH_EVENTS: tuple[type[Event], ...] = (
    resources.MatchProposed, resources.MatchAccepted, resources.MatchDeclined, resources.MatchExpired,
    resources.MatchWithdrawn,
)  # fmt: skip
IDENTITY_EVENTS: tuple[type[Event], ...] = (identity.OrganizationVerified, identity.OrganizationSuspended)
WEBHOOK_EVENTS: tuple[type[Event], ...] = (webhooks.EndpointFailing, webhooks.EndpointDisabled)


def events(*, message_lifetime: timedelta) -> Consumer:
    """The consumer that tells people; a message not sent within its lifetime expires."""

    async def batch(tx: Transaction, received: Received) -> None:
        event: Any = received.event
        fact = _fact(
            received,
            parties={Party.PROVIDER: [event.organization_id]},
            place_id=event.place_id,
            context={"batch_id": event.batch_id, "items": [_batch_item(event)]},
        )
        if isinstance(event, batches.BatchHoldRejected):
            await usecases.tell_of_hold(tx, fact, event.delivery_id, lifetime=message_lifetime, now=_now())
        elif isinstance(event, batches.BatchRecalled):
            await usecases.tell_holders(tx, fact, event.batch_id, lifetime=message_lifetime, now=_now())
        elif isinstance(event, batches.TemperatureRecorded):
            if not event.in_band:
                await usecases.tell_bearers(tx, fact, event.batch_id, lifetime=message_lifetime, now=_now())
        else:
            await usecases.tell(tx, fact, lifetime=message_lifetime, now=_now())

    async def delivery(tx: Transaction, received: Received) -> None:
        event: Any = received.event
        _follow(tx, received)
        if type(event).__name__ in TELLINGS:
            fact = _fact(
                received,
                parties=_delivery_parties(event),
                place_id=event.pickup_place_id if _is_about_pickup(event) else event.receiving_place_id,
                context={"delivery_id": event.delivery_id, "items": _delivery_items(event)},
            )
            await usecases.tell(tx, fact, lifetime=message_lifetime, now=_now())

    def told(fact_of: Callable[[Received], Fact]) -> Handler:
        async def tell(tx: Transaction, received: Received) -> None:
            await usecases.tell(tx, fact_of(received), lifetime=message_lifetime, now=_now())

        return _waiting(tell)

    handlers: dict[type[Event], Handler] = {
        **dict.fromkeys(BATCH_EVENTS, _waiting(batch)),
        **dict.fromkeys(DELIVERY_EVENTS, _waiting(delivery)),
        **dict.fromkeys(FOLLOW_UP_EVENTS, told(_follow_up)),
        **dict.fromkeys(TASK_EVENTS, told(_task)),
        **dict.fromkeys(RESOURCE_EVENTS, told(_request)),
        **dict.fromkeys(MATCH_EVENTS, told(_match)),
        **dict.fromkeys(IDENTITY_EVENTS, told(_organization)),
        **dict.fromkeys(WEBHOOK_EVENTS, told(_endpoint)),
    }
    return Consumer("events", handlers)


async def _register(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    usecases.register_person(tx, event.user_id, locale=event.locale)


PEOPLE = Consumer("people", {identity.UserRegistered: _register})


def _waiting(handler: Handler) -> Handler:
    """An event that overtook what it needs waits in the retry ladder."""

    async def handle(tx: Transaction, received: Received) -> None:
        try:
            await handler(tx, received)
        except DirectoryBehind as error:
            raise NotYet(str(error)) from error

    return handle


def _follow_up(received: Received) -> Fact:
    event: Any = received.event
    at_the_end = deliveries.DropoffDelayed | deliveries.RerouteAsked | deliveries.RerouteDelayed
    return _fact(
        received,
        parties=_followed_parties(event),
        place_id=event.receiving_place_id if isinstance(event, at_the_end) else event.pickup_place_id,
        context={"delivery_id": event.delivery_id, "items": _goods(event)},
        subject=event.delivery_id,  # readers can look at the delivery, not at what was said about it
    )


def _task(received: Received) -> Fact:
    event: Any = received.event
    context = {"task_id": event.task_id, "delivery_id": event.delivery_id}
    return _fact(received, parties=_task_parties(event), place_id=event.place_id, context=context)


def _request(received: Received) -> Fact:
    event: Any = received.event
    return _fact(
        received,
        parties={Party.RECEIVER: [event.organization_id], Party.DONOR: _donors(event)},
        place_id=event.place_id,
        context={"request_id": event.request_id, "items": _request_items(event)},
    )


def _organization(received: Received) -> Fact:
    event: Any = received.event
    parties = {Party.ORGANIZATION: [event.organization_id]}
    return _fact(received, parties=parties, place_id=None, context={"organization_id": event.organization_id})


def _endpoint(received: Received) -> Fact:
    event: Any = received.event
    parties = {Party.ORGANIZATION: [event.organization_id]}
    return _fact(received, parties=parties, place_id=None, context={"endpoint_id": event.endpoint_id})


def _fact(
    received: Received,
    *,
    parties: Mapping[Party, Sequence[UUID]],
    place_id: UUID | None,
    context: dict[str, Any],
    subject: UUID | None = None,
) -> Fact:
    envelope, event = received.envelope, received.event
    specifics = {name: getattr(event, name) for name in _SPECIFICS.get(type(event).__name__, ())}
    return Fact(
        event_id=envelope.id,
        name=type(event).__name__,
        type=envelope.type,
        subject=subject or envelope.subject,
        version=envelope.aggregateversion,
        happened_at=envelope.time,
        parties=parties,
        place_id=place_id,
        context=context | specifics,
        actor_id=_actor(envelope.actorid),
    )


def _match(received: Received) -> Fact:
    event: Any = received.event
    item = {"quantity": event.quantity, "unit": event.unit, "product_name": event.product_name}
    ids = {"match_id": event.match_id, "batch_id": event.batch_id, "request_id": event.request_id}
    parties = {Party.PROVIDER: [event.provider_organization_id], Party.RECEIVER: [event.organization_id]}
    return _fact(received, parties=parties, place_id=event.place_id, context={**ids, "items": [item]})


# What a text says besides what all events of an aggregate have in common.
_SPECIFICS: Mapping[str, tuple[str, ...]] = {
    "BatchRecalled": ("severity", "reason"),
    "TemperatureRecorded": ("temperature_dc", "stage"),
    "BatchHoldRejected": ("delivery_id", "reason"),
    "ClaimReleased": ("reason",),
    "DropoffRefused": ("reason",),
    "DeliveryCancelled": ("reason",),
    "DeliveryUnclaimed": ("offered",),
    "PickupReminded": ("pickup_from", "confirm_by"),
    "PickupDelayed": ("due_at", "release_at"),
    "DropoffDelayed": ("due_at",),
    "RerouteAsked": ("decide_by",),
    "RerouteDelayed": ("decide_by",),
    "TaskCreated": ("title", "due_at"),
    "TaskExpired": ("title", "due_at"),
    "ReservationMade": ("reservation_id", "mode"),
    "ReservationReceived": ("reservation_id",),
    "ReservationCancelled": ("reservation_id",),
    "ReservationExpired": ("reservation_id",),
    "MatchProposed": ("expires_at",),
    "MatchAccepted": ("reservation_id",),
    "MatchDeclined": ("reason",),
    "MatchWithdrawn": ("reason",),
    "EndpointFailing": ("since", "percent"),
    "EndpointDisabled": ("reason",),
}


def _actor(actor_id: str | None) -> UUID | None:
    try:
        return None if actor_id is None else UUID(actor_id)
    except ValueError:
        return None


def _follow(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    usecases.follow_delivery(
        tx,
        event.delivery_id,
        version=received.envelope.aggregateversion,
        status=event.status,
        delivery=Followed(tuple(event.provider_organization_ids), event.receiving_organization_id, event.volunteer_id),
        batch_ids=[line.batch_id for line in event.lines],
    )


def _delivery_parties(event: Any) -> dict[Party, list[UUID]]:
    volunteer_id = event.volunteer_id or getattr(event, "previous_volunteer_id", None)
    if isinstance(event, deliveries.WaitingVolunteerCalled):
        volunteer_id = event.waiting_id
    return {
        Party.PROVIDER: event.provider_organization_ids,
        Party.RECEIVER: [event.receiving_organization_id],
        Party.VOLUNTEER: [] if volunteer_id is None else [volunteer_id],
    }


def _followed_parties(event: Any) -> dict[Party, list[UUID]]:
    if isinstance(event, deliveries.DeliveryOffered):
        return {Party.VOLUNTEER: event.volunteer_ids}
    return {**_delivery_parties(event), Party.COORDINATOR: []}


def _task_parties(event: Any) -> dict[Party, list[UUID]]:
    """The side that the task is for, and nobody else."""
    if event.role == "coordinator":
        return {Party.COORDINATOR: []}
    volunteers = [] if event.volunteer_id is None else [event.volunteer_id]
    return {Party.ASSIGNEE: event.assigned_organization_ids, Party.VOLUNTEER: volunteers}


def _goods(event: Any) -> list[dict[str, Any]]:
    return [{"quantity": one.quantity, "unit": one.unit, "product_name": one.product_name} for one in event.goods]


def _is_about_pickup(event: Any) -> bool:
    return isinstance(event, _OF_PICKUP)


_OF_PICKUP = (
    deliveries.DeliveryClaimed, deliveries.ClaimReleased, deliveries.WaitingVolunteerCalled, deliveries.PickupConfirmed,
)  # fmt: skip


def _batch_item(event: Any) -> dict[str, Any]:
    quantity = event.quantity if isinstance(event, batches.BatchHoldRejected) else event.quantities.total
    return {"quantity": quantity, "unit": event.unit, "product_name": event.product_name}


def _delivery_items(event: Any) -> list[dict[str, Any]]:
    """What this step was about; what was planned when that is nothing."""
    lines = [(line, _moved(event, line)) for line in event.lines]
    shown = [(line, quantity) for line, quantity in lines if quantity] or [(line, line.planned) for line in event.lines]
    return [{"quantity": quantity, "unit": line.unit, "product_name": line.product_name} for line, quantity in shown]


def _moved(event: Any, line: Any) -> int:
    match event:
        case deliveries.PickupConfirmed():
            quantity = line.picked
        case deliveries.DropoffRefused():
            quantity = line.picked - line.delivered - line.returned - line.discarded - line.lost
        case deliveries.DeliveryCompleted():
            quantity = line.delivered
        case _:
            quantity = line.planned
    return max(0, int(quantity))


def _donors(event: Any) -> list[UUID]:
    donor_id = getattr(event, "donor_organization_id", None)
    return [] if donor_id is None else [donor_id]


def _request_items(event: Any) -> list[dict[str, Any]]:
    lines = {line.line_id: line for line in event.lines}
    if isinstance(event, resources.ResourceRequestFulfilled):
        amounts = [(line, line.needed) for line in event.lines]
    else:
        amounts = [(lines[part.line_id], part.quantity) for part in event.reserved_lines]
    return [{"quantity": quantity, "unit": line.unit, "category": line.category} for line, quantity in amounts]


def _now() -> datetime:
    return datetime.now(UTC)
