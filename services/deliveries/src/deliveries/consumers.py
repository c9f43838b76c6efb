"""What facts mean for deliveries: batches answers about goods, identity tells of people and tenants, its own say what follows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from chassis.consumer import Consumer, Handler, Order
from chassis.database import Transaction
from chassis.timers import TimerHandler
from contracts.envelope import Event
from contracts.events import batches, deliveries, identity
from contracts.registry import Received, event_types

from deliveries import usecases
from deliveries.domain import Spoilage, Status
from deliveries.usecases import Following, Policy, tasks


def consumers(following: Following) -> list[Consumer]:
    """One queue per concern, so that a flood in one does not hold up the answers to plans."""
    policy = following.policy
    return [_batches(), _volunteers(policy), _organizations(policy), _holds(policy), _stages(following)]


def timers(following: Following) -> Mapping[str, TimerHandler]:
    """What due timers do."""
    policy = following.policy

    async def expire(tx: Transaction, payload: dict[str, Any]) -> None:
        await usecases.expire(tx, policy, delivery_id=UUID(payload["delivery_id"]), now=_now())

    async def release_unconfirmed(tx: Transaction, payload: dict[str, Any]) -> None:
        await usecases.release_unconfirmed(tx, policy, delivery_id=UUID(payload["delivery_id"]), now=_now())

    async def expire_task(tx: Transaction, payload: dict[str, Any]) -> None:
        await tasks.expire(tx, UUID(payload["task_id"]), now=_now())

    own: dict[str, TimerHandler] = {
        usecases.EXPIRE: expire,
        usecases.UNCONFIRMED: release_unconfirmed,
        tasks.DUE: expire_task,
    }
    return {**own, **usecases.stage_timers(following)}


def _batches() -> Consumer:
    async def know(tx: Transaction, received: Received) -> None:
        event: Any = received.event
        batch = usecases.KnownBatch(
            batch_id=event.batch_id,
            version=received.envelope.aggregateversion,
            organization_id=event.organization_id,
            place_id=event.place_id,
            status=event.status,
            category=event.category,
            product_name=event.product_name,
            unit=event.unit,
            storage=event.storage,
            use_by_at=event.use_by_at,
            pickup_from=event.pickup_window.from_at,
            pickup_to=event.pickup_window.to_at,
            gtin=event.gtin,
        )
        usecases.know_batch(tx, batch)

    every = [event for event in event_types().values() if event.producer == "batches"]
    return Consumer("batches", dict.fromkeys(every, know), order=Order.MONOTONIC)


def _volunteers(policy: Policy) -> Consumer:
    async def know(tx: Transaction, received: Received) -> None:
        event: Any = received.event
        usecases.know_volunteer(
            tx,
            event.user_id,
            version=received.envelope.aggregateversion,
            vehicle=event.vehicle,
            capacity_g=event.capacity_g,
            lat=event.lat,
            lon=event.lon,
            radius_m=event.radius_m,
        )

    async def suspend(tx: Transaction, received: Received) -> None:
        event: Any = received.event
        await usecases.volunteer_suspended(tx, policy, user_id=event.user_id, now=_now())

    return Consumer("volunteers", {identity.VolunteerProfileChanged: know, identity.UserSuspended: suspend})


def _organizations(policy: Policy) -> Consumer:
    async def gone(tx: Transaction, received: Received) -> None:
        event: Any = received.event
        reason = "organization-closed" if isinstance(event, identity.OrganizationClosed) else "organization-suspended"
        version = received.envelope.aggregateversion
        await usecases.organization_gone(
            tx, policy, organization_id=event.organization_id, reason=reason, version=version, now=_now()
        )

    return Consumer("organizations", {identity.OrganizationSuspended: gone, identity.OrganizationClosed: gone})


def _holds(policy: Policy) -> Consumer:
    async def grant(tx: Transaction, received: Received) -> None:
        event: Any = received.event
        await usecases.grant_hold(tx, policy, delivery_id=event.delivery_id, line_id=event.hold_id, now=_now())

    async def reject(tx: Transaction, received: Received) -> None:
        event: Any = received.event
        await usecases.reject_hold(
            tx, policy, delivery_id=event.delivery_id, line_id=event.hold_id, reason=event.reason, now=_now()
        )

    async def spoil(tx: Transaction, received: Received) -> None:
        event: Any = received.event
        cause = Spoilage.RECALLED if isinstance(event, batches.BatchRecalled) else Spoilage.EXPIRED
        version = received.envelope.aggregateversion
        await usecases.batch_spoiled(tx, policy, batch_id=event.batch_id, cause=cause, version=version, now=_now())

    handlers: dict[type[Event], Handler] = {
        batches.BatchHeld: grant,
        batches.BatchHoldRejected: reject,
        batches.BatchRecalled: spoil,
        batches.BatchExpired: spoil,
    }
    return Consumer("holds", handlers, sla_s=2.0)  # one delivery's answers never wait for another's of the same batch


# Into which stage an event brings its delivery. The service hears its own facts, each once, after they are committed.
_STAGES: Mapping[type[Event], Status] = {
    deliveries.DeliveryPlanned: Status.PLANNED,
    deliveries.DeliveryOpened: Status.OPEN,
    deliveries.DeliverySplitOff: Status.OPEN,
    deliveries.DeliveryClaimed: Status.CLAIMED,
    deliveries.ClaimReleased: Status.OPEN,
    deliveries.PickupConfirmed: Status.IN_TRANSIT,
    deliveries.DropoffRefused: Status.REROUTING,
    deliveries.DeliveryRerouted: Status.IN_TRANSIT,
    deliveries.DeliveryCompleted: Status.DELIVERED,
    deliveries.DeliveryReturned: Status.RETURNED,
    deliveries.DeliveryDiscarded: Status.DISCARDED,
    deliveries.DeliveryFailed: Status.FAILED,
    deliveries.DeliveryCancelled: Status.CANCELLED,
    deliveries.DeliveryExpired: Status.EXPIRED,
}


def _stages(following: Following) -> Consumer:
    async def enter(tx: Transaction, received: Received) -> None:
        event: Any = received.event
        await usecases.entered(
            tx,
            following,
            delivery_id=event.delivery_id,
            stage=_STAGES[type(event)],
            version=received.envelope.aggregateversion,
            now=_now(),
        )

    return Consumer("stages", dict.fromkeys(_STAGES, enter))


def _now() -> datetime:
    return datetime.now(UTC)
