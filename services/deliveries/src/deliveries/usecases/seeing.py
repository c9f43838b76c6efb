"""What happened to a delivery, who was asked to carry it, and where refused goods could go, for those it concerns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.access import Principal
from chassis.database import Row, Transaction

from deliveries import queries
from deliveries.domain import DeliveryNotFound
from deliveries.domain.watches import PlaceNear
from deliveries.repository import DELIVERIES
from deliveries.usecases.asking import NotYourDelivery
from deliveries.usecases.watching import REROUTE


async def history(tx: Transaction, principal: Principal, delivery_id: UUID) -> list[dict[str, Any]]:
    """The stored events, for the parties."""
    delivery = await DELIVERIES.get(tx, delivery_id)
    if not queries.is_party(principal, delivery):
        raise DeliveryNotFound
    return await DELIVERIES.history(tx, delivery_id)


async def offers(
    tx: Transaction, principal: Principal, delivery_id: UUID, *, limit: int, before: UUID | None
) -> list[Row]:
    """Who was asked to carry it, with the reasons, for who planned it and for coordinators."""
    delivery = await DELIVERIES.get(tx, delivery_id)
    if not queries.is_visible(principal, delivery):
        raise DeliveryNotFound
    if principal.id != delivery.planned_by and not principal.is_coordinator:
        raise NotYourDelivery("only who planned it and coordinators may do this")
    return await queries.offers_of(tx, delivery_id, limit=limit, before=before)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhereTo:
    """What may become of refused goods: places that would take them, the nearest first, and by when to decide."""

    decide_by: datetime | None
    places: list[PlaceNear]


async def where_to(tx: Transaction, principal: Principal, delivery_id: UUID) -> WhereTo:
    """Where refused goods could go, for the delivery's parties while that is open."""
    delivery = await DELIVERIES.get(tx, delivery_id)
    if not queries.is_party(principal, delivery):
        raise DeliveryNotFound
    delivery.require("reroute")
    process = await REROUTE.kind.last(tx, delivery_id)
    moments = [] if process is None else process.state.moments
    return WhereTo(decide_by=moments[0].at if moments else None, places=[] if process is None else process.state.places)
