"""What deliveries' facts and the passing of time do to requests: once each, in any order, never beyond the need."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import Bus, Callers, Tap, eventually
from contracts.events import deliveries as events
from contracts.events import identity
from contracts.events import resources as own
from resources import usecases
from resources.repository import REQUESTS

from services.resources.tests.builders import (
    DeliveryTold,
    Steps,
    a_batch,
    a_delivery_told,
    a_line,
    a_request,
    a_side,
    in_time,
)


def arrived(request: dict[str, Any], *delivered: int, delivery_id: UUID | None = None, **changes: Any) -> Any:
    """A delivery made for the request handed over quantities of water, one line each."""
    return events.DeliveryCompleted.model_validate(
        {
            "delivery_id": delivery_id or new_id(),
            "status": "delivered",
            "provider_organization_ids": [new_id()],
            "pickup_place_id": new_id(),
            "receiving_organization_id": request["organization_id"],
            "receiving_place_id": request["place_id"],
            "request_id": request["id"],
            "lines": [
                {
                    "line_id": new_id(),
                    "batch_id": new_id(),
                    "organization_id": new_id(),
                    "category": "beverage",
                    "product_name": "Água",
                    "unit": "unit",
                    "planned": 50,
                    "picked": 50,
                    "delivered": quantity,
                }
                for quantity in delivered
            ],
            **changes,
        }
    )


async def publish(bus: Bus, *facts: Any, version: int = 1, event_id: UUID | None = None) -> None:
    """Send deliveries' facts, the first of each delivery unless told otherwise."""
    for fact in facts:
        await bus.publish(fact, subject=fact.delivery_id, version=version, event_id=event_id)


async def settled(steps: Steps, bus: Bus, tap: Tap) -> None:
    """Everything published so far has been handled: a delivery sent last has had its effect."""
    marker = await steps.opened()
    await publish(bus, arrived(marker, 1))
    await tap.saw(own.ResourceRequestDeliveryReceived, UUID(marker["id"]))


async def in_state(steps: Steps, reservation: dict[str, Any], status: str) -> bool:
    """The reservation is in this state by now."""
    shown = await steps.get(f"/v1/reservations/{reservation['id']}", steps.donor.manager)
    return bool(shown["status"] == status)


async def test_a_delivery_made_for_a_request_covers_it(steps: Steps, bus: Bus, tap: Tap) -> None:
    """What was delivered is received; the request tells what the delivery added, and ends when nothing is open."""
    request = await steps.opened()
    first = arrived(request, 3, 1)

    await publish(bus, first)
    told = await tap.saw(own.ResourceRequestDeliveryReceived, UUID(request["id"]))
    assert await steps.coverage(request) == [(10, 0, 4, 6)]
    await publish(bus, arrived(request, 6))
    fulfilled = (await tap.saw(own.ResourceRequestFulfilled, UUID(request["id"]))).event

    assert isinstance(told.event, own.ResourceRequestDeliveryReceived)
    assert (told.event.delivery_id, told.event.status) == (first.delivery_id, "open")
    assert [(line.line_id, line.quantity) for line in told.event.received_lines] == [
        (UUID(request["lines"][0]["line_id"]), 4)
    ]
    assert isinstance(fulfilled, own.ResourceRequestFulfilled)
    assert [(line.needed, line.received) for line in fulfilled.lines] == [(10, 10)]


async def test_a_repeated_delivery_counts_once(steps: Steps, bus: Bus, tap: Tap) -> None:
    """The same message ten times counts once; so does the same step under a new event id, and a step that adds nothing."""
    request, event_id = await steps.opened(), new_id()
    fact = arrived(request, 2)

    for _ in range(10):
        await publish(bus, fact, event_id=event_id)
    await publish(bus, fact)
    await publish(bus, fact, version=2)
    await settled(steps, bus, tap)

    assert await steps.coverage(request) == [(10, 0, 2, 8)]


