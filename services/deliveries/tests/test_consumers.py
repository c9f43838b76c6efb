"""What facts of batches and identity, and due timers, do to deliveries: once each, in any order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from chassis.kernel import new_id
from chassis.testing import eventually
from contracts.events import batches, identity
from contracts.events import deliveries as events
from deliveries import usecases
from deliveries.repository import DELIVERIES
from deliveries.usecases import Policy

from services.deliveries.tests.builders import World
from services.deliveries.tests.test_api import said

POLICY = Policy(min_handling=timedelta(minutes=30), claims_per_day_max=5)


def _answer(delivery: dict[str, Any], number: int = 0) -> dict[str, Any]:
    line = delivery["lines"][number]
    return {"hold_id": line["line_id"], "delivery_id": delivery["id"], "quantity": line["planned"]}


async def test_the_last_hold_opens_once_however_often_it_is_told(world: World) -> None:
    """Two lines: the first grant ten times leaves it planned, the second opens it; repeats change nothing."""
    soup, bread = await world.batch(), await world.batch(category="bakery")
    delivery = await world.planned(soup, bread)
    soup.version += 1
    first, repeated = soup.fact(batches.BatchHeld, **_answer(delivery)), new_id()

    for _ in range(10):
        await world.bus.publish(first, subject=soup.id, version=soup.version, event_id=repeated)
    await world.bus.publish(first, subject=soup.id, version=soup.version)
    assert await world.status(delivery) == "planned"
    await world.tell(bread, batches.BatchHeld, **_answer(delivery, 1))
    await world.becomes(delivery, "open")
    await world.tell(bread, batches.BatchHeld, **_answer(delivery, 1))
    await world.opened(bread)  # what came before it in the same queue has been handled

    assert len(world.tap.of(events.DeliveryOpened, UUID(delivery["id"]))) == 1
    row = await DELIVERIES.get(world.database.reading(), UUID(delivery["id"]))
    assert row.version == 4


async def test_a_rejected_hold_cancels(world: World) -> None:
    """One line that is not to be had ends it with the reason; the other line's grant comes too late."""
    soup, bread = await world.batch(), await world.batch(category="bakery")
    delivery = await world.planned(soup, bread)

    await world.tell(soup, batches.BatchHoldRejected, **_answer(delivery), reason="insufficient")
    fact = (await world.tap.saw(events.DeliveryCancelled, UUID(delivery["id"]))).event
    await world.tell(bread, batches.BatchHeld, **_answer(delivery, 1))
    await world.opened(bread)

    assert isinstance(fact, events.DeliveryCancelled)
    assert (fact.reason, await world.status(delivery)) == ("hold-rejected: insufficient", "cancelled")


async def test_poison_becomes_a_dead_letter_and_its_neighbours_are_handled(world: World) -> None:
    """An unreadable answer and one about a delivery nobody planned are kept with their reason; the good ones count."""
    batch = await world.batch()
    good = [await world.planned(batch) for _ in range(4)]
    unknown = {"hold_id": new_id(), "delivery_id": new_id(), "quantity": 1}
    unreadable = new_id()

    for delivery in good[:2]:
        await world.tell(batch, batches.BatchHeld, **_answer(delivery))
    strange = await world.tell(batch, batches.BatchHeld, **unknown)
    await world.bus.send(b"{}", producer="batches", routing_key="batch.held.v1", message_id=str(unreadable))
    for delivery in good[2:]:
        await world.tell(batch, batches.BatchHeld, **_answer(delivery))

    for delivery in good:
        await world.becomes(delivery, "open")
    query = """SELECT EXISTS (
        SELECT FROM dead_letters WHERE message_id = $1 AND reason = $2 AND consumer = 'holds' AND status = 'open')"""
    for kept in ((str(strange), "permanent"), (str(unreadable), "undecodable")):
        await eventually(lambda kept=kept: world.database.reading().fetchval(query, *kept))


async def test_an_older_fact_of_a_batch_changes_nothing(world: World) -> None:
    """What is known of a batch is its newest version, in whatever order the facts come."""
    batch = await world.batch()
    newest = batch.fact(batches.BatchCancelled, status="cancelled", reason="x")

    await world.bus.publish(newest, subject=batch.id, version=9)
    await world.bus.publish(batch.fact(batches.BatchReady), subject=batch.id, version=2)
    marker = await world.batch()

    assert marker.id != batch.id
    reading = world.database.reading()
    assert await reading.fetchval("SELECT status FROM known_batches WHERE batch_id = $1", batch.id) == "cancelled"
    assert said(await world.client.post("/v1/deliveries", json=world.plan(batch), headers=world.cook.headers)) == (
        409,
        "batch-not-ready",
    )


