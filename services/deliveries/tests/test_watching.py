"""Deliveries that wait for somebody, on a live process: for holds, a pickup, a drop-off, a decision; late, twice, broken off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from chassis.kernel import Conflict, new_id
from chassis.testing import LiveService, eventually
from contracts.events import batches, identity
from contracts.events import deliveries as events
from deliveries.domain import Delivery, UserId
from deliveries.domain.follow_ups import follow_up_id
from deliveries.repository import DELIVERIES
from deliveries.usecases import Following
from deliveries.usecases.saving import save
from deliveries.usecases.watching import DROPOFF, HOLDS, PICKUP, REROUTE

from services.deliveries.tests.builders import Batch, World, dropped
from services.deliveries.tests.followups import (
    AFTER_KILL_S,
    begun,
    ended,
    let_pass,
    look_again,
    run_of,
    steps,
)
from services.deliveries.tests.test_api import said

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


async def _tomorrow(world: World) -> Batch:
    """A batch that can be fetched from in a day on, for two hours, and keeps for three days."""
    from_at = datetime.now(UTC) + timedelta(days=1)
    window = {"from_at": from_at, "to_at": from_at + 2 * HOUR}
    return await world.batch(pickup_window=window, use_by_at=from_at + timedelta(days=3))


async def _told(world: World, delivery: dict[str, Any], kind: type[events._FollowUpEvent], count: int) -> list[Any]:
    """What was said of one kind, once it was said so often."""
    stream = follow_up_id(UUID(delivery["id"]))
    await eventually(lambda: len(world.tap.of(kind, stream)) >= count)
    return [received.event for received in world.tap.of(kind, stream)]


# -- holds -------------------------------------------------------------------------------------------------------------


async def test_a_plan_that_batches_never_answers_is_given_up(world: World, following: Following) -> None:
    """After a quarter of an hour it is cancelled with its reason; the half that was granted is released by that event."""
    soup, bread = await world.batch(), await world.batch(category="bakery")
    delivery = await world.planned(soup, bread)
    row = await begun(world, "holds", delivery)
    assert row["deadline"] - datetime.fromisoformat(delivery["created_at"]) == following.patience.holds
    line = delivery["lines"][0]
    await world.tell(soup, batches.BatchHeld, hold_id=line["line_id"], delivery_id=delivery["id"], quantity=5)

    await let_pass(world, "holds", delivery, following.patience.holds)
    fact = (await world.tap.saw(events.DeliveryCancelled, UUID(delivery["id"]))).event

    assert isinstance(fact, events.DeliveryCancelled)
    assert (fact.reason, {line.line_id for line in fact.lines}) == (
        "holds-unanswered", {UUID(line["line_id"]) for line in delivery["lines"]},
    )  # fmt: skip
    assert steps(await ended(world, "holds", delivery, "give-up")) == ["give-up"]
    cancelled = world.tap.of(events.DeliveryCancelled, UUID(delivery["id"]))
    assert cancelled[0].envelope.correlationid == row["correlation_id"]


async def test_answers_end_the_waiting(world: World, following: Following) -> None:
    """Opened in time it is no longer waited for, and a timer that comes late gives nothing up."""
    batch = await world.batch()
    delivery = await world.planned(batch)
    await begun(world, "holds", delivery)
    await world.grant(delivery, [batch])
    await ended(world, "holds", delivery, "open")

    await look_again(world, HOLDS, delivery, following, at=datetime.now(UTC) + HOUR)

    assert await world.status(delivery) == "open"


# -- the pickup --------------------------------------------------------------------------------------------------------


async def test_a_claim_for_tomorrow_is_asked_for_and_reminded_of(world: World, following: Following) -> None:
    """An hour before its last moment it is asked to be confirmed; half an hour before the window it is reminded of."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer, await _tomorrow(world))
    await begun(world, "pickup", delivery)
    from_at = datetime.fromisoformat(delivery["pickup_window"]["from"])

    await let_pass(world, "pickup", delivery, timedelta(days=1) - 2 * HOUR)
    (asked,) = await _told(world, delivery, events.PickupReminded, 1)
    await world.done(volunteer, delivery, "confirm")
    await let_pass(world, "pickup", delivery, 90 * MINUTE)
    reminded = (await _told(world, delivery, events.PickupReminded, 2))[1]

    assert (asked.volunteer_id, asked.pickup_from, asked.confirm_by) == (volunteer.id, from_at, from_at - HOUR)
    assert (reminded.pickup_from, reminded.confirm_by) == (from_at, None)
    row = await run_of(world.database, "pickup", delivery)
    assert row is not None
    assert (steps(row), row["status"]) == (["ask-to-confirm", "remind"], "running")
    assert await world.status(delivery) == "claimed"


