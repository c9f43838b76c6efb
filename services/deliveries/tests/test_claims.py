"""Claims on a live process: one winner under any race, nobody in two places, and every way a claim ends."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import httpx
import pytest
from chassis.kernel import ConcurrentUpdate, new_id
from chassis.testing import eventually, told
from contracts.events import deliveries as events
from contracts.events import identity
from deliveries.repository import DELIVERIES
from deliveries.usecases.saving import save

from services.deliveries.tests.builders import World
from services.deliveries.tests.test_api import said


async def test_two_hundred_volunteers_claim_and_one_wins(world: World, crowd: httpx.AsyncClient) -> None:
    """Exactly one 200; the other 199 are told that it is claimed, none of them with an error of ours."""
    delivery = await world.opened()
    volunteers = [await world.volunteer() for _ in range(200)]

    crowded = world.through(crowd)
    answers = await asyncio.gather(*(crowded.give(volunteer, delivery, "claim") for volunteer in volunteers))

    assert told(answers) == {200: 1, "invalid-transition": 199}
    assert len({answer.url.port for answer in answers}) == 2
    winner = volunteers[[answer.status_code for answer in answers].index(200)]
    shown = (await world.look(world.cook, delivery)).json()
    assert (shown["volunteer_id"], [line["planned"] for line in shown["lines"]]) == (str(winner.id), [5])
    assert await world.times(events.DeliveryClaimed, delivery) == 1
    await world.conserved(delivery)


async def test_one_volunteer_racing_for_many_gets_one(world: World) -> None:
    """Ten claims of one person at the same time, for the same hours: one is won, nine overlap."""
    volunteer, batch = await world.volunteer(), await world.batch()
    opened = [await world.opened(batch) for _ in range(10)]

    answers = await asyncio.gather(*(world.give(volunteer, delivery, "claim") for delivery in opened))

    assert sorted(said(answer) for answer in answers) == [(200, "")] + [(409, "claim-overlaps")] * 9


async def test_the_database_itself_keeps_a_volunteer_to_one_place(world: World) -> None:
    """Were the rule forgotten, the constraint would refuse the second claim of the same hours."""
    volunteer = await world.volunteer()
    await world.claimed(volunteer)
    other = await world.opened()

    with pytest.raises(asyncpg.ExclusionViolationError):
        await world.database.pool.execute(
            "UPDATE deliveries SET status = 'claimed', volunteer_id = $2, claimed_at = now(), busy_from = now(),"
            " busy_to = now() + interval '1 minute' WHERE id = $1",
            UUID(other["id"]),
            volunteer.id,
        )
    with pytest.raises(asyncpg.CheckViolationError):
        await world.database.pool.execute("UPDATE deliveries SET status = 'claimed' WHERE id = $1", UUID(other["id"]))


async def test_only_volunteers_with_room_and_time_claim(world: World) -> None:
    """No profile, a vehicle too small, goods nearly over: each is refused with its code; keys never claim."""
    heavy = await world.opened(await world.batch(unit="g"), quantity=9_000)
    late = await world.opened(await world.batch(use_by_at=datetime.now(UTC) + timedelta(minutes=31)))
    short = await world.batch(use_by_at=datetime.now(UTC) + timedelta(minutes=30, seconds=2))
    nearly = await world.planned(short)
    person, cyclist = await world.callers.person(), await world.volunteer(capacity_g=8_999, vehicle="bike")
    van = await world.volunteer(capacity_g=9_000, vehicle="van")

    assert said(await world.give(person, heavy, "claim")) == (409, "volunteer-not-active")
    assert said(await world.give(cyclist, heavy, "claim")) == (409, "vehicle-does-not-fit")
    assert said(await world.give(world.partner, heavy, "claim")) == (403, "missing-scope")
    assert said(await world.give(van, nearly, "claim")) == (404, "delivery-not-found")
    assert said(await world.give(van, heavy, "claim")) == (200, "")
    assert said(await world.give(cyclist, late, "claim")) == (200, "")


async def test_a_day_has_so_many_claims(world: World) -> None:
    """Thirteen claims at the same time, for hours that do not overlap: ten are won, three are over the day's cap."""
    volunteer = await world.volunteer()
    first = datetime.now(UTC) + timedelta(days=1)
    opened = []
    for number in range(13):
        start = first + timedelta(hours=2 * number)
        window = {"from_at": start, "to_at": start + timedelta(hours=1)}
        opened.append(await world.opened(await world.batch(use_by_at=first + timedelta(days=3), pickup_window=window)))

    answers = await asyncio.gather(*(world.give(volunteer, delivery, "claim") for delivery in opened))

    assert sorted(said(answer) for answer in answers) == [(200, "")] * 10 + [(409, "claim-cap-reached")] * 3
    assert {answer.json()["daily_cap"] for answer in answers if answer.status_code == 409} == {10}


