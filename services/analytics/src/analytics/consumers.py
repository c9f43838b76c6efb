"""Every fact of every service: a row of the audit trail and, where it is about goods or needs, of the read models."""

from __future__ import annotations

from typing import Any

from chassis.consumer import Consumer, Handler
from chassis.database import Transaction
from contracts.envelope import Event
from contracts.events import batches, deliveries, resources, webhooks
from contracts.registry import Received, event_types

from analytics import usecases
from analytics.domain import Carried, NeedLine, Occurrence

# The first goes to one endpoint only and never travels on the bus; the others are of no stream, so no rebuild could hear them again.
UNHEARD = (webhooks.EndpointTest, webhooks.MessageExhausted, resources.CatalogueChunkStored)

_BATCH_MILESTONES: dict[type[Event], str] = {
    batches.BatchCreated: "created",
    batches.BatchReady: "ready",
    batches.BatchClosed: "closed",
    batches.BatchCancelled: "cancelled",
    batches.BatchExpired: "expired",
    batches.BatchRecalled: "recalled",
}
_DELIVERY_MILESTONES: dict[type[Event], str] = {
    deliveries.DeliveryPlanned: "planned",
    deliveries.DeliverySplitOff: "planned",
    deliveries.DeliveryOpened: "opened",
    deliveries.DeliveryClaimed: "claimed",
    deliveries.PickupConfirmed: "picked_up",
    deliveries.DeliveryCompleted: "completed",
    deliveries.DeliveryCancelled: "cancelled",
    deliveries.DeliveryExpired: "expired",
    deliveries.DeliveryFailed: "failed",
    deliveries.DeliveryReturned: "returned",
    deliveries.DeliveryDiscarded: "discarded",
    deliveries.VolunteerNoShow: "no_show",
}


async def _audit(tx: Transaction, received: Received) -> None:
    await usecases.record(tx, _occurrence(received))


async def _batch(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    occurrence = _occurrence(received)
    await usecases.record(tx, occurrence)
    seen = usecases.BatchSeen(
        event.batch_id, event.organization_id, event.place_id, event.category, event.unit, event.quantities.total,
        event.quantities.lost, event.pickup_window.to_at,
    )  # fmt: skip
    usecases.see_batch(tx, occurrence, seen, milestone=_BATCH_MILESTONES.get(type(event)))


async def _delivery(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    occurrence = _occurrence(received)
    await usecases.record(tx, occurrence)
    seen = usecases.DeliverySeen(
        event.delivery_id, event.provider_organization_ids, event.receiving_organization_id, event.pickup_place_id,
        event.receiving_place_id, [line.batch_id for line in event.lines],
    )  # fmt: skip
    usecases.see_delivery(tx, occurrence, seen, milestone=_DELIVERY_MILESTONES.get(type(event)))
    if isinstance(event, deliveries.PickupConfirmed):
        usecases.fetched(tx, occurrence, seen, [_carried(line, line.picked) for line in event.lines])
    elif isinstance(event, deliveries.DeliveryCompleted):
        usecases.handed_over(tx, occurrence, seen, [_carried(line, line.delivered) for line in event.lines])


async def _request(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    occurrence = _occurrence(received)
    await usecases.record(tx, occurrence)
    usecases.see_request(
        tx, occurrence, event.request_id, organization_id=event.organization_id, place_id=event.place_id,
        status=event.status,
        lines=[
            NeedLine(line.line_id, line.category, line.unit, line.needed, line.reserved, line.received)
            for line in event.lines
        ],
    )  # fmt: skip


def _occurrence(received: Received) -> Occurrence:
    envelope = received.envelope
    return Occurrence(
        event_id=envelope.id,
        occurred_at=envelope.time,
        type=envelope.type,
        subject=envelope.subject,
        version=envelope.aggregateversion,
        actor_id=envelope.actorid,
        organization_id=envelope.organizationid,
        parties=envelope.party_ids,
        correlation_id=envelope.correlationid,
        data=envelope.data,
    )


def _carried(line: deliveries.DeliveryLine, quantity: int) -> Carried:
    return Carried(line.organization_id, line.category, line.unit, quantity)


async def _pass_by(_: Transaction, __: Received) -> None:
    """Of no stream either, and nobody else's: heard so that it has a way. The trail has the load it is a part of."""


_FOLLOWED: dict[str, Handler] = {
    "batch": _batch, "delivery": _delivery, "resource_request": _request, "catalogue_chunk": _pass_by,
}  # fmt: skip

EVENTS = Consumer(
    "events",
    {
        event: _FOLLOWED.get(event.aggregate, _audit)
        for event in event_types().values()
        if event not in UNHEARD
    },
    projection=(
        "audit_events", "quantities_daily", "batch_losses", "batches_seen", "deliveries_seen", "requests_seen", "need_lines",
    ),
)  # fmt: skip