async def test_more_than_is_needed_is_kept_as_excess(steps: Steps, bus: Bus, tap: Tap) -> None:
    """Received never passes the need, promises stay promised, and the history says what was too much."""
    request = await steps.opened(a_line(), a_line(category="dry", name="Arroz"))
    await steps.reserved(request, 4)

    await publish(bus, arrived(request, 9))
    await tap.saw(own.ResourceRequestDeliveryReceived, UUID(request["id"]))

    assert await steps.coverage(request) == [(10, 4, 6, 0), (10, 0, 0, 10)]
    path = f"/v1/resource-requests/{request['id']}/history"
    history: Any = await steps.get(path, steps.receiver.manager)
    assert history[-1]["data"]["excess"] == [{"category": "beverage", "unit": "unit", "quantity": 3, "gtin": None}]


async def test_a_promise_started_with_a_delivery_is_received_with_it(steps: Steps, bus: Bus, tap: Tap) -> None:
    """The donor's own delivery keeps the donor's promise."""
    request, delivery_id = await steps.opened(), new_id()
    reservation = await steps.reserved(request, 4)
    await steps.post(
        f"/v1/reservations/{reservation['id']}/start", {"delivery_id": str(delivery_id)}, steps.donor.manager
    )
    givers = [steps.donor.organization_id]

    await publish(bus, arrived(request, 4, delivery_id=delivery_id, provider_organization_ids=givers))
    received = (await tap.saw(own.ReservationReceived, UUID(request["id"]))).event

    assert isinstance(received, own.ReservationReceived)
    assert received.reservation_id == UUID(reservation["id"])
    assert await in_state(steps, reservation, "received")
    assert await steps.coverage(request) == [(10, 0, 4, 6)]


def a_van(steps: Steps, bus: Bus, request: dict[str, Any] | None, planned: int = 4) -> DeliveryTold:
    """A delivery of water from the donor to the receiver."""
    return a_delivery_told(bus, steps.donor, steps.receiver, request, planned, category="beverage", unit="unit")


async def promised(steps: Steps, request: dict[str, Any], quantity: int = 4) -> dict[str, Any]:
    """The donor promises what a volunteer fetches."""
    line = {"line_id": request["lines"][0]["line_id"], "quantity": quantity}
    path, body = f"/v1/resource-requests/{request['id']}/reservations", {"lines": [line], "mode": "volunteer_pickup"}
    return await steps.post(path, body, steps.donor.manager, status=201)


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ([(events.DeliveryCancelled, "cancelled")], "cancelled"),
        ([(events.DeliveryExpired, "expired")], "expired"),
        ([(events.DeliveryFailed, "failed")], "failed"),
        (
            [
                (events.PickupConfirmed, "in_transit"),
                (events.DropoffRefused, "rerouting"),
                (events.DeliveryReturned, "returned"),
            ],
            "returned",
        ),
        ([(events.PickupConfirmed, "in_transit"), (events.DeliveryDiscarded, "discarded")], "discarded"),
    ],
)
async def test_a_promise_whose_delivery_ends_is_set_free(
    steps: Steps, bus: Bus, tap: Tap, ends: list[tuple[Any, str]], status: str
) -> None:
    """It sets out when its delivery is planned; when that ends without handing over, what it covered is needed again."""
    request = await steps.opened()
    reservation = await promised(steps, request)
    van = a_van(steps, bus, request)
    await van.tell(events.DeliveryPlanned, status="planned")
    await eventually(lambda: in_state(steps, reservation, "in_delivery"))
    assert await steps.coverage(request) == [(10, 4, 0, 6)]

    for kind, then in ends:
        await van.tell(kind, status=then)

    told = (await tap.saw(own.ReservationCancelled, UUID(request["id"]))).event
    assert isinstance(told, own.ReservationCancelled)
    assert await in_state(steps, reservation, "cancelled")
    assert await steps.coverage(request) == [(10, 0, 0, 10)]
    history: Any = await steps.get(f"/v1/resource-requests/{request['id']}/history", steps.receiver.manager)
    assert history[-1]["data"]["reason"] == f"delivery-{status}"


