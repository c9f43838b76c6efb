"""Offers of an open delivery on a live process: ring by ring, to who is free and near, with the reasons, until it is claimed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from chassis.database import Database
from chassis.kernel import Conflict, new_id
from chassis.testing import LiveService, eventually
from chassis.testing.callers import Caller
from contracts.events import batches, identity
from contracts.events import deliveries as events
from deliveries import usecases
from deliveries.domain import Status, UserId
from deliveries.domain.follow_ups import follow_up_id
from deliveries.repository import DELIVERIES
from deliveries.repository import offers as repository
from deliveries.repository.follow_ups import FOLLOW_UPS
from deliveries.usecases import Following
from deliveries.usecases.offering import OFFERS
from deliveries.usecases.saving import save
from deliveries.usecases.stages import MANAGERS

from services.deliveries.tests.builders import PICKUP_POINT, World
from services.deliveries.tests.followups import (
    AFTER_KILL_S,
    begun,
    ended,
    let_pass,
    look_again,
    run_of,
    steps,
    volunteer_at,
)
from services.deliveries.tests.test_api import said


async def _lonely(world: World, *, lat: float) -> None:
    """The kitchen stands where no other test has volunteers."""
    world.kitchen = await world.callers.place(world.provider_id, lat=lat, lon=PICKUP_POINT[1])


async def _offers(world: World, delivery: dict[str, Any]) -> list[dict[str, Any]]:
    url = f"/v1/deliveries/{delivery['id']}/offers?limit=200"
    answer = await world.client.get(url, headers=world.coordinator.headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def _asked(world: World, delivery: dict[str, Any], *, status: str = "offered") -> set[str]:
    return {offer["volunteer_id"] for offer in await _offers(world, delivery) if offer["status"] == status}


async def _told(world: World, delivery: dict[str, Any], kind: type[events._FollowUpEvent]) -> list[Any]:
    """What was said of one kind; a killed relay sends again what it had sent, under the same id."""
    received = world.tap.of(kind, follow_up_id(UUID(delivery["id"])))
    return list({one.envelope.id: one.event for one in received}.values())


def ids(*callers: Caller) -> set[str]:
    return {str(caller.id) for caller in callers}


async def test_offers_go_from_ring_to_ring_until_those_who_can_help_are_told(
    world: World, following: Following
) -> None:
    """5 km, then 10, then 20, each after a pause; nobody is asked twice; then coordinators hear that nobody came."""
    await _lonely(world, lat=-20.0)
    lat = (-20.0, PICKUP_POINT[1])
    near, farther, far = [await volunteer_at(world, metres, from_point=lat) for metres in (4_900, 9_900, 19_900)]
    await volunteer_at(world, 20_100, from_point=lat)

    delivery = await world.opened()
    first = await begun(world, "offers", delivery)
    assert await _asked(world, delivery) == ids(near)
    assert first["deadline"] - first["started_at"] == following.reach.pause
    await let_pass(world, "offers", delivery, following.reach.pause)
    await eventually(lambda: _is(_asked(world, delivery), ids(near, farther)))
    await let_pass(world, "offers", delivery, following.reach.pause)
    await eventually(lambda: _is(_asked(world, delivery), ids(near, farther, far)))
    await let_pass(world, "offers", delivery, following.reach.pause)
    last = await ended(world, "offers", delivery, "unclaimed")

    assert steps(last) == ["ring-1", "ring-2", "ring-3", "unclaimed"]
    await world.tap.saw(events.DeliveryUnclaimed, follow_up_id(UUID(delivery["id"])))
    told = await _told(world, delivery, events.DeliveryOffered)
    assert [(one.ring, one.radius_m, set(map(str, one.volunteer_ids))) for one in told] == [
        (1, 5_000, ids(near)), (2, 10_000, ids(farther)), (3, 20_000, ids(far)),
    ]  # fmt: skip
    assert [one.offered for one in await _told(world, delivery, events.DeliveryUnclaimed)] == [3]
    reading, stream = world.database.reading(), follow_up_id(UUID(delivery["id"]))
    assert await FOLLOW_UPS.get(reading, stream) == await FOLLOW_UPS.as_of(reading, stream)
    envelope = world.tap.of(events.DeliveryOffered, stream)[0].envelope
    assert (envelope.organizationid, envelope.party_ids) == (None, [])


async def test_only_who_is_free_and_fits_is_asked_and_the_reasons_are_kept(world: World) -> None:
    """Not who lives out of their own radius, drives too little, carries something then, is at the cap, or is suspended."""
    await _lonely(world, lat=-21.0)
    here = (-21.0, PICKUP_POINT[1])
    good = await volunteer_at(world, 3_000, from_point=here, capacity_g=9_000, vehicle="bike")
    await volunteer_at(world, 3_000, from_point=here, radius_m=2_000)
    await volunteer_at(world, 1_000, from_point=here, capacity_g=8_999)
    busy, tired, suspended = [await volunteer_at(world, 1_000, from_point=here) for _ in range(3)]
    await world.claimed(busy, await world.batch())
    await world.bus.publish(identity.UserSuspended(user_id=suspended.id), subject=suspended.id, version=9)
    gone = "SELECT suspended FROM volunteers WHERE user_id = $1"
    await eventually(lambda: world.database.reading().fetchval(gone, suspended.id))

    batch = await world.batch(unit="g")
    async with _claimed_today(world.database, tired, 10):
        delivery = await world.opened(batch, quantity=9_000)
        await begun(world, "offers", delivery)

    offers = await _offers(world, delivery)
    assert [(offer["volunteer_id"], offer["ring"], offer["status"]) for offer in offers] == [
        (str(good.id), 1, "offered")
    ]
    assert offers[0]["reasons"] | {"distance_m": 0} == {
        "distance_m": 0, "vehicle": "bike", "capacity_g": 9_000, "weight_g": 9_000, "claims_today": 0,
    }  # fmt: skip
    assert abs(offers[0]["reasons"]["distance_m"] - 3_000) < 10


async def test_a_ring_asks_so_many_and_those_with_the_least_to_do_first(world: World, following: Following) -> None:
    """Of thirty near people twenty are asked; the one who carried something today is not among them though nearest."""
    await _lonely(world, lat=-22.0)
    here = (-22.0, PICKUP_POINT[1])
    worked = await volunteer_at(world, 10, from_point=here)
    people = [await volunteer_at(world, 100 + number, from_point=here) for number in range(30)]

    async with _claimed_today(world.database, worked, 1):
        delivery = await world.opened()
        await begun(world, "offers", delivery)

    assert await _asked(world, delivery) == ids(*people[:20])
    assert following.reach.per_ring_max == 20


async def test_a_claim_ends_the_offers_and_a_release_begins_them_anew(world: World, following: Following) -> None:
    """Taken by one, withdrawn from the others; once released everybody but the one who gave it back is asked again."""
    await _lonely(world, lat=-23.0)
    here = (-23.0, PICKUP_POINT[1])
    winner, other = [await volunteer_at(world, metres, from_point=here) for metres in (1_000, 2_000)]
    delivery = await world.opened()
    await begun(world, "offers", delivery)

    await world.done(winner, delivery, "claim")
    await ended(world, "offers", delivery, "claimed")
    assert await _asked(world, delivery, status="taken") == ids(winner)
    assert await _asked(world, delivery, status="withdrawn") == ids(other)
    await world.done(winner, delivery, "release", {"reason": "flat tyre"})
    again = await begun(world, "offers", delivery, run=5)

    assert (again["run"], again["status"]) == (5, "running")
    assert await _asked(world, delivery) == ids(other)
    mine = await world.client.get("/v1/offers?mine=true", headers=other.headers)
    shown = [(offer["status"], offer["delivery"]["status"]) for offer in mine.json()["items"]]
    assert shown == [("offered", "open"), ("withdrawn", "open")]
    reading = world.database.reading()
    timers = "SELECT count(*) FROM timers WHERE dedupe_key = $1"
    assert await reading.fetchval(timers, f"process:offers:{delivery['id']}") == 1
    await world.done(world.cook, delivery, "cancel", {"reason": "rain"})
    await ended(world, "offers", delivery, "cancelled")
    assert await _asked(world, delivery) == set()
    assert await reading.fetchval(timers, f"process:offers:{delivery['id']}") == 0


async def test_where_nobody_lives_there_is_a_pause_before_the_alarm(world: World, following: Following) -> None:
    """Nobody within any ring: looked for once, then those who can help are told that nobody was asked."""
    await _lonely(world, lat=-24.0)
    delivery = await world.opened()
    first = await begun(world, "offers", delivery)
    assert steps(first) == ["ring-1", "ring-2", "ring-3", "nobody"]
    assert await _told(world, delivery, events.DeliveryUnclaimed) == []

    await let_pass(world, "offers", delivery, following.reach.pause)
    await ended(world, "offers", delivery, "unclaimed")

    fact = (await world.tap.saw(events.DeliveryUnclaimed, follow_up_id(UUID(delivery["id"])))).event
    assert isinstance(fact, events.DeliveryUnclaimed)
    assert (fact.offered, fact.goods[0].quantity, fact.provider_organization_ids) == (0, 5, [world.provider_id])


async def test_after_the_pickup_window_nobody_is_sent_on_the_way(world: World) -> None:
    """A delivery that is open again when its window is over is for people to decide about."""
    await _lonely(world, lat=-24.5)
    await volunteer_at(world, 100, from_point=(-24.5, PICKUP_POINT[1]))
    now = datetime.now(UTC)
    past = {"from_at": now - timedelta(hours=3), "to_at": now - timedelta(hours=1)}

    delivery = await world.opened(await world.batch(pickup_window=past))
    row = await ended(world, "offers", delivery, "unclaimed")

    assert steps(row) == ["unclaimed"]
    assert await _offers(world, delivery) == []


# -- late, twice, broken off -------------------------------------------------------------------------------------------


async def test_events_heard_again_and_late_begin_nothing(world: World, following: Following) -> None:
    """The opening told ten times is one opening; told after the claim it is none; a timer after the claim ends it."""
    await _lonely(world, lat=-25.0)
    near = await volunteer_at(world, 100, from_point=(-25.0, PICKUP_POINT[1]))
    delivery = await world.opened()
    opened = await world.tap.saw(events.DeliveryOpened, UUID(delivery["id"]))
    await begun(world, "offers", delivery)

    for event_id in [opened.envelope.id] * 5 + [new_id() for _ in range(5)]:
        await world.bus.publish(
            opened.event, subject=opened.envelope.subject, version=opened.envelope.aggregateversion, event_id=event_id
        )
    await world.done(near, delivery, "claim")
    await ended(world, "offers", delivery, "claimed")
    late = opened.envelope.aggregateversion + 100
    async with world.database.transaction() as tx:
        await usecases.entered(
            tx, following, delivery_id=UUID(delivery["id"]), stage=Status.OPEN, version=late, now=datetime.now(UTC)
        )
    await look_again(world, OFFERS, delivery, following, at=datetime.now(UTC) + timedelta(days=1))

    assert len(await _told(world, delivery, events.DeliveryOffered)) == 1
    assert len(await _offers(world, delivery)) == 1
    assert await world.status(delivery) == "claimed"
    row = await run_of(world.database, "offers", delivery)
    assert row is not None
    assert (row["run"], row["status"]) == (opened.envelope.aggregateversion, "done")


async def test_a_timer_that_finds_it_claimed_asks_nobody(world: World, live: LiveService, following: Following) -> None:
    """Whoever claimed between the deadline and the look is not joined by a second ring."""
    await _lonely(world, lat=-25.5)
    here, now = (-25.5, PICKUP_POINT[1]), datetime.now(UTC)
    near, far = [await volunteer_at(world, metres, from_point=here) for metres in (100, 8_000)]
    delivery = await world.opened()
    await begun(world, "offers", delivery)
    live.kill()  # so that the claim is committed and not heard of

    async with world.database.transaction() as tx:
        found = await DELIVERIES.get(tx, UUID(delivery["id"]))
        found.reassign(UserId(near.id), reason="agreed by telephone", now=now)
        save(tx, found, min_handling=following.policy.min_handling, now=now)
    await look_again(world, OFFERS, delivery, following, at=now + following.reach.pause)
    row = await run_of(world.database, "offers", delivery)
    await live.start_soon()

    assert row is not None
    assert (row["status"], row["outcome"], steps(row)) == ("done", "claimed", ["ring-1"])
    assert str(far.id) not in {offer["volunteer_id"] for offer in await _offers(world, delivery)}


async def test_a_crash_between_the_steps_asks_everybody_once(
    world: World, live: LiveService, following: Following
) -> None:
    """Killed when the delivery has opened, and again when the second ring is due: each ring is asked once, none is lost."""
    await _lonely(world, lat=-26.0)
    here = (-26.0, PICKUP_POINT[1])
    near, far = [await volunteer_at(world, metres, from_point=here) for metres in (1_000, 9_000)]
    batch = await world.batch()
    delivery = await world.planned(batch)
    line = delivery["lines"][0]
    await world.tell(
        batch, batches.BatchHeld, hold_id=line["line_id"], delivery_id=delivery["id"], quantity=line["planned"]
    )
    await world.becomes(delivery, "open")
    live.kill()
    await live.start_soon()
    await begun(world, "offers", delivery, timeout_s=AFTER_KILL_S)

    live.kill()
    await let_pass(world, "offers", delivery, following.reach.pause * 2)
    await live.start_soon()
    await eventually(lambda: _is(_asked(world, delivery), ids(near, far)), timeout_s=AFTER_KILL_S)

    await eventually(lambda: _count(world, delivery, 2), timeout_s=AFTER_KILL_S)
    told = await _told(world, delivery, events.DeliveryOffered)
    assert [one.ring for one in told] == [1, 2]


async def test_a_refused_step_withdraws_what_was_offered(
    world: World, following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a rule says no the ring is not asked, the offers made before end, and the process says why; the delivery stays."""
    await _lonely(world, lat=-27.0)
    here = (-27.0, PICKUP_POINT[1])
    near, far = [await volunteer_at(world, metres, from_point=here) for metres in (1_000, 9_000)]
    delivery = await world.opened()
    await begun(world, "offers", delivery)

    class Forbids(Conflict):
        slug = "forbids"

    def refuse(*_: Any, **__: Any) -> None:
        raise Forbids

    monkeypatch.setattr(repository, "offer", refuse)
    await look_again(world, OFFERS, delivery, following, at=datetime.now(UTC))

    row = await run_of(world.database, "offers", delivery)
    assert row is not None
    assert (row["status"], row["outcome"], steps(row)) == ("compensated", "forbids", ["ring-1"])
    assert await _asked(world, delivery, status="withdrawn") == ids(near)
    assert str(far.id) not in {offer["volunteer_id"] for offer in await _offers(world, delivery)}
    assert await world.status(delivery) == "open"


