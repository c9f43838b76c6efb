"""What happened to a delivery, for its parties."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from chassis.access import Principal
from chassis.database import Transaction

from deliveries import queries
from deliveries.domain import DeliveryNotFound
from deliveries.repository import DELIVERIES


async def history(tx: Transaction, principal: Principal, delivery_id: UUID) -> list[dict[str, Any]]:
    """The stored events, for the parties."""
    delivery = await DELIVERIES.get(tx, delivery_id)
    if not queries.is_party(principal, delivery):
        raise DeliveryNotFound
    return await DELIVERIES.history(tx, delivery_id)