async def test_a_part_that_is_handed_over_is_received_and_the_rest_needed_again(
    steps: Steps, bus: Bus, tap: Tap
) -> None:
    """Of four three are taken at the door; what goes back is needed again; the end tells nothing new and counts nothing."""
    request = await steps.opened()
    reservation = await promised(steps, request)
    van = a_van(steps, bus, request)
    await van.tell(events.DeliveryPlanned, status="planned")
    await van.tell(events.PickupConfirmed, status="in_transit", picked=4)

    await van.tell(events.DropoffRefused, status="rerouting", delivered=3, rejected=1)
    received = (await tap.saw(own.ReservationReceived, UUID(request["id"]))).event
    assert await steps.coverage(request) == [(10, 0, 3, 7)]
    await van.tell(events.DeliveryReturned, status="in_transit", returned=1)
    await van.tell(events.DeliveryCompleted, status="delivered")
    await settled(steps, bus, tap)

    assert isinstance(received, own.ReservationReceived)
    assert received.reservation_id == UUID(reservation["id"])
    assert await steps.coverage(request) == [(10, 0, 3, 7)]


async def test_what_is_carried_on_to_others_counts_for_nobody_here(steps: Steps, bus: Bus, tap: Tap) -> None:
    """Handed over in part, rerouted to another organization, handed over there: only the first part was for the request."""
    request = await steps.opened()
    reservation = await promised(steps, request, 8)
    van = a_van(steps, bus, request, 8)
    await van.tell(events.DeliveryPlanned, status="planned")
    await van.tell(events.PickupConfirmed, status="in_transit", picked=8)

    await van.tell(events.DeliveryRerouted, status="in_transit", receiver=new_id())
    await eventually(lambda: in_state(steps, reservation, "cancelled"))
    await van.tell(events.DeliveryCompleted, status="delivered", delivered=8)
    await settled(steps, bus, tap)

    assert await steps.coverage(request) == [(10, 0, 0, 10)]


async def test_early_steps_of_a_delivery_wait_for_the_first(steps: Steps, bus: Bus, tap: Tap) -> None:
    """The end that overtakes the beginning has its effect after it, not before."""
    request = await steps.opened()
    reservation = await promised(steps, request)
    van = a_van(steps, bus, request)
    van.version = 1
    await van.tell(events.DeliveryCancelled, status="cancelled")
    await settled(steps, bus, tap)
    assert await in_state(steps, reservation, "reserved")

    van.version = 0
    await van.tell(events.DeliveryPlanned, status="planned")

    await tap.saw(own.ReservationCancelled, UUID(request["id"]))
    kinds = [type(r.event) for r in tap.received if r.envelope.subject == UUID(request["id"])]
    assert kinds[-2:] == [own.ReservationStarted, own.ReservationCancelled]


async def test_a_promise_may_set_out_with_a_delivery_made_for_no_request(steps: Steps, bus: Bus, tap: Tap) -> None:
    """The donor names the delivery: what it hands over keeps the promise; when it ends without, the promise is free."""
    kept, lost = await steps.opened(), await steps.opened()
    first, second = await steps.reserved(kept, 4), await steps.reserved(lost, 4)
    brings, fails = a_van(steps, bus, None), a_van(steps, bus, None)
    for reservation, van in ((first, brings), (second, fails)):
        body = {"delivery_id": str(van.id)}
        await steps.post(f"/v1/reservations/{reservation['id']}/start", body, steps.donor.manager)
        await van.tell(events.DeliveryPlanned, status="planned")

    await brings.tell(events.DeliveryCompleted, status="delivered", delivered=4)
    await fails.tell(events.DeliveryFailed, status="failed")

    await tap.saw(own.ReservationReceived, UUID(kept["id"]))
    await tap.saw(own.ReservationCancelled, UUID(lost["id"]))
    assert (await steps.coverage(kept), await steps.coverage(lost)) == ([(10, 0, 4, 6)], [(10, 0, 0, 10)])