# -- who sees them, and how they are found -----------------------------------------------------------------------------


async def test_offers_are_for_those_who_made_and_those_who_got_them(world: World) -> None:
    """Planner and coordinators see whom and why; other parties are told so, strangers nothing; volunteers their own."""
    await _lonely(world, lat=-28.0)
    near = await volunteer_at(world, 100, from_point=(-28.0, PICKUP_POINT[1]))
    planned, delivery = await world.planned(), await world.opened()
    await begun(world, "offers", delivery)

    async def ask(caller: Caller, which: dict[str, Any] = delivery) -> tuple[int, str]:
        return said(await world.client.get(f"/v1/deliveries/{which['id']}/offers", headers=caller.headers))

    assert await ask(world.cook) == await ask(world.coordinator) == (200, "")
    assert await ask(world.keeper) == await ask(near) == await ask(world.stranger) == (403, "not-your-delivery")
    assert await ask(world.stranger, planned) == (404, "delivery-not-found")
    assert await ask(world.coordinator, {"id": new_id()}) == (404, "delivery-not-found")
    mine = await world.client.get("/v1/offers", headers=near.headers)
    assert [offer["delivery_id"] for offer in mine.json()["items"]] == [delivery["id"]]
    seen = mine.json()["items"][0]["delivery"]
    assert (seen["pickup_place_id"], seen["exact_points"]) == (None, False)
    assert (await world.client.get("/v1/offers", headers=world.stranger.headers)).json()["items"] == []
    assert said(await world.client.get("/v1/offers", headers=world.partner.headers)) == (403, "missing-scope")
    assert said(await world.client.get("/v1/offers?mine=false", headers=near.headers)) == (422, "invalid-input")
    taken = await world.client.get("/v1/offers?status=taken", headers=near.headers)
    assert taken.json()["items"] == []


