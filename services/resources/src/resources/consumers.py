"""What other services' facts mean for requests: a delivery made for one arrived. And the timers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from chassis.consumer import Consumer
from chassis.database import Transaction
from contracts.events import deliveries as events
from contracts.registry import Received

from resources import usecases
from resources.domain import Goods


async def _receive(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    goods = [Goods(category=each.category, unit=each.unit, quantity=each.delivered) for each in event.lines]
    if event.request_id is None or not any(each.quantity for each in goods):
        return
    await usecases.receive_delivery(
        tx,
        request_id=event.request_id,
        delivery_id=event.delivery_id,
        receiving_organization_id=event.receiving_organization_id,
        brought_by=event.provider_organization_ids,
        goods=goods,
        now=_now(),
    )


async def expire_request(tx: Transaction, payload: dict[str, Any]) -> None:
    """The timer of `usecases.EXPIRE_REQUEST`."""
    await usecases.expire_request(tx, request_id=UUID(payload["request_id"]), now=_now())


async def expire_reservation(tx: Transaction, payload: dict[str, Any]) -> None:
    """The timer of `usecases.EXPIRE_RESERVATION`."""
    request_id, reservation_id = UUID(payload["request_id"]), UUID(payload["reservation_id"])
    await usecases.expire_reservation(tx, request_id=request_id, reservation_id=reservation_id, now=_now())


def _now() -> datetime:
    return datetime.now(UTC)


DELIVERIES = Consumer("deliveries", {events.DeliveryCompleted: _receive})