async def test_a_promise_sets_out_only_with_a_delivery_that_brings_it(
    steps: Steps, bus: Bus, callers: Callers, database: Database
) -> None:
    """Not with one that is over, goes elsewhere, was made for another request, or carries others' goods."""
    request, other = await steps.opened(), await steps.opened()
    reservation = await steps.reserved(request, 4)
    stranger = await a_side(callers, "donor", "receiver")
    over, elsewhere, for_another, of_others = (
        a_van(steps, bus, None),
        a_delivery_told(bus, steps.donor, stranger, None, 4),
        a_van(steps, bus, other),
        a_delivery_told(bus, stranger, steps.receiver, None, 4),
    )
    for van in (over, elsewhere, for_another, of_others):
        await van.tell(events.DeliveryPlanned, status="planned")
    await over.tell(events.DeliveryCancelled, status="cancelled")
    known = "SELECT count(*) FROM known_deliveries WHERE delivery_id = ANY($1::uuid[])"
    ids = [van.id for van in (over, elsewhere, for_another, of_others)]
    await eventually(lambda: database.reading().fetchval(f"{known} HAVING count(*) = 4", ids))
    await eventually(lambda: database.reading().fetchval(f"{known} AND status = 'cancelled'", ids))

    answers = [
        await steps.client.post(
            f"/v1/reservations/{reservation['id']}/start",
            json={"delivery_id": str(delivery_id)},
            headers=steps.donor.manager.headers,
        )
        for delivery_id in ids
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (409, "delivery-over"),
        (409, "delivery-elsewhere"),
        (409, "delivery-elsewhere"),
        (404, "delivery-not-found"),
    ]
    assert await steps.coverage(request) == [(10, 4, 0, 6)]


async def test_a_promise_with_a_delivery_nobody_heard_of_expires(steps: Steps, database: Database) -> None:
    """After 48 hours it is free again, though it was started."""
    request = await steps.opened()
    reservation = await steps.reserved(request, 4)
    body = {"delivery_id": str(new_id())}
    await steps.post(f"/v1/reservations/{reservation['id']}/start", body, steps.donor.manager)

    async with database.transaction() as tx:
        await usecases.expire_reservation(
            tx,
            request_id=UUID(request["id"]),
            reservation_id=UUID(reservation["id"]),
            now=datetime.now(UTC) + timedelta(hours=49),
        )

    assert await in_state(steps, reservation, "expired")
    assert await steps.coverage(request) == [(10, 0, 0, 10)]


async def test_a_product_is_told_by_its_batch(steps: Steps, bus: Bus, tap: Tap) -> None:
    """A delivery's line names a batch; a request that asks for a product waits until that batch is heard of."""
    milk = "7891000100103"
    request = await steps.opened(a_line(category=None, gtin=milk))
    van = a_van(steps, bus, request, 3)
    await van.tell(events.DeliveryCompleted, status="delivered", delivered=3)
    await settled(steps, bus, tap)
    assert await steps.coverage(request) == [(10, 0, 0, 10)]

    await a_batch(bus, steps.donor, batch_id=van.facts["lines"][0]["batch_id"], category="beverage", gtin=milk)

    await tap.saw(own.ResourceRequestDeliveryReceived, UUID(request["id"]))
    assert await steps.coverage(request) == [(10, 0, 3, 7)]


async def test_a_closed_organization_asks_for_nothing(steps: Steps, bus: Bus, callers: Callers) -> None:
    """Its open requests are cancelled and its promises called off; one that is verified again meanwhile is left alone."""
    leaver = await a_side(callers, "receiver", "donor")
    asked = await steps.post("/v1/resource-requests", a_request(leaver.place_id), leaver.manager, status=201)
    request = await steps.opened()
    line = {"line_id": request["lines"][0]["line_id"], "quantity": 4}
    path, body = f"/v1/resource-requests/{request['id']}/reservations", {"lines": [line], "mode": "partner"}
    await steps.post(path, body, leaver.manager, status=201)

    fact = identity.OrganizationClosed(organization_id=leaver.organization_id)
    await callers.know(fact)
    await bus.publish(fact, subject=leaver.organization_id, version=1)

    async def gone() -> bool:
        shown = await steps.get(f"/v1/resource-requests/{asked['id']}", leaver.manager)
        return bool(shown["status"] == "cancelled") and await steps.coverage(request) == [(10, 0, 0, 10)]

    await eventually(gone)


async def test_suspension_that_was_lifted_calls_nothing_off(steps: Steps, database: Database) -> None:
    """The timer looks at how the organization stands now."""
    request = await steps.opened()
    await steps.reserved(request, 4)

    async with database.transaction() as tx:
        await usecases.call_off_organization(tx, organization_id=steps.donor.organization_id, now=datetime.now(UTC))

    assert await steps.coverage(request) == [(10, 4, 0, 6)]