async def test_what_somebody_else_has_by_now_is_shown_without_its_delivery(world: World) -> None:
    """The offer stays in the list, as withdrawn; the delivery is none of their business any more."""
    await _lonely(world, lat=-28.5)
    here = (-28.5, PICKUP_POINT[1])
    winner, other = [await volunteer_at(world, metres, from_point=here) for metres in (100, 200)]
    delivery = await world.opened()
    await begun(world, "offers", delivery)
    await world.done(winner, delivery, "claim")
    await ended(world, "offers", delivery, "claimed")

    page = await world.client.get("/v1/offers?status=withdrawn", headers=other.headers)

    assert [(offer["status"], offer["delivery"]) for offer in page.json()["items"]] == [("withdrawn", None)]


async def test_volunteers_are_found_by_an_index(world: World, following: Following) -> None:
    """Among twenty thousand people all over the country those around a pickup are not looked for one by one."""
    async with world.database.transaction() as tx:
        await tx.fetch(
            "INSERT INTO volunteers (user_id, version, vehicle, capacity_g, lat, lon, radius_m)"
            " SELECT gen_random_uuid(), 1, 'car', 90000, -10 + random() * 8, -60 + random() * 15, 20000"
            " FROM generate_series(1, 20000)"
        )
        await tx.fetch("ANALYZE volunteers")
        plan = await tx.fetch(
            "EXPLAIN (ANALYZE, FORMAT TEXT) " + repository._CANDIDATES,
            -6.0, -52.0, -6.2, -5.8, -52.2, -51.8, 20_000, 0, [], new_id(), 1, datetime.now(UTC),
            datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) - timedelta(days=1), 10, 60,
        )  # fmt: skip
        await tx.fetch("DELETE FROM volunteers WHERE capacity_g = 90000")

    text = "\n".join(row[0] for row in plan)
    assert "volunteers_point" in text, text
    assert "Seq Scan on volunteers" not in text, text


