"""What other services' facts mean for batches: deliveries ask for holds and tell what became of the goods."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from chassis.consumer import Consumer, Order
from chassis.database import Transaction
from contracts.events import deliveries as events
from contracts.registry import Received

from batches import usecases


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
            returned=line.returned,
            usable=getattr(event, "usable", True),
            lost=line.discarded + line.lost,
            now=_now(),
        )
        await tx.flush()


async def expire(tx: Transaction, payload: dict[str, Any]) -> None:
    """The timer of `usecases.EXPIRE`."""
    await usecases.expire(tx, batch_id=UUID(payload["batch_id"]), now=_now())


def _now() -> datetime:
    return datetime.now(UTC)


DELIVERIES = Consumer(
    "deliveries",
    {
        events.DeliveryPlanned: _plan,
        events.DeliveryCancelled: _release,
        events.DeliveryExpired: _release,
        events.DeliveryFailed: _release,
        events.PickupConfirmed: _pick_up,
        events.DropoffRefused: _settle,
        events.DeliveryCompleted: _settle,
        events.DeliveryReturned: _settle,
        events.DeliveryDiscarded: _settle,
        events.DeliveryGoodsLost: _settle,
    },
    order=Order.GATED,
)
