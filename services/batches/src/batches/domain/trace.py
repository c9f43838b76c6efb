"""Where the goods of a hold are now: what the ledger knows of quantities, and deliveries of people and doors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from batches.domain.ledger import Ledger
from batches.domain.terms import DeliveryId, Hold, HoldId, HoldState, Receiver, UserId


class Where(StrEnum):
    """In whose hands a part of a hold is."""

    HELD = "held"
    IN_TRANSIT = "in_transit"
    DELIVERED = "delivered"
    RETURNED = "returned"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A delivery as its newest event told it."""

    status: str
    volunteer_id: UserId | None
    receiver: Receiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """So much of a hold: at somebody's door (`at`), or with a volunteer, or gone."""

    where: Where
    quantity: int
    at: Receiver | None = None
    volunteer_id: UserId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A hold that was granted once, the delivery it is for, and where its goods are."""

    hold_id: HoldId
    delivery_id: DeliveryId
    delivery: Followed | None
    parts: tuple[Part, ...]


def granted(batch: Ledger) -> list[HoldId]:
    """Every hold that ever held any of the batch, in the order of their ids."""
    return sorted(hold_id for hold_id, hold in batch.holds.items() if hold.state is not HoldState.REJECTED)


def holder(batch: Ledger, hold_id: HoldId, delivery: Followed | None) -> Holder:
    """Who has the goods of a hold; the parts add up to what was set aside, but for what came back before the pickup."""
    hold = batch.holds[hold_id]
    parts = tuple(part for part in _parts(batch, hold, delivery) if part.quantity)
    return Holder(hold_id=hold_id, delivery_id=hold.delivery_id, delivery=delivery, parts=parts)


def _parts(batch: Ledger, hold: Hold, delivery: Followed | None) -> Iterator[Part]:
    provider = Receiver(organization_id=batch.organization_id, place_id=batch.place_id)
    volunteer_id = None if delivery is None else delivery.volunteer_id
    yield Part(where=Where.HELD, quantity=hold.held, at=provider)
    yield Part(where=Where.IN_TRANSIT, quantity=hold.in_transit, volunteer_id=volunteer_id)
    drops: Counter[Receiver | None] = Counter()
    for drop in hold.drops:
        drops[drop.receiver] += drop.quantity
    drops[None] = hold.delivered - drops.total()
    for receiver, quantity in drops.items():
        yield Part(where=Where.DELIVERED, quantity=quantity, at=receiver)
    yield Part(where=Where.RETURNED, quantity=hold.returned, at=provider)
    yield Part(where=Where.LOST, quantity=hold.lost)
