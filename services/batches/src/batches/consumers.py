"""What other services' facts mean for batches: deliveries ask for holds and tell what became of the goods."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from chassis.consumer import Consumer, Handler, NotYet, Order
from chassis.database import Transaction
from contracts.envelope import Event
from contracts.events import deliveries as events
from contracts.registry import Received, event_types

from batches import usecases
from batches.domain import HoldNotFound


async def _plan(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    for line in event.lines:
        await usecases.hold_for_delivery(
            tx,
            batch_id=line.batch_id,
            hold_id=line.line_id,
            delivery_id=event.delivery_id,
            quantity=line.planned,
            now=_now(),
        )
        await tx.flush()  # two lines may be of one batch, and the second must see the first


async def _split(tx: Transaction, received: Received) -> None:
    """Both halves tell of it, in streams of their own; a hold that is not known yet comes from a split still on its way."""
    event: Any = received.event
    sibling_id = event.sibling_id if isinstance(event, events.DeliverySplit) else event.delivery_id
    for line in event.moved:
        try:
            await usecases.split_hold(
                tx,
                batch_id=line.batch_id,
                hold_id=line.line_id,
                sibling_id=line.sibling_line_id,
                sibling_delivery_id=sibling_id,
                quantity=line.quantity,
                now=_now(),
            )
        except HoldNotFound as error:
            raise NotYet(f"hold {line.line_id} of delivery {event.delivery_id}") from error
        await tx.flush()


async def _release(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    for line in event.lines:
        await usecases.release_hold(tx, batch_id=line.batch_id, hold_id=line.line_id, reason=event.status, now=_now())
        await tx.flush()


async def _pick_up(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    for line in event.lines:
        await usecases.pick_up(tx, batch_id=line.batch_id, hold_id=line.line_id, picked=line.picked, now=_now())
        await tx.flush()


async def _settle(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    for line in event.lines:
        if not line.picked:
            continue
        await usecases.settle(
            tx,
            batch_id=line.batch_id,
            hold_id=line.line_id,
            delivered=line.delivered,
            organization_id=event.receiving_organization_id,
            place_id=event.receiving_place_id,
            returned=line.returned,
            usable=getattr(event, "usable", True),
            lost=line.discarded + line.lost,
            now=_now(),
        )
        await tx.flush()


async def _nothing(tx: Transaction, received: Received) -> None:
    """It moves no goods."""


_EFFECTS: dict[type[Event], Handler] = {
    events.DeliveryPlanned: _plan,
    events.DeliverySplit: _split,
    events.DeliverySplitOff: _split,
    events.DeliveryCancelled: _release,
    events.DeliveryExpired: _release,
    events.DeliveryFailed: _release,
    events.PickupConfirmed: _pick_up,
    events.DropoffRefused: _settle,
    events.DeliveryCompleted: _settle,
    events.DeliveryReturned: _settle,
    events.DeliveryDiscarded: _settle,
    events.DeliveryGoodsLost: _settle,
}


def _followed(effect: Handler) -> Handler:
    """The event's effect on goods, and who carries the delivery, where to."""

    async def handle(tx: Transaction, received: Received) -> None:
        event: Any = received.event
        await effect(tx, received)
        usecases.follow_delivery(
            tx,
            event.delivery_id,
            version=received.envelope.aggregateversion,
            status=event.status,
            volunteer_id=event.volunteer_id,
            organization_id=event.receiving_organization_id,
            place_id=event.receiving_place_id,
        )

    return handle


async def expire(tx: Transaction, payload: dict[str, Any]) -> None:
    """The timer of `usecases.EXPIRE`."""
    await usecases.expire(tx, batch_id=UUID(payload["batch_id"]), now=_now())


def _now() -> datetime:
    return datetime.now(UTC)


_EVERY = [event for event in event_types().values() if (event.producer, event.aggregate) == ("deliveries", "delivery")]

DELIVERIES = Consumer(
    "deliveries", {event: _followed(_EFFECTS.get(event, _nothing)) for event in _EVERY}, order=Order.GATED
)
