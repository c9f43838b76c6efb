"""What other services' facts mean for needs: supply to match, deliveries that bring it, places and organizations. And timers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from chassis.consumer import Consumer, Handler, NotYet, Order
from chassis.database import Transaction
from chassis.telemetry import Context, in_context, start_context
from chassis.timers import TimerHandler
from contracts.envelope import Event
from contracts.events import batches, identity, resources
from contracts.registry import Received, event_types

from resources import usecases
from resources.usecases import KnownBatch, Policy, ToldDelivery, ToldLine


def timers(policy: Policy) -> Mapping[str, TimerHandler]:
    """What due timers do."""
    matching = usecases.MATCHING
    return {
        usecases.EXPIRE_REQUEST: expire_request,
        usecases.EXPIRE_RESERVATION: expire_reservation,
        usecases.LOOK: _look,
        usecases.LOOK_FOR_NEED: _look_for_need,
        usecases.CALL_OFF: _call_off,
        matching.timer_kind: matching.on_deadline(partial(usecases.pursue, policy), usecases.call_off),
    }


async def expire_request(tx: Transaction, payload: dict[str, Any]) -> None:
    """The timer of `usecases.EXPIRE_REQUEST`."""
    with _origin(payload):
        await usecases.expire_request(tx, request_id=UUID(payload["request_id"]), now=_now())


async def expire_reservation(tx: Transaction, payload: dict[str, Any]) -> None:
    """The timer of `usecases.EXPIRE_RESERVATION`."""
    request_id, reservation_id = UUID(payload["request_id"]), UUID(payload["reservation_id"])
    with _origin(payload):
        await usecases.expire_reservation(tx, request_id=request_id, reservation_id=reservation_id, now=_now())


def _origin(payload: dict[str, Any]) -> AbstractContextManager[Context]:
    """What set the timer off, when it was kept."""
    fresh = start_context()
    return in_context(replace(fresh, correlation_id=payload.get("correlation_id", fresh.correlation_id)))


async def _look(tx: Transaction, payload: dict[str, Any]) -> None:
    await usecases.look(tx, UUID(payload["batch_id"]), now=_now())


async def _look_for_need(tx: Transaction, payload: dict[str, Any]) -> None:
    await usecases.look_for_need(tx, UUID(payload["request_id"]), now=_now())


async def _call_off(tx: Transaction, payload: dict[str, Any]) -> None:
    await usecases.call_off_organization(tx, organization_id=UUID(payload["organization_id"]), now=_now())


async def _follow(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    told = ToldDelivery(
        delivery_id=event.delivery_id,
        status=event.status,
        request_id=event.request_id,
        receiving_organization_id=event.receiving_organization_id,
        provider_ids=event.provider_organization_ids,
        lines=[
            ToldLine(
                line_id=line.line_id,
                batch_id=line.batch_id,
                category=line.category,
                unit=line.unit,
                planned=line.planned,
                delivered=line.delivered,
            )
            for line in event.lines
        ],
    )
    try:
        await usecases.follow_delivery(tx, told, now=_now())
    except usecases.SupplyBehind as error:
        raise NotYet(str(error)) from error


def _known(received: Received) -> KnownBatch:
    event: Any = received.event
    return KnownBatch(
        batch_id=event.batch_id,
        version=received.envelope.aggregateversion,
        organization_id=event.organization_id,
        place_id=event.place_id,
        status=event.status,
        category=event.category,
        gtin=event.gtin,
        unit=event.unit,
        product_name=event.product_name,
        use_by_at=event.use_by_at,
        pickup_from=event.pickup_window.from_at,
        pickup_to=event.pickup_window.to_at,
        available=event.quantities.available,
    )


async def _know(tx: Transaction, received: Received) -> None:
    await usecases.know_batch(tx, _known(received), now=_now())


async def _ready(tx: Transaction, received: Received) -> None:
    await usecases.batch_ready(tx, _known(received), now=_now())


async def _answered(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    quantity = event.quantity if isinstance(event, batches.BatchHeld) else 0
    usecases.hold_answered(tx, event.hold_id, batch_id=event.batch_id, quantity=quantity)
    await _know(tx, received)


async def _move(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    await usecases.place_moved(tx, event.place_id, lat=event.lat, lon=event.lon)


async def _gone(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    version = received.envelope.aggregateversion
    try:
        await usecases.organization_gone(tx, event.organization_id, version=version, now=_now())
    except usecases.DirectoryBehind as error:
        raise NotYet(str(error)) from error


async def _chunk(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    message_id = received.envelope.id
    await usecases.chunk_announced(tx, event.catalogue_chunk_id, received.body, message_id=message_id, now=_now())


def _of(aggregate: str, handler: Handler, **others: Handler) -> dict[type[Event], Handler]:
    """A handler for every event of an aggregate, another for some by name."""
    events = [event for event in event_types().values() if event.aggregate == aggregate]
    return {event: others.get(event.__name__, handler) for event in events}


def _now() -> datetime:
    return datetime.now(UTC)


DELIVERIES = Consumer("deliveries", _of("delivery", _follow), order=Order.GATED)
SUPPLY = Consumer(
    "supply",
    _of("batch", _know, BatchReady=_ready, BatchHeld=_answered, BatchHoldRejected=_answered),
    order=Order.GATED,
)
PLACES = Consumer("places", {identity.PlaceAdded: _move, identity.PlaceChanged: _move}, order=Order.MONOTONIC)
ORGANIZATIONS = Consumer("organizations", {identity.OrganizationSuspended: _gone, identity.OrganizationClosed: _gone})
CHUNKS = Consumer(usecases.CHUNKS_CONSUMER, {resources.CatalogueChunkStored: _chunk})
CONSUMERS = [DELIVERIES, SUPPLY, PLACES, ORGANIZATIONS, CHUNKS]