@contextlib.asynccontextmanager
async def _claimed_today(database: Database, volunteer: Caller, count: int) -> AsyncIterator[None]:
    """So many deliveries that ended were claimed by them today; rows without a stream, hence gone afterwards."""
    await database.pool.execute(
        "INSERT INTO deliveries (id, version, state, status, party_ids, batch_ids, pickup_place_id, receiving_place_id,"
        " planned_by, volunteer_id, claimed_at, created_at)"
        " SELECT gen_random_uuid(), 1, '{}', 'delivered', '{}', '{}', $1, $1, $1, $1, now() - interval '1 hour', now()"
        " FROM generate_series(1, $2)",
        volunteer.id,
        count,
    )
    try:
        yield
    finally:
        await database.pool.execute("DELETE FROM deliveries WHERE volunteer_id = $1 AND state = '{}'", volunteer.id)


async def _is(value: Any, expected: Any) -> bool:
    return bool(await value == expected)


async def _count(world: World, delivery: dict[str, Any], count: int) -> bool:
    return len(await _told(world, delivery, events.DeliveryOffered)) == count


def test_every_stage_that_waits_has_its_manager() -> None:
    """No delivery waits for somebody unwatched."""
    assert set(MANAGERS) == {Status.PLANNED, Status.OPEN, Status.CLAIMED, Status.IN_TRANSIT, Status.REROUTING}
    assert len({manager.kind.name for manager in MANAGERS.values()}) == len(MANAGERS)
