"""What an event means for the audit trail and for the read models."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import Transaction

from analytics import repository
from analytics.domain import Carried, Movement, NeedLine, Occurrence, Role, day_of, delivered, rescued


@dataclass(frozen=True, slots=True)
class BatchSeen:
    """A batch as an event shows it."""

    id: UUID
    organization_id: UUID
    place_id: UUID
    category: str
    unit: str
    total: int
    lost: int
    pickup_to: datetime


@dataclass(frozen=True, slots=True)
class DeliverySeen:
    """A delivery as an event shows it."""

    id: UUID
    provider_ids: Collection[UUID]
    receiver_id: UUID
    pickup_place_id: UUID
    receiving_place_id: UUID
    batch_ids: Collection[UUID]


async def record(tx: Transaction, event: Occurrence) -> None:
    """Keep what happened; everything else about the event is queued after it."""
    await repository.take_turn(tx)
    repository.keep(tx, event)


def see_batch(tx: Transaction, event: Occurrence, batch: BatchSeen, *, milestone: str | None) -> None:
    """Follow a batch: its milestones, what it offered once it was ready, what was lost of it."""
    if milestone is not None:
        repository.see_batch(
            tx, batch.id, milestone, at=event.occurred_at, organization_id=batch.organization_id,
            place_id=batch.place_id, category=batch.category, unit=batch.unit, pickup_to=batch.pickup_to,
        )  # fmt: skip
    if milestone == "ready":
        repository.move(tx, event.event_id, [_offered(event.occurred_at, batch)])
    if batch.lost:
        repository.see_loss(
            tx, batch.id, version=event.version, day=day_of(event.occurred_at), organization_id=batch.organization_id,
            place_id=batch.place_id, category=batch.category, unit=batch.unit, lost=batch.lost,
        )  # fmt: skip


def _offered(at: datetime, batch: BatchSeen) -> Movement:
    return Movement(
        day_of(at), batch.organization_id, Role.GIVER, batch.place_id, batch.category, batch.unit, offered=batch.total
    )


def see_delivery(tx: Transaction, event: Occurrence, delivery: DeliverySeen, *, milestone: str | None) -> None:
    """Follow a delivery: who takes part in it, and when it reached each milestone."""
    repository.see_delivery(
        tx, delivery.id, milestone, at=event.occurred_at, organizations=[*delivery.provider_ids, delivery.receiver_id],
        pickup_place_id=delivery.pickup_place_id, batch_ids=delivery.batch_ids,
    )  # fmt: skip


def fetched(tx: Transaction, event: Occurrence, delivery: DeliverySeen, lines: Iterable[Carried]) -> None:
    """The goods left the providers: rescued, at the place of pickup."""
    at, place_id = event.occurred_at, delivery.pickup_place_id
    repository.move(tx, event.event_id, rescued(at, place_id=place_id, receiver_id=delivery.receiver_id, lines=lines))


def handed_over(tx: Transaction, event: Occurrence, delivery: DeliverySeen, lines: Iterable[Carried]) -> None:
    """The goods reached the receiver: delivered, at the receiving place."""
    at, place_id = event.occurred_at, delivery.receiving_place_id
    repository.move(tx, event.event_id, delivered(at, place_id=place_id, receiver_id=delivery.receiver_id, lines=lines))


def see_request(
    tx: Transaction, event: Occurrence, request_id: UUID, *, organization_id: UUID, place_id: UUID, status: str,
    lines: Sequence[NeedLine],
) -> None:  # fmt: skip
    """Follow what a request needs and how much of it is covered."""
    repository.see_request(
        tx, request_id, version=event.version, at=event.occurred_at, organization_id=organization_id, place_id=place_id,
        status=status, lines=lines,
    )  # fmt: skip