async def test_who_has_confirmed_is_not_asked(world: World, following: Following) -> None:
    """The moment to ask passes in silence."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer, await _tomorrow(world))
    await begun(world, "pickup", delivery)
    await world.done(volunteer, delivery, "confirm")

    await look_again(world, PICKUP, delivery, following, at=datetime.now(UTC) + timedelta(days=1) - 115 * MINUTE)

    row = await run_of(world.database, "pickup", delivery)
    assert row is not None
    assert steps(row) == ["ask-to-confirm"]
    assert world.tap.of(events.PickupReminded, follow_up_id(UUID(delivery["id"]))) == []


async def test_a_pickup_that_does_not_happen_is_told_then_the_claim_is_taken_back(
    world: World, following: Following
) -> None:
    """At the window's end everybody is told; half an hour later the delivery is open again, and nobody is accused."""
    volunteer = await world.volunteer()
    delivery = await world.claimed(volunteer)
    await begun(world, "pickup", delivery)
    window_ends = datetime.fromisoformat(delivery["pickup_window"]["to"])

    await let_pass(world, "pickup", delivery, 3 * HOUR)
    (delayed,) = await _told(world, delivery, events.PickupDelayed, 1)
    assert await world.status(delivery) == "claimed"
    await let_pass(world, "pickup", delivery, following.patience.pickup_grace)
    released = (await world.tap.saw(events.ClaimReleased, UUID(delivery["id"]))).event

    assert timedelta(0) <= delayed.release_at - delayed.due_at - following.patience.pickup_grace < MINUTE
    assert abs(delayed.due_at + 3 * HOUR - window_ends) < timedelta(seconds=1)
    assert isinstance(released, events.ClaimReleased)
    assert (released.reason, released.previous_volunteer_id) == ("pickup-overdue", volunteer.id)
    assert steps(await ended(world, "pickup", delivery, "release")) == ["delayed", "release"]
    assert world.tap.of(events.VolunteerNoShow, UUID(delivery["id"])) == []
    await begun(world, "offers", delivery, run=5)


async def test_no_claim_is_taken_back_unwarned(world: World, following: Following) -> None:
    """Looked at hours too late, the first look only tells; the grace begins then."""
    delivery = await world.claimed(await world.volunteer(), await _tomorrow(world))
    await begun(world, "pickup", delivery)
    late = datetime.now(UTC) + timedelta(days=2)

    await look_again(world, PICKUP, delivery, following, at=late)
    assert await world.status(delivery) == "claimed"
    row = await run_of(world.database, "pickup", delivery)
    await look_again(world, PICKUP, delivery, following, at=late + following.patience.pickup_grace)

    assert row is not None
    assert steps(row) == ["(ask-to-confirm)", "(remind)", "delayed"]
    assert row["deadline"] == late + following.patience.pickup_grace
    (delayed,) = await _told(world, delivery, events.PickupDelayed, 1)
    assert delayed.release_at == row["deadline"]
    await world.becomes(delivery, "open")