async def test_a_late_delivery_counts_and_the_end_stays_the_end(steps: Steps, bus: Bus, tap: Tap) -> None:
    """A delivery that arrives after the request was closed is received; the request stays closed."""
    request = await steps.opened()
    await steps.post(f"/v1/resource-requests/{request['id']}/close", {}, steps.receiver.manager)

    await publish(bus, arrived(request, 10))
    told = (await tap.saw(own.ResourceRequestDeliveryReceived, UUID(request["id"]))).event

    assert isinstance(told, own.ResourceRequestDeliveryReceived)
    assert told.status == "closed"
    assert await steps.coverage(request) == [(10, 0, 10, 0)]


async def test_deliveries_of_no_request_of_the_receiver_mean_nothing(
    steps: Steps, bus: Bus, tap: Tap, database: Database
) -> None:
    """No request, one nobody opened, one of another organization, or nothing handed over: no effect, no dead letter."""
    request = await steps.opened()

    await publish(
        bus,
        arrived(request, 5, request_id=None),
        arrived(request, 5, request_id=new_id()),
        arrived(request, 5, receiving_organization_id=new_id()),
        arrived(request, 0),
    )
    await settled(steps, bus, tap)

    assert await steps.coverage(request) == [(10, 0, 0, 10)]
    assert (await steps.get(f"/v1/resource-requests/{request['id']}", steps.receiver.partner))["version"] == 1
    assert await database.reading().fetchval("SELECT count(*) FROM dead_letters WHERE reason = 'permanent'") == 0


async def test_poison_becomes_a_dead_letter_and_its_neighbours_are_handled(
    steps: Steps, bus: Bus, tap: Tap, database: Database
) -> None:
    """One unreadable message among good ones is kept with its reason; the good ones count once."""
    request, poison = await steps.opened(), new_id()

    for number in range(9):
        if number == 4:
            key = events.DeliveryCompleted.routing_key()
            await bus.send(b'{"nonsense": 1}', producer="deliveries", routing_key=key, message_id=str(poison))
        await publish(bus, arrived(request, 1))

    await eventually(lambda: len(tap.of(own.ResourceRequestDeliveryReceived, UUID(request["id"]))) == 9)
    assert await steps.coverage(request) == [(10, 0, 9, 1)]
    query = "SELECT count(*) FROM dead_letters WHERE message_id = $1 AND reason = 'undecodable' AND status = 'open'"
    assert await eventually(lambda: database.reading().fetchval(query, str(poison))) == 1


async def test_deliveries_and_promises_race_without_exceeding_the_need(steps: Steps, bus: Bus, tap: Tap) -> None:
    """While deliveries arrive and donors promise at once, every unit is counted once and nothing fails."""
    request = await steps.opened(a_line(needed=20))
    path = f"/v1/resource-requests/{request['id']}/reservations"
    body = {"lines": [{"line_id": request["lines"][0]["line_id"], "quantity": 1}], "mode": "partner"}

    answers, *_ = await asyncio.gather(
        asyncio.gather(*(steps.client.post(path, json=body, headers=steps.donor.manager.headers) for _ in range(15))),
        publish(bus, *(arrived(request, 1) for _ in range(15))),
    )
    await eventually(lambda: len(tap.of(own.ResourceRequestDeliveryReceived, UUID(request["id"]))) == 15)

    made = sum(answer.status_code == 201 for answer in answers)
    assert {answer.status_code for answer in answers} <= {201, 409}
    ((needed, reserved, received, still_open),) = await steps.coverage(request)
    assert (needed, reserved) == (20, made)
    assert reserved + received + still_open == needed
    assert received == min(
        15, sum(e.event.received_lines != [] for e in tap.of(own.ResourceRequestDeliveryReceived, UUID(request["id"])))
    )  # type: ignore[attr-defined]


