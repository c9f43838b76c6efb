"""What can be done with batches: load, decide, save. Callers' rights are checked here, once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, TypedDict
from uuid import UUID

from chassis import timers
from chassis.access import Directory, Place, Principal
from chassis.database import Transaction
from chassis.kernel import Conflict, Forbidden, NotFound, new_id

from batches.domain import (
    Batch,
    BatchId,
    BatchNotFound,
    DeliveryId,
    Followed,
    Holder,
    HoldId,
    Kind,
    OrganizationId,
    PickupWindow,
    PlaceId,
    Product,
    Receiver,
    Severity,
    Stage,
    Storage,
    Unit,
    UserId,
    granted,
    holder,
)
from batches.repository import BATCHES, follow, followed

EXPIRE = "expire-batch"


class PlaceNotFound(NotFound):
    """No such place, or not for this caller."""

    slug = "place-not-found"


class PlaceNotForPickup(Conflict):
    """Goods cannot be fetched at this place."""

    slug = "place-not-for-pickup"


class OrganizationNotVerified(Conflict):
    """Only a verified organization publishes batches."""

    slug = "organization-not-verified"


class NotYourBatch(Forbidden):
    """The caller sees the batch but may not do this to it."""

    slug = "not-your-batch"


class NewBatch(TypedDict):
    """What a provider says of a new batch."""

    kind: Kind
    product: Product
    unit: Unit
    quantity: int
    storage: Storage
    pickup_window: PickupWindow
    lot_code: str | None
    use_by_at: datetime | None
    est_ready_at: datetime | None
    handling_notes: str | None


async def create(
    tx: Transaction, directory: Directory, principal: Principal, *, place_id: UUID, batch: NewBatch, now: datetime
) -> Batch:
    """Announce a batch at a place of the caller's verified organization."""
    place = await _own_pickup_place(directory, principal, place_id)
    created = Batch.create(
        BatchId(new_id()),
        organization_id=OrganizationId(place.organization_id),
        place_id=PlaceId(place.id),
        now=now,
        **batch,
    )
    BATCHES.save(tx, created, now=now)
    _set_expiry(tx, created)
    return created


async def mark_ready(
    tx: Transaction,
    principal: Principal,
    batch_id: UUID,
    *,
    quantity: int | None,
    temperature_dc: int | None,
    use_by_at: datetime | None,
    min_handling: timedelta,
    now: datetime,
    if_match: int | None,
) -> Batch:
    """Offer the batch."""
    batch = await _own(tx, principal, batch_id, if_match)
    batch.mark_ready(
        now=now, min_handling=min_handling, quantity=quantity, temperature_dc=temperature_dc, use_by_at=use_by_at
    )
    BATCHES.save(tx, batch, now=now)
    _set_expiry(tx, batch)
    return batch


async def adjust(
    tx: Transaction,
    principal: Principal,
    batch_id: UUID,
    *,
    quantity: int,
    reason: str,
    now: datetime,
    if_match: int | None,
) -> Batch:
    """Correct the total."""
    batch = await _own(tx, principal, batch_id, if_match)
    batch.adjust(quantity, reason=reason)
    BATCHES.save(tx, batch, now=now)
    return batch


async def cancel(
    tx: Transaction, principal: Principal, batch_id: UUID, *, reason: str, now: datetime, if_match: int | None
) -> Batch:
    """Withdraw the batch."""
    batch = await _own(tx, principal, batch_id, if_match)
    batch.cancel(reason=reason)
    timers.cancel(tx, key=f"{EXPIRE}:{batch_id}")
    BATCHES.save(tx, batch, now=now)
    return batch


async def recall(
    tx: Transaction,
    principal: Principal,
    batch_id: UUID,
    *,
    severity: Severity,
    reason: str,
    now: datetime,
    if_match: int | None,
) -> Batch:
    """Declare the batch unsafe; the provider's managers, coordinators and admins may."""
    batch = await _seen(tx, principal, batch_id, if_match)
    if not principal.is_coordinator and not principal.manages(batch.organization_id):
        raise NotYourBatch("only the provider's managers, coordinators and admins recall")
    batch.recall(severity=severity, reason=reason)
    BATCHES.save(tx, batch, now=now)
    return batch


async def record_temperature(
    tx: Transaction,
    principal: Principal,
    batch_id: UUID,
    *,
    temperature_dc: int,
    stage: Stage,
    now: datetime,
    if_match: int | None,
) -> Batch:
    """Keep a reading."""
    batch = await _own(tx, principal, batch_id, if_match)
    batch.record_temperature(temperature_dc, stage=stage, now=now)
    BATCHES.save(tx, batch, now=now)
    return batch


async def history(tx: Transaction, principal: Principal, batch_id: UUID) -> list[dict[str, Any]]:
    """The stored events, for the parties."""
    await _party(tx, principal, batch_id)
    return await BATCHES.history(tx, batch_id)


async def as_of(tx: Transaction, principal: Principal, batch_id: UUID, moment: datetime) -> Batch:
    """The batch as it was, for the parties."""
    await _party(tx, principal, batch_id)
    return await BATCHES.as_of(tx, batch_id, moment)