async def test_a_timer_that_finds_another_volunteer_leaves_them_alone(
    world: World, live: LiveService, following: Following
) -> None:
    """Given to somebody else, which is committed and not heard of yet: the first one's delays are past, nobody is released."""
    first, second = await world.volunteer(), await world.volunteer()
    delivery = await world.claimed(first)
    await begun(world, "pickup", delivery)
    live.kill()
    now = datetime.now(UTC)

    async with world.database.transaction() as tx:
        found = await DELIVERIES.get(tx, UUID(delivery["id"]))
        found.reassign(UserId(second.id), reason="closer", now=now)
        save(tx, found, min_handling=following.policy.min_handling, now=now)
    await look_again(world, PICKUP, delivery, following, at=now + timedelta(days=1))
    before = await run_of(world.database, "pickup", delivery)
    await live.start_soon()
    after = await begun(world, "pickup", delivery, run=6, timeout_s=AFTER_KILL_S)

    assert before is not None
    assert (before["run"], before["outcome"], before["steps"]) == (4, "passed", [])
    assert (after["run"], after["state"]["volunteer_id"], after["steps"]) == (6, str(second.id), [])
    assert world.tap.of(events.PickupDelayed, follow_up_id(UUID(delivery["id"]))) == []
    await world.done(world.coordinator, delivery, "cancel", {"reason": "x"})
    await ended(world, "pickup", delivery, "cancelled")