async def test_everything_is_told_as_it_is_afterwards(steps: Steps, tap: Tap) -> None:
    """Each fact carries the whole request, belongs to the requester and names the donor as a party."""
    request = await steps.opened(a_line(), a_line(category=None, gtin="7891000100103", needed=3))
    reservation = await steps.started(request, 4)
    await steps.post(f"/v1/reservations/{reservation['id']}/receive", {}, steps.receiver.manager)
    second = await steps.reserved(request, 1)
    await steps.post(f"/v1/resource-requests/{request['id']}/change", {"urgency": "emergency"}, steps.receiver.manager)
    await steps.post(f"/v1/resource-requests/{request['id']}/cancel", {"reason": "test"}, steps.receiver.manager)

    subject = UUID(request["id"])
    await eventually(lambda: len([r for r in tap.received if r.envelope.subject == subject]) == 8)
    facts = [r for r in tap.received if r.envelope.subject == subject]
    assert [type(r.event) for r in facts] == [
        own.ResourceRequestOpened,
        own.ReservationMade,
        own.ReservationStarted,
        own.ReservationReceived,
        own.ReservationMade,
        own.ResourceRequestChanged,
        own.ResourceRequestCancelled,
        own.ReservationCancelled,
    ]
    assert [r.envelope.aggregateversion for r in facts] == [1, 2, 3, 4, 5, 6, 7, 8]
    requester, donor = steps.receiver.organization_id, steps.donor.organization_id
    assert {r.envelope.organizationid for r in facts} == {requester}
    parties = [r.envelope.party_ids for r in facts]
    assert parties == [[requester], *[[requester, donor]] * 5, [requester], [requester, donor]]
    made, changed, last = facts[1].event, facts[5].event, facts[-1].event
    assert isinstance(made, own.ReservationMade)
    assert isinstance(changed, own.ResourceRequestChanged)
    assert isinstance(last, own.ReservationCancelled)
    assert [(line.needed, line.reserved, line.received) for line in made.lines] == [(10, 4, 0), (3, 0, 0)]
    assert (made.lines[1].category, made.lines[1].gtin) == ("other", "7891000100103")
    assert (made.donor_organization_id, made.mode, made.reserved_lines[0].quantity) == (donor, "donor_delivers", 4)
    assert (changed.urgency, changed.lines[0].received) == ("emergency", 4)
    assert (last.reservation_id, last.status, last.lines[0].reserved) == (UUID(second["id"]), "cancelled", 0)


async def test_a_request_expires_by_itself(steps: Steps, tap: Tap) -> None:
    """When `needed_by_at` comes, a timer ends the request and what is not on its way."""
    request = await steps.opened(needed_by_at=in_time(seconds=2))
    reservation = await steps.reserved(request, 4)

    told = await tap.saw(own.ResourceRequestExpired, UUID(request["id"]))
    expired, opened = told.event, await tap.saw(own.ResourceRequestOpened, UUID(request["id"]))

    assert isinstance(expired, own.ResourceRequestExpired)
    assert told.envelope.correlationid == opened.envelope.correlationid
    assert (expired.status, expired.lines[0].reserved) == ("expired", 0)
    await eventually(lambda: in_state(steps, reservation, "cancelled"))


async def test_a_request_that_is_needed_longer_expires_later(steps: Steps, database: Database) -> None:
    """The timer of the former time fires and does nothing; that of the present one ends the request."""
    request = await steps.opened(needed_by_at=in_time(seconds=1))
    path = f"/v1/resource-requests/{request['id']}"
    later = datetime.now(UTC) + timedelta(days=2)
    await steps.post(f"{path}/change", {"needed_by_at": later.isoformat()}, steps.receiver.manager)

    async def due() -> list[datetime]:
        query = "SELECT due_at FROM timers WHERE dedupe_key LIKE $1 ORDER BY due_at"
        key = f"{usecases.EXPIRE_REQUEST}:{request['id']}:%"
        return [row["due_at"] for row in await database.reading().fetch(query, key)]

    async def only_the_later_is_left() -> bool:
        return await due() == [later]

    assert len(await due()) == 2
    await eventually(only_the_later_is_left)
    assert (await steps.get(path, steps.receiver.manager))["status"] == "open"
    async with database.transaction() as tx:
        await usecases.expire_request(tx, request_id=UUID(request["id"]), now=later)
    assert (await steps.get(path, steps.receiver.manager))["status"] == "expired"