async def test_a_claim_made_early_is_kept_or_lost(world: World) -> None:
    """More than two hours ahead it waits for `confirm`; a released one is open for others."""
    start = datetime.now(UTC) + timedelta(hours=5)
    batch = await world.batch(pickup_window={"from_at": start, "to_at": start + timedelta(hours=1)})
    volunteer, other = await world.volunteer(), await world.volunteer()

    claimed = await world.claimed(volunteer, batch)
    confirmed = await world.done(volunteer, claimed, "confirm")
    early = await world.give(world.cook, claimed, "no-show")
    released = await world.done(volunteer, claimed, "release", {"reason": "ill"})
    again = await world.done(other, claimed, "claim")

    assert claimed["confirm_by"] is not None
    assert confirmed["confirm_by"] is None
    assert said(early) == (409, "too-early")
    assert (released["status"], released["exact_points"]) == ("open", False)
    assert again["volunteer_id"] == str(other.id)
    fact = (await world.tap.saw(events.ClaimReleased, UUID(claimed["id"]))).event
    assert isinstance(fact, events.ClaimReleased)
    assert (fact.status, fact.volunteer_id, fact.previous_volunteer_id) == ("open", None, volunteer.id)


async def test_a_no_show_is_reported_and_contested(world: World) -> None:
    """The provider waited in vain: open again; the volunteer says otherwise, also when somebody else has it."""
    volunteer, other = await world.volunteer(), await world.volunteer()
    delivery = await world.claimed(volunteer)

    own = await world.give(volunteer, delivery, "no-show")
    reported = await world.done(world.cook, delivery, "no-show")
    await world.done(other, delivery, "claim")
    contested = await world.give(volunteer, delivery, "no-show/contest", {"reason": "was there"})
    twice = await world.give(volunteer, delivery, "no-show/contest", {"reason": "was there"})
    foreign = await world.give(other, delivery, "no-show/contest", {"reason": "x"})

    assert said(own) == (403, "not-your-delivery")
    assert reported["status"] == "open"
    assert (contested.status_code, contested.json()["volunteer_id"]) == (200, None)
    assert said(twice) == (404, "no-show-not-found")
    assert said(foreign) == (403, "not-your-delivery")
    fact = (await world.tap.saw(events.VolunteerNoShow, UUID(delivery["id"]))).event
    assert isinstance(fact, events.VolunteerNoShow)
    assert (fact.volunteer_id, fact.reporter_id) == (volunteer.id, world.cook.id)


async def test_a_coordinator_gives_it_to_somebody_else(world: World) -> None:
    """Reassigning takes the claim from one and gives it to another who is active and free; nobody else may."""
    volunteer, other, busy = await world.volunteer(), await world.volunteer(), await world.volunteer()
    delivery = await world.claimed(volunteer)
    await world.claimed(busy)
    code = await world.code(volunteer, delivery, "pickup")

    def to(person_id: UUID) -> dict[str, str]:
        return {"volunteer_id": str(person_id), "reason": "flat tyre"}

    refused = [await world.give(world.coordinator, delivery, "reassign", to(each)) for each in (new_id(), busy.id)]
    after = await world.done(world.coordinator, delivery, "reassign", to(other.id))
    lines = [{"line_id": line["line_id"], "picked": 5} for line in delivery["lines"]]
    old = await world.give(world.cook, delivery, "pickup", {"code": code, "lines": lines})

    assert [said(each) for each in refused] == [(409, "volunteer-not-active"), (409, "claim-overlaps")]
    assert (after["status"], after["volunteer_id"], after["confirm_by"]) == ("claimed", str(other.id), None)
    assert said(await world.look(volunteer, delivery)) == (404, "delivery-not-found")
    assert said(old) == (409, "wrong-code")


async def test_a_suspended_volunteer_carries_nothing_new(world: World) -> None:
    """What they had not picked up is open again, and they claim no more; a late profile does not lift it."""
    volunteer, carrier = await world.volunteer(), await world.volunteer()
    claimed, carried = await world.claimed(volunteer), await world.carried(carrier)

    for person in (volunteer, carrier):
        await world.bus.publish(identity.UserSuspended(user_id=person.id), subject=person.id, version=3)
    await world.becomes(claimed, "open")
    profile = identity.VolunteerProfileChanged(
        user_id=volunteer.id, vehicle="car", capacity_g=1, lat=-30, lon=-51, radius_m=100
    )
    await world.bus.publish(profile, subject=volunteer.id, version=2)
    refused = await world.give(
        world.coordinator, claimed, "reassign", {"volunteer_id": str(volunteer.id), "reason": "x"}
    )

    assert said(refused) == (409, "volunteer-not-active")
    assert await world.status(carried) == "in_transit"


async def test_a_command_that_meets_a_lock_is_decided_again(world: World) -> None:
    """While a fact is being handled under locks, a person's command on the same delivery waits, then clashes cleanly."""
    delivery = await world.claimed(await world.volunteer())
    database, delivery_id, handling = world.database, UUID(delivery["id"]), timedelta(minutes=30)

    async def release() -> None:
        async with database.command() as tx:
            claimed = await DELIVERIES.get(tx, delivery_id)
            claimed.release(reason="ill")
            save(tx, claimed, min_handling=handling, now=datetime.now(UTC))

    async with database.transaction() as tx:
        locked = await DELIVERIES.get(tx, delivery_id)
        releasing = asyncio.create_task(release())
        await eventually(lambda: database.reading().fetchval(SOMEBODY_WAITS))
        locked.cancel(reason="rain")
        save(tx, locked, min_handling=handling, now=datetime.now(UTC))

    with pytest.raises(ConcurrentUpdate):
        await releasing
    assert await world.status(delivery) == "cancelled"


SOMEBODY_WAITS = """SELECT EXISTS (
    SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"""
