"""What deliveries' facts do to batches: once each, in any order, never more than there is."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
from batches import domain, usecases
from batches.repository import BATCHES
from chassis.database import Database
from chassis.kernel import ConcurrentUpdate, new_id
from chassis.testing import Bus, Callers, Tap, eventually
from contracts.events import batches as own
from contracts.events import deliveries as events

from services.batches.tests.builders import Supply, a_batch, quantities


async def test_a_delivery_carries_goods_through_the_ledger(
    client: httpx.AsyncClient, supply: Supply, bus: Bus, tap: Tap
) -> None:
    """Planned holds, picked up leaves with the shortfall back, completed delivers; each announced once."""
    delivery_id, line_id = new_id(), new_id()
    step = {"delivery_id": delivery_id, "line_id": line_id, "planned": 10}

    await bus.publish(supply.fact(events.DeliveryPlanned, **step), subject=delivery_id)
    held = (await tap.saw(own.BatchHeld, supply.id)).event
    assert isinstance(held, own.BatchHeld)
    assert (held.hold_id, held.quantity, held.quantities.available) == (line_id, 10, 30)

    await bus.publish(supply.fact(events.PickupConfirmed, **step, picked=8), subject=delivery_id, version=2)
    await tap.saw(own.BatchPickedUp, supply.id)
    await bus.publish(
        supply.fact(events.DeliveryCompleted, **step, picked=8, delivered=8), subject=delivery_id, version=3
    )
    await tap.saw(own.BatchDelivered, supply.id)

    expected = {"total": 40, "available": 32, "held": 0, "in_transit": 0, "delivered": 8, "lost": 0}
    assert await quantities(client, supply) == expected


async def test_a_repeated_message_has_one_effect(client: httpx.AsyncClient, supply: Supply, bus: Bus, tap: Tap) -> None:
    """The same event ten times holds once; the same line under a new event id holds once too."""
    delivery_id, line_id, event_id = new_id(), new_id(), new_id()
    planned = supply.fact(events.DeliveryPlanned, delivery_id=delivery_id, line_id=line_id, planned=10)

    for _ in range(10):
        await bus.publish(planned, subject=delivery_id, event_id=event_id)
    await bus.publish(planned, subject=delivery_id)
    marker = new_id()
    await bus.publish(
        supply.fact(events.DeliveryPlanned, delivery_id=marker, line_id=new_id(), planned=1), subject=marker
    )
    await eventually(lambda: len(tap.of(own.BatchHeld, supply.id)) == 2)

    assert (await quantities(client, supply))["held"] == 11


async def test_more_than_there_is_is_rejected_with_the_reason(supply: Supply, bus: Bus, tap: Tap) -> None:
    """A hold that does not fit is answered, not dropped."""
    delivery_id = new_id()
    planned = supply.fact(events.DeliveryPlanned, delivery_id=delivery_id, line_id=new_id(), planned=41)

    await bus.publish(planned, subject=delivery_id)

    rejected = (await tap.saw(own.BatchHoldRejected, supply.id)).event
    assert isinstance(rejected, own.BatchHoldRejected)
    assert rejected.reason == "insufficient"


async def test_an_event_that_overtook_its_cause_waits(
    client: httpx.AsyncClient, supply: Supply, bus: Bus, tap: Tap
) -> None:
    """A pickup that arrives before its plan waits for it, and for what came between, and is then applied."""
    delivery_id = new_id()
    step = {"delivery_id": delivery_id, "line_id": new_id(), "planned": 10}

    await bus.publish(supply.fact(events.PickupConfirmed, **step, picked=10), subject=delivery_id, version=3)
    await bus.publish(supply.fact(events.DeliveryClaimed, **step), subject=delivery_id, version=2)
    await bus.publish(supply.fact(events.DeliveryPlanned, **step), subject=delivery_id)

    await tap.saw(own.BatchPickedUp, supply.id)
    assert (await quantities(client, supply))["in_transit"] == 10


async def test_poison_becomes_a_dead_letter_and_its_neighbours_are_handled(
    supply: Supply, bus: Bus, tap: Tap, database: Database
) -> None:
    """One unreadable message among good ones is kept with its reason; the good ones have their effect once."""
    poison = new_id()
    deliveries = [new_id() for _ in range(9)]
    for number, delivery_id in enumerate(deliveries):
        if number == 4:
            await bus.send(
                b'{"nonsense": 1}', producer="deliveries", routing_key="delivery.planned.v1", message_id=str(poison)
            )
        planned = supply.fact(events.DeliveryPlanned, delivery_id=delivery_id, line_id=new_id(), planned=1)
        await bus.publish(planned, subject=delivery_id)

    await eventually(lambda: len(tap.of(own.BatchHeld, supply.id)) == 9)
    query = "SELECT count(*) FROM dead_letters WHERE message_id = $1 AND reason = 'undecodable' AND status = 'open'"
    assert await eventually(lambda: database.reading().fetchval(query, str(poison))) == 1


async def test_concurrent_holds_never_oversell(database: Database) -> None:
    """Two hundred holds of one unit race for ten units on real connections: ten are granted, 190 rejected, the sum stays."""
    now = datetime.now(UTC)
    batch = domain.Batch.create(
        domain.BatchId(new_id()),
        organization_id=domain.OrganizationId(new_id()),
        place_id=domain.PlaceId(new_id()),
        kind=domain.Kind.AID,
        product=domain.Product(name="Cobertor", category=domain.Category.BEDDING),
        unit=domain.Unit.UNIT,
        quantity=10,
        storage=domain.Storage.AMBIENT,
        pickup_window=domain.PickupWindow(from_at=now, to_at=now + timedelta(hours=1)),
        now=now,
    )
    batch.mark_ready(now=now, min_handling=timedelta(0))
    async with database.command() as tx:
        BATCHES.save(tx, batch, now=now)

    async def hold() -> None:
        for locking in (False, True):
            try:
                async with database.transaction() if locking else database.command() as tx:
                    await usecases.hold_for_delivery(
                        tx, batch_id=batch.id, hold_id=new_id(), delivery_id=new_id(), quantity=1, now=now
                    )
            except ConcurrentUpdate:
                continue
            return

    await asyncio.gather(*(hold() for _ in range(200)))

    after = await BATCHES.as_of(database.reading(), batch.id)
    row = await BATCHES.get(database.reading(), batch.id)
    assert (after.held, after.available, after.total) == (10, 0, 10)
    assert sum(hold.state == "rejected" for hold in after.holds.values()) == 190
    assert after == row


async def test_the_goods_expire_by_themselves(
    client: httpx.AsyncClient, callers: Callers, database: Database, tap: Tap
) -> None:
    """When `use_by_at` comes, a timer ends the batch and what was available is lost."""
    organization_id = await callers.organization()
    partner = await callers.partner(organization_id)
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    body = a_batch(await callers.place(organization_id), use_by_at=soon)
    batch = (await client.post("/v1/batches", json=body, headers=partner.headers)).json()

    expired = (await tap.saw(own.BatchExpired, UUID(batch["id"]))).event

    assert isinstance(expired, own.BatchExpired)
    assert (expired.status, expired.quantities.lost, expired.quantities.available) == ("expired", 40, 0)