async def test_a_promise_expires_after_48_hours(steps: Steps, database: Database, tap: Tap) -> None:
    """A timer waits for the 48th hour, again when it fires early; then what was promised is open again."""
    request = await steps.opened()
    reservation = await steps.reserved(request, 4)
    key = f"{usecases.EXPIRE_RESERVATION}:{reservation['id']}"
    due_at = await database.reading().fetchval("SELECT due_at FROM timers WHERE dedupe_key = $1", key)
    assert due_at == datetime.fromisoformat(reservation["reserved_at"]) + timedelta(hours=48)

    async with database.command() as tx:  # an early timer changes nothing
        tx.write("UPDATE timers SET due_at = now() WHERE dedupe_key = $1", key)
    again = "SELECT due_at = $2 FROM timers WHERE dedupe_key = $1"
    await eventually(lambda: database.reading().fetchval(again, key, due_at))
    assert await steps.coverage(request) == [(10, 4, 0, 6)]
    async with database.transaction() as tx:
        await usecases.expire_reservation(
            tx, request_id=UUID(request["id"]), reservation_id=UUID(reservation["id"]), now=due_at
        )

    expired = (await tap.saw(own.ReservationExpired, UUID(request["id"]))).event
    assert isinstance(expired, own.ReservationExpired)
    assert await steps.coverage(request) == [(10, 0, 0, 10)]
    assert await in_state(steps, reservation, "expired")


@pytest.mark.parametrize("how", ["started", "cancelled"])
async def test_a_timer_leaves_alone_what_went_on(steps: Steps, database: Database, how: str) -> None:
    """A promise that is on its way or taken back does not expire."""
    request = await steps.opened()
    reservation = await steps.reserved(request, 4)
    command = {"started": "start", "cancelled": "cancel"}[how]
    body = {} if how == "started" else {"reason": "test"}
    before = await steps.post(f"/v1/reservations/{reservation['id']}/{command}", body, steps.donor.manager)

    async with database.transaction() as tx:
        await usecases.expire_reservation(
            tx,
            request_id=UUID(request["id"]),
            reservation_id=UUID(reservation["id"]),
            now=datetime.now(UTC) + timedelta(days=3),
        )

    assert await steps.get(f"/v1/reservations/{reservation['id']}", steps.donor.manager) == before


async def test_rows_agree_with_the_facts(steps: Steps, bus: Bus, tap: Tap, database: Database) -> None:
    """After everything that can happen, state, line rows and reservation rows are what the events fold to."""
    request = await steps.opened(a_line(), a_line(category="dry", name="Arroz", unit="g", needed=5000))
    await steps.reserved(request, 2, 500)
    moving = await steps.started(request, 3)
    await steps.post(f"/v1/reservations/{moving['id']}/receive", {}, steps.receiver.manager)
    lines = [a_line(line_id=each["line_id"], **_said(each)) for each in reversed(request["lines"])]
    await steps.post(f"/v1/resource-requests/{request['id']}/change", {"lines": lines}, steps.receiver.manager)
    await publish(bus, arrived(request, 1))
    await tap.saw(own.ResourceRequestDeliveryReceived, UUID(request["id"]))

    reading, request_id = database.reading(), UUID(request["id"])
    folded = await REQUESTS.as_of(reading, request_id)
    stored = await reading.fetch("SELECT * FROM request_lines WHERE request_id = $1 ORDER BY position", request_id)
    promised = await reading.fetch("SELECT * FROM reservations WHERE request_id = $1 ORDER BY id", request_id)

    assert folded == await REQUESTS.get(reading, request_id)
    assert [(row["line_id"], row["reserved"], row["received"]) for row in stored] == [
        (line.line_id, line.reserved, line.received) for line in folded.lines.values()
    ]
    assert [(row["id"], row["status"]) for row in promised] == [
        (key, each.state.value) for key, each in sorted(folded.reservations.items())
    ]


def _said(line: dict[str, Any]) -> dict[str, Any]:
    return {name: line[name] for name in ("category", "name", "unit", "needed")}
