"""A plan: goods that are ready, at one place, for a place that takes them, by somebody who may decide it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypedDict
from uuid import UUID

from chassis.access import Directory, Place, Principal
from chassis.database import Transaction
from chassis.kernel import Conflict, NotFound, new_id

from deliveries.domain import (
    BatchId,
    CategoryNotAccepted,
    Delivery,
    DeliveryId,
    LineId,
    OrganizationId,
    PlaceId,
    PlannedLine,
    RequestId,
    Storage,
    UserId,
    Window,
    meeting_of,
)
from deliveries.repository import DELIVERIES, KnownBatch, known_batches
from deliveries.usecases.asking import NotYourDelivery
from deliveries.usecases.custody import Custody


class BatchNotFound(NotFound):
    """No such batch, or not for this caller."""

    slug = "batch-not-found"


class PlaceNotFound(NotFound):
    """No such place, or not for this caller."""

    slug = "place-not-found"


class BatchNotReady(Conflict):
    """The batch is not on offer (any more)."""

    slug = "batch-not-ready"


class PlaceNotForReceiving(Conflict):
    """Goods cannot be brought to this place."""

    slug = "place-not-for-receiving"


class OrganizationNotVerified(Conflict):
    """Goods go between verified organizations only."""

    slug = "organization-not-verified"


class NewDelivery(TypedDict):
    """What somebody says of a new delivery; `lines` are (batch, quantity)."""

    receiving_place_id: UUID
    lines: Sequence[tuple[UUID, int]]
    dropoff_window: Window | None
    request_id: UUID | None


async def plan(
    tx: Transaction, directory: Directory, custody: Custody, principal: Principal, *, asked: NewDelivery, now: datetime
) -> Delivery:
    """Plan a delivery; batches is asked for a hold per line, and its answers open or cancel it."""
    place = await receiving_place(directory, principal, asked["receiving_place_id"])
    batches = await _seen_batches(tx, directory, principal, [batch_id for batch_id, _ in asked["lines"]])
    _require_right(principal, batches, place)
    await require_receiving(directory, place)
    require_taken(place, batches.values())
    await _require_on_offer(directory, batches)
    request_id = asked["request_id"]
    delivery_id = DeliveryId(new_id())
    delivery = Delivery.plan(
        delivery_id,
        receiving_organization_id=OrganizationId(place.organization_id),
        receiving_place_id=PlaceId(place.id),
        lines=[_line(batches[batch_id], quantity) for batch_id, quantity in asked["lines"]],
        accepts=place.accepts or None,
        planned_by=UserId(principal.id),
        now=now,
        pickup_window=meeting_of([batch.pickup_window for batch in batches.values()]),
        dropoff_window=asked["dropoff_window"],
        request_id=None if request_id is None else RequestId(request_id),
    )
    DELIVERIES.save(tx, delivery, now=now)
    custody.begin(tx, delivery_id)
    return delivery


async def receiving_place(directory: Directory, principal: Principal, place_id: UUID) -> Place:
    """A place that the caller may see: a verified organization's, or one of their own."""
    place = await directory.place(place_id)
    if place is None:
        raise PlaceNotFound
    if await directory.organization_status(place.organization_id) != "verified" and not _own(principal, place):
        raise PlaceNotFound
    return place


async def require_receiving(directory: Directory, place: Place) -> None:
    """Goods may be brought there."""
    if "receiving" not in place.roles:
        raise PlaceNotForReceiving
    if await directory.organization_status(place.organization_id) != "verified":
        raise OrganizationNotVerified(organization_id=place.organization_id)


def require_taken(place: Place, batches: Iterable[KnownBatch]) -> None:
    """The place takes such goods in, by what it accepts and by its stop-list."""
    refused = sorted({batch.category for batch in batches if not place.takes(batch.category, batch.gtin)})
    if refused:
        raise CategoryNotAccepted(categories=refused)


def _own(principal: Principal, of: Place | KnownBatch) -> bool:
    return principal.is_coordinator or principal.acts_for(of.organization_id)


async def _seen_batches(
    tx: Transaction, directory: Directory, principal: Principal, batch_ids: Sequence[UUID]
) -> dict[UUID, KnownBatch]:
    """The batches by id: everybody sees those on offer, their provider all of its own."""
    known = await known_batches(tx, batch_ids)
    for batch_id in batch_ids:
        batch = known.get(batch_id)
        if batch is None or not (_own(principal, batch) or await _offered(directory, batch)):
            raise BatchNotFound(batch_id=batch_id)
    return known


async def _offered(directory: Directory, batch: KnownBatch) -> bool:
    return batch.status == "ready" and await directory.organization_status(batch.organization_id) == "verified"


def _require_right(principal: Principal, batches: dict[UUID, KnownBatch], place: Place) -> None:
    if not _own(principal, place) and not all(_own(principal, batch) for batch in batches.values()):
        raise NotYourDelivery("only the batches' provider, the receiver or a coordinator may plan this")


async def _require_on_offer(directory: Directory, batches: dict[UUID, KnownBatch]) -> None:
    for batch in batches.values():
        if batch.status != "ready":
            raise BatchNotReady(batch_id=batch.batch_id, batch_status=batch.status)
        if not await _offered(directory, batch):
            raise OrganizationNotVerified(organization_id=batch.organization_id)


def _line(batch: KnownBatch, quantity: int) -> PlannedLine:
    return PlannedLine(
        line_id=LineId(new_id()),
        batch_id=BatchId(batch.batch_id),
        provider_id=OrganizationId(batch.organization_id),
        pickup_place_id=PlaceId(batch.place_id),
        product_name=batch.product_name,
        category=batch.category,
        storage=Storage(batch.storage),
        unit=batch.unit,
        quantity=quantity,
        use_by_at=batch.use_by_at,
    )