async def trace(
    tx: Transaction, principal: Principal, batch_id: UUID, *, limit: int, after: UUID | None
) -> list[Holder]:
    """Who has the goods, hold by hold, for the parties; one more than `limit` when there are more."""
    batch = await _party(tx, principal, batch_id)
    hold_ids = [hold_id for hold_id in granted(batch) if after is None or hold_id > after][: limit + 1]
    deliveries = await followed(tx, [batch.holds[hold_id].delivery_id for hold_id in hold_ids])
    return [holder(batch, hold_id, deliveries.get(batch.holds[hold_id].delivery_id)) for hold_id in hold_ids]


def follow_delivery(
    tx: Transaction,
    delivery_id: UUID,
    *,
    version: int,
    status: str,
    volunteer_id: UUID | None,
    organization_id: UUID,
    place_id: UUID,
) -> None:
    """Keep who carries a delivery, and where to."""
    delivery = Followed(
        status=status,
        volunteer_id=None if volunteer_id is None else UserId(volunteer_id),
        receiver=_receiver(organization_id, place_id),
    )
    follow(tx, delivery_id, delivery, version=version)


async def hold_for_delivery(
    tx: Transaction, *, batch_id: UUID, hold_id: UUID, delivery_id: UUID, quantity: int, now: datetime
) -> None:
    """Answer a planned delivery's line: held, or rejected with the reason."""
    batch = await BATCHES.get(tx, batch_id)
    batch.hold(HoldId(hold_id), delivery_id=DeliveryId(delivery_id), quantity=quantity, now=now)
    BATCHES.save(tx, batch, now=now)


async def split_hold(
    tx: Transaction,
    *,
    batch_id: UUID,
    hold_id: UUID,
    sibling_id: UUID,
    sibling_delivery_id: UUID,
    quantity: int,
    now: datetime,
) -> None:
    """A delivery was split, and so are its holds; raises `HoldNotFound` when the one to split came from a split not heard of."""
    batch = await BATCHES.get(tx, batch_id)
    batch.split_hold(
        HoldId(hold_id),
        sibling_id=HoldId(sibling_id),
        sibling_delivery_id=DeliveryId(sibling_delivery_id),
        quantity=quantity,
    )
    BATCHES.save(tx, batch, now=now)


async def release_hold(tx: Transaction, *, batch_id: UUID, hold_id: UUID, reason: str, now: datetime) -> None:
    """A delivery ended before pickup."""
    batch = await BATCHES.get(tx, batch_id)
    batch.release(HoldId(hold_id), reason=reason)
    BATCHES.save(tx, batch, now=now)


async def pick_up(tx: Transaction, *, batch_id: UUID, hold_id: UUID, picked: int, now: datetime) -> None:
    """The goods of a line left."""
    batch = await BATCHES.get(tx, batch_id)
    batch.pick_up(HoldId(hold_id), picked=picked, now=now)
    BATCHES.save(tx, batch, now=now)


async def settle(
    tx: Transaction,
    *,
    batch_id: UUID,
    hold_id: UUID,
    delivered: int,
    organization_id: UUID,
    place_id: UUID,
    returned: int,
    usable: bool,
    lost: int,
    now: datetime,
) -> None:
    """Account for what became of a line so far; all quantities are totals, the newest drop was at this place."""
    batch = await BATCHES.get(tx, batch_id)
    hold = HoldId(hold_id)
    batch.deliver(hold, delivered=delivered, receiver=_receiver(organization_id, place_id))
    batch.take_back(hold, returned=returned, usable=usable)
    batch.lose(hold, lost=lost)
    BATCHES.save(tx, batch, now=now)


async def expire(tx: Transaction, *, batch_id: UUID, now: datetime) -> None:
    """A batch's use-by time came; checked again against the batch as it is now."""
    batch = await BATCHES.get(tx, batch_id)
    batch.expire(now=now)
    BATCHES.save(tx, batch, now=now)


def _receiver(organization_id: UUID, place_id: UUID) -> Receiver:
    return Receiver(organization_id=OrganizationId(organization_id), place_id=PlaceId(place_id))


def _set_expiry(tx: Transaction, batch: Batch) -> None:
    if batch.use_by_at is not None:
        key = f"{EXPIRE}:{batch.id}"
        timers.schedule(tx, due_at=batch.use_by_at, key=key, payload={"kind": EXPIRE, "batch_id": str(batch.id)})


async def _own_pickup_place(directory: Directory, principal: Principal, place_id: UUID) -> Place:
    place = await directory.place(place_id)
    if place is None or not principal.acts_for(place.organization_id):
        raise PlaceNotFound
    if "pickup" not in place.roles:
        raise PlaceNotForPickup
    if await directory.organization_status(place.organization_id) != "verified":
        raise OrganizationNotVerified
    return place


async def _seen(tx: Transaction, principal: Principal, batch_id: UUID, if_match: int | None) -> Batch:
    batch = await BATCHES.get(tx, batch_id)
    visible = batch.status == "ready" or principal.acts_for(batch.organization_id) or principal.is_coordinator
    if not visible:
        raise BatchNotFound
    batch.expect_version(if_match)
    return batch


async def _own(tx: Transaction, principal: Principal, batch_id: UUID, if_match: int | None) -> Batch:
    batch = await _seen(tx, principal, batch_id, if_match)
    if not principal.acts_for(batch.organization_id):
        raise NotYourBatch("only the provider may do this")
    return batch


async def _party(tx: Transaction, principal: Principal, batch_id: UUID) -> Batch:
    batch = await _seen(tx, principal, batch_id, None)
    if not principal.acts_for(batch.organization_id) and not principal.is_coordinator:
        raise NotYourBatch("only the provider and coordinators see this")
    return batch