async def test_a_recall_reaches_every_delivery_of_the_batch(world: World) -> None:
    """What is not picked up is cancelled; what is in transit goes to rerouting and may not be handed over or rerouted."""
    volunteer, other = await world.volunteer(), await world.volunteer()
    batch, untouched_batch = await world.batch(), await world.batch()
    carried = await world.carried(volunteer, batch)
    claimed, opened = await world.claimed(other, batch), await world.opened(batch)
    planned, untouched = await world.planned(batch), await world.opened(untouched_batch)

    for _ in range(3):
        await world.tell(batch, batches.BatchRecalled, status="recalled", severity="high", reason="listeria")
    await world.becomes(carried, "rerouting")

    for delivery in (claimed, opened, planned):
        await world.becomes(delivery, "cancelled")
    told = (await world.tap.saw(events.DropoffRefused, UUID(carried["id"]))).event
    assert isinstance(told, events.DropoffRefused)
    assert (told.reason, told.status) == ("batch-recalled", "rerouting")
    elsewhere = {"place_id": str(world.shelter)}
    assert said(await world.give(volunteer, carried, "reroute", elsewhere)) == (409, "goods-recalled")
    body = {"code": await world.code(world.cook, carried, "return"), "usable": False}
    assert (await world.done(volunteer, carried, "return", body))["status"] == "returned"
    assert await world.status(untouched) == "open"
    row = await DELIVERIES.get(world.database.reading(), UUID(carried["id"]))
    assert row == await DELIVERIES.as_of(world.database.reading(), UUID(carried["id"]))


async def test_an_expired_batch_ends_what_waits_for_it(world: World) -> None:
    """Open ones expire; carried ones go to rerouting."""
    batch = await world.batch()
    carried, opened = await world.carried(await world.volunteer(), batch), await world.opened(batch)

    await world.tell(batch, batches.BatchExpired, status="expired")

    await world.becomes(opened, "expired")
    await world.becomes(carried, "rerouting")


async def test_a_suspended_organization_has_nothing_waiting(world: World) -> None:
    """What nobody picked up is called off, whether it gives or receives; what is on the road goes on."""
    volunteer = await world.volunteer()
    carried, opened = await world.carried(volunteer), await world.opened()

    suspended = identity.OrganizationSuspended(organization_id=world.receiver_id)
    await world.bus.publish(suspended, subject=world.receiver_id, version=1_000_000)

    await world.becomes(opened, "cancelled")
    assert await world.status(carried) == "in_transit"
    body = world.plan(await world.batch())

    async def refused() -> bool:
        answer = await world.client.post("/v1/deliveries", json=body, headers=world.keeper.headers)
        return said(answer) == (409, "organization-not-verified")

    await eventually(refused)


# -- timers ------------------------------------------------------------------------------------------------------------


async def test_an_open_delivery_expires_by_itself(world: World) -> None:
    """When the goods' safe time is over a timer ends it."""
    batch = await world.batch(use_by_at=datetime.now(UTC) + timedelta(minutes=30, seconds=1))
    delivery = await world.planned(batch)
    await world.grant(delivery, [batch])

    await world.tap.saw(events.DeliveryExpired, UUID(delivery["id"]))

    assert await world.status(delivery) == "expired"


async def test_a_claim_nobody_confirms_is_released_by_itself(world: World) -> None:
    """The timer waits for the time in the delivery, fires, and finds the claim unconfirmed; early, it is set again."""
    start = datetime.now(UTC) + timedelta(hours=3)
    batch = await world.batch(pickup_window={"from_at": start, "to_at": start + timedelta(hours=1)})
    delivery = await world.claimed(await world.volunteer(), batch)
    key, delivery_id = f"{usecases.UNCONFIRMED}:{delivery['id']}", UUID(delivery["id"])
    due_at = "SELECT due_at FROM timers WHERE dedupe_key = $1"
    reading = world.database.reading()
    confirm_by = datetime.fromisoformat(delivery["confirm_by"])
    assert await reading.fetchval(due_at, key) == confirm_by == start - timedelta(hours=1)

    await world.database.pool.execute("UPDATE timers SET due_at = now() WHERE dedupe_key = $1", key)
    await eventually(lambda: _is(reading.fetchval(due_at, key), confirm_by))
    assert await world.status(delivery) == "claimed"

    async with world.database.transaction() as tx:
        await usecases.release_unconfirmed(tx, POLICY, delivery_id=delivery_id, now=confirm_by)
    assert await world.status(delivery) == "open"
    assert await reading.fetchval(due_at, key) is None
    assert await reading.fetchval(due_at, f"{usecases.EXPIRE}:{delivery['id']}") is not None


async def test_a_timer_that_comes_late_changes_nothing(world: World) -> None:
    """What was picked up in the meantime neither expires nor is released."""
    delivery = await world.carried(await world.volunteer())
    delivery_id, later = UUID(delivery["id"]), datetime.now(UTC) + timedelta(days=9)

    async with world.database.transaction() as tx:
        await usecases.expire(tx, POLICY, delivery_id=delivery_id, now=later)
    async with world.database.transaction() as tx:
        await usecases.release_unconfirmed(tx, POLICY, delivery_id=delivery_id, now=later)

    assert await world.status(delivery) == "in_transit"


async def _is(value: Any, expected: Any) -> bool:
    return bool(await value == expected)