async def test_a_step_that_a_rule_forbids_ends_the_watch(
    world: World, following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the claim cannot be taken back, nothing of that step stays, and the operator sees why."""
    delivery = await world.claimed(await world.volunteer())
    await begun(world, "pickup", delivery)
    late = datetime.now(UTC) + timedelta(days=1)
    await look_again(world, PICKUP, delivery, following, at=late)

    class Forbids(Conflict):
        slug = "forbids"

    def refuse(*_: Any, **__: Any) -> None:
        raise Forbids

    monkeypatch.setattr(Delivery, "release", refuse)
    await look_again(world, PICKUP, delivery, following, at=late + HOUR)

    row = await run_of(world.database, "pickup", delivery)
    assert row is not None
    assert (row["status"], row["outcome"], steps(row)) == ("compensated", "forbids", ["delayed"])
    assert await world.status(delivery) == "claimed"


async def test_a_crash_between_telling_and_taking_back_does_each_once(
    world: World, live: LiveService, following: Following
) -> None:
    """Killed after the claim and again before the release: told once, released once."""
    delivery = await world.claimed(await world.volunteer())
    live.kill()
    await live.start_soon()
    await begun(world, "pickup", delivery, timeout_s=AFTER_KILL_S)
    await let_pass(world, "pickup", delivery, 3 * HOUR)
    await _told_late(world, delivery)

    live.kill()
    await let_pass(world, "pickup", delivery, following.patience.pickup_grace)
    await live.start_soon()
    await eventually(lambda: _is_open(world, delivery), timeout_s=AFTER_KILL_S)
    await begun(world, "offers", delivery, run=5, timeout_s=AFTER_KILL_S)

    told = world.tap.of(events.PickupDelayed, follow_up_id(UUID(delivery["id"])))
    released = world.tap.of(events.ClaimReleased, UUID(delivery["id"]))
    assert (len({one.envelope.id for one in told}), len({one.envelope.id for one in released})) == (1, 1)


async def _told_late(world: World, delivery: dict[str, Any]) -> None:
    stream = follow_up_id(UUID(delivery["id"]))
    await eventually(lambda: bool(world.tap.of(events.PickupDelayed, stream)), timeout_s=AFTER_KILL_S)


async def _is_open(world: World, delivery: dict[str, Any]) -> bool:
    return await world.status(delivery) == "open"


# -- the drop-off ------------------------------------------------------------------------------------------------------


async def test_goods_on_the_road_for_too_long_are_told_of_three_times(world: World, following: Following) -> None:
    """By then they should have arrived: the parties hear of it, and again, and again; then it has been told often enough."""
    volunteer = await world.volunteer()
    delivery = await world.carried(volunteer)
    row = await begun(world, "dropoff", delivery)
    assert row["deadline"] - row["started_at"] == following.patience.transit

    await let_pass(world, "dropoff", delivery, following.patience.transit)
    await _told(world, delivery, events.DropoffDelayed, 1)
    for times in (2, 3):
        await let_pass(world, "dropoff", delivery, following.patience.dropoff_again)
        await _told(world, delivery, events.DropoffDelayed, times)

    told = await _told(world, delivery, events.DropoffDelayed, 3)
    assert [one.times for one in told] == [1, 2, 3]
    assert {one.volunteer_id for one in told} == {volunteer.id}
    assert steps(await ended(world, "dropoff", delivery, "delayed-3")) == ["delayed", "delayed-2", "delayed-3"]
    assert await world.status(delivery) == "in_transit"


async def test_arrived_goods_are_watched_no_more(world: World, following: Following) -> None:
    """The arrival ends it; a timer that comes late tells nobody."""
    volunteer = await world.volunteer()
    delivery = await world.carried(volunteer)
    await begun(world, "dropoff", delivery)
    code = await world.code(world.keeper, delivery, "dropoff")
    await world.done(volunteer, delivery, "dropoff", {"code": code, "lines": dropped(delivery)})
    await ended(world, "dropoff", delivery, "delivered")

    await look_again(world, DROPOFF, delivery, following, at=datetime.now(UTC) + timedelta(days=1))

    assert world.tap.of(events.DropoffDelayed, follow_up_id(UUID(delivery["id"]))) == []


# -- refused goods -----------------------------------------------------------------------------------------------------


async def test_who_carries_refused_goods_is_asked_where_they_go(world: World, following: Following) -> None:
    """The nearest places that take such goods are named, verified ones within reach, none of who gave or refused them."""
    world.shelter = await world.callers.place(world.receiver_id, lat=-19.0, lon=-50.0)
    school_id = await world.callers.organization()
    near = await world.callers.place(school_id, lat=-19.01, lon=-50.0, accepts=["prepared", "dry"])
    nearer = await world.callers.place(school_id, lat=-19.005, lon=-50.0)
    await world.callers.place(school_id, lat=-19.001, lon=-50.0, accepts=["bakery"])
    await world.callers.place(school_id, lat=-19.001, lon=-50.0, roles=["pickup"])
    await world.callers.place(world.provider_id, lat=-19.001, lon=-50.0)
    await world.callers.place(await world.callers.organization(verified=False), lat=-19.001, lon=-50.0)
    await world.callers.place(school_id, lat=-19.3, lon=-50.0)

    volunteer = await world.volunteer()
    delivery = await world.refused(volunteer)
    (asked,) = await _told(world, delivery, events.RerouteAsked, 1)
    options = await world.client.get(f"/v1/deliveries/{delivery['id']}/reroute-options", headers=volunteer.headers)

    assert asked.place_ids == [nearer, near]
    assert [UUID(place["place_id"]) for place in options.json()["places"]] == [nearer, near]
    assert abs(options.json()["places"][0]["distance_m"] - 556) < 2
    assert datetime.fromisoformat(options.json()["decide_by"]) == asked.decide_by
    row = await begun(world, "reroute", delivery)
    assert row["deadline"] == asked.decide_by == row["started_at"] + following.patience.reroute
    await world.done(volunteer, delivery, "reroute", {"place_id": str(near)})
    await ended(world, "reroute", delivery, "in_transit")
    again = await begun(world, "dropoff", delivery, run=7)
    assert again["deadline"] - again["started_at"] == following.patience.transit


async def test_an_undecided_volunteer_is_told_and_so_are_coordinators(world: World, following: Following) -> None:
    """Half an hour, then three times; the goods stay with the volunteer, for nobody else can move them."""
    delivery = await world.refused(await world.volunteer())
    await begun(world, "reroute", delivery)

    for times in (1, 2, 3):
        await let_pass(world, "reroute", delivery, following.patience.reroute)
        told = await _told(world, delivery, events.RerouteDelayed, times)

    assert [one.times for one in told] == [1, 2, 3]
    row = await ended(world, "reroute", delivery, "delayed-3")
    assert steps(row) == ["asked", "delayed", "delayed-2", "delayed-3"]
    assert await world.status(delivery) == "rerouting"
    await look_again(world, REROUTE, delivery, following, at=datetime.now(UTC) + timedelta(days=1))
    assert len(await _told(world, delivery, events.RerouteDelayed, 3)) == 3


async def test_recalled_goods_are_for_nobody(world: World) -> None:
    """A recall on the road asks the volunteer too, but names no place."""
    batch = await world.batch()
    delivery = await world.carried(await world.volunteer(), batch)
    await world.tell(batch, batches.BatchRecalled, status="recalled", severity="high", reason="mould")

    (asked,) = await _told(world, delivery, events.RerouteAsked, 1)

    assert asked.place_ids == []


async def test_reroute_options_are_for_the_parties_and_for_that_moment(world: World) -> None:
    """Strangers learn nothing; before and after there is nothing to decide."""
    volunteer = await world.volunteer()
    delivery = await world.carried(volunteer)
    path = f"/v1/deliveries/{delivery['id']}/reroute-options"

    early = await world.client.get(path, headers=volunteer.headers)
    foreign = await world.client.get(path, headers=world.stranger.headers)
    unknown = await world.client.get(f"/v1/deliveries/{new_id()}/reroute-options", headers=world.coordinator.headers)

    assert said(early) == (409, "invalid-transition")
    assert (early.json()["current_status"], "dropoff" in early.json()["allowed"]) == ("in_transit", True)
    assert said(foreign) == said(unknown) == (404, "delivery-not-found")


# -- what reaches many at once -----------------------------------------------------------------------------------------


async def test_a_recall_leaves_a_trace_of_whom_it_reached(world: World) -> None:
    """Each recall is had once however often it is told; the operator sees how many deliveries it reached and what they became."""
    batch, volunteer = await world.batch(), await world.volunteer()
    carried = await world.carried(volunteer, batch)
    opened, planned = await world.opened(batch), await world.planned(batch)
    batch.version += 1
    recalled = batch.fact(batches.BatchRecalled, status="recalled", severity="high", reason="mould")

    for _ in range(3):
        await world.bus.publish(recalled, subject=batch.id, version=batch.version)
    row = await ended(world, "recall", {"id": str(batch.id)}, "told")

    assert (row["run"], row["state"]["became"]) == (batch.version, {"rerouting": 1, "cancelled": 2})
    assert set(row["state"]["delivery_ids"]) == {carried["id"], opened["id"], planned["id"]}
    admin = await world.callers.person(platform_role="admin")
    shown = await world.client.get(
        "/v1/ops/deliveries/processes", params={"kind": "recall", "key": str(batch.id)}, headers=admin.headers
    )
    assert [item["run"] for item in shown.json()["items"]] == [batch.version]


async def test_a_suspension_leaves_a_trace_too(world: World) -> None:
    """What was called off with the organization, and that it was done once."""
    opened = await world.opened()
    suspended = identity.OrganizationSuspended(organization_id=world.receiver_id)

    for _ in range(2):
        await world.bus.publish(suspended, subject=world.receiver_id, version=1_000_001)
    row = await ended(world, "suspension", {"id": str(world.receiver_id)}, "told")

    assert (row["run"], row["state"]) == (1_000_001, {"became": {"cancelled": 1}, "delivery_ids": [opened["id"]]})
