"""The process manager of an open delivery: it is offered to volunteers ring by ring, then those who can help are told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.database import Transaction
from chassis.processes import Process, ProcessKind

from deliveries.domain import ClaimReleased, Delivery, Status
from deliveries.domain.follow_ups import About, DeliveryOffered, DeliveryUnclaimed
from deliveries.domain.offers import Candidate, choose, pause_after
from deliveries.repository import DELIVERIES
from deliveries.repository import offers as repository
from deliveries.usecases.claims import DAY
from deliveries.usecases.following import Following, Manager, say

NOBODY, UNCLAIMED = "nobody", "unclaimed"


@dataclass
class Offering:
    """The last ring that was asked, and how many people were in all."""

    ring: int = 0
    asked: int = 0


async def _go(
    tx: Transaction, following: Following, delivery: Delivery, process: Process[Offering], now: datetime
) -> None:
    """Ask the next ring that has somebody; when no ring is left, and nobody claimed for a while, tell those who can help."""
    over = delivery.pickup_window is not None and delivery.pickup_window.to_at <= now
    state, radii_m = process.state, following.reach.radii_m
    while not over and state.ring < len(radii_m):
        state.ring += 1
        chosen = await _chosen(tx, following, delivery, process, now)
        process.take(f"ring-{state.ring}", now=now, radius_m=radii_m[state.ring - 1], asked=len(chosen))
        if chosen:
            state.asked += len(chosen)
            await _offer(tx, following, delivery, process, chosen, now)
            return _wait(following, delivery, process, now)
    if not over and state.asked == 0 and process.take(NOBODY, now=now):
        return _wait(following, delivery, process, now)
    process.take(UNCLAIMED, now=now, asked=state.asked)
    await say(tx, DeliveryUnclaimed(about=About.of(delivery), offered=state.asked), now=now)
    return process.end(UNCLAIMED)


def _wait(following: Following, delivery: Delivery, process: Process[Offering], now: datetime) -> None:
    rings_left = len(following.reach.radii_m) - process.state.ring
    until = delivery.expires_at(min_handling=following.policy.min_handling)
    process.deadline = now + pause_after(following.reach, rings_left=rings_left, until=until, now=now)


async def _chosen(
    tx: Transaction, following: Following, delivery: Delivery, process: Process[Offering], now: datetime
) -> list[Candidate]:
    point = await repository.point_of(tx, delivery.pickup_place_id)
    if point is None:
        return []
    found = await repository.candidates(
        tx,
        point,
        radius_m=following.reach.radii_m[process.state.ring - 1],
        weight_g=delivery.weight_g,
        span=delivery.span_of_claim(now),
        since=now - DAY,
        claims_max=following.policy.claims_per_day_max,
        delivery_id=delivery.id,
        opening=process.run,
        besides=await _former_volunteers(tx, delivery.id),
        count=following.reach.per_ring_max,
    )
    return choose(found, count=following.reach.per_ring_max)


async def _former_volunteers(tx: Transaction, delivery_id: UUID) -> set[UUID]:
    """Who had claimed it and gave it back, or did not come."""
    history = await DELIVERIES.history(tx, delivery_id)
    return {UUID(event["data"]["volunteer_id"]) for event in history if event["type"] == ClaimReleased.__name__}


async def _offer(
    tx: Transaction,
    following: Following,
    delivery: Delivery,
    process: Process[Offering],
    chosen: list[Candidate],
    now: datetime,
) -> None:
    ring, radius_m = process.state.ring, following.reach.radii_m[process.state.ring - 1]
    repository.offer(
        tx,
        delivery.id,
        opening=process.run,
        ring=ring,
        radius_m=radius_m,
        weight_g=delivery.weight_g,
        chosen=chosen,
        now=now,
    )
    volunteer_ids = tuple(one.volunteer_id for one in chosen)
    offered = DeliveryOffered(about=About.of(delivery), ring=ring, radius_m=radius_m, volunteer_ids=volunteer_ids)
    await say(tx, offered, now=now)


async def _withdraw(tx: Transaction, delivery_id: UUID, now: datetime) -> None:
    repository.settle(tx, delivery_id, taken_by=None, now=now)


OFFERS = Manager(kind=ProcessKind("offers", Offering), stage=Status.OPEN, new=Offering, go=_go, take_back=_withdraw)


def settle(tx: Transaction, delivery: Delivery, *, opening: int | None, now: datetime) -> None:
    """Queue the end of offers that stand though the delivery is not open any more, or is open anew since `opening`."""
    if delivery.status is not Status.OPEN:
        repository.settle(tx, delivery.id, taken_by=delivery.volunteer_id, now=now)
    elif opening is not None:
        repository.settle(tx, delivery.id, taken_by=None, but_opening=opening, now=now)
