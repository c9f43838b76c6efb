"""Whom to ask, how long to wait, and what is due when a watch is looked at: pure rules, any time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from deliveries.domain import (
    BatchId,
    Delivery,
    DeliveryId,
    LineId,
    OrganizationId,
    PlaceId,
    PlannedLine,
    Storage,
    UserId,
    Window,
)
from deliveries.domain.follow_ups import About, DeliveryUnclaimed, FollowUp, follow_up_id
from deliveries.domain.offers import PAUSE_MIN, Candidate, Reach, choose, pause_after
from deliveries.domain.watches import (
    DELAYED,
    RELEASE,
    TOLD_TIMES_MAX,
    Patience,
    due,
    for_dropoff,
    for_holds,
    for_pickup,
    for_reroute,
    next_at,
    with_grace,
)
from hypothesis import given
from hypothesis import strategies as st

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
PATIENCE = Patience(
    holds=15 * MINUTE,
    ask_to_confirm=HOUR,
    remind=30 * MINUTE,
    pickup_grace=30 * MINUTE,
    transit=2 * HOUR,
    dropoff_again=HOUR,
    reroute=30 * MINUTE,
)
REACH = Reach(radii_m=(5_000, 10_000, 20_000), per_ring_max=3, pause=10 * MINUTE)
ANA = UserId(UUID(int=50))


def a_delivery(*, window: Window | None = None, dropoff: Window | None = None) -> Delivery:
    """Open at noon, five portions from a kitchen to a shelter."""
    line = PlannedLine(
        line_id=LineId(UUID(int=10)), batch_id=BatchId(UUID(int=20)), provider_id=OrganizationId(UUID(int=30)),
        pickup_place_id=PlaceId(UUID(int=40)), product_name="Sopa", category="prepared", storage=Storage.AMBIENT,
        unit="portion", quantity=5,
    )  # fmt: skip
    delivery = Delivery.plan(
        DeliveryId(UUID(int=1)), receiving_organization_id=OrganizationId(UUID(int=31)),
        receiving_place_id=PlaceId(UUID(int=41)), lines=[line], accepts=None, planned_by=UserId(UUID(int=51)), now=NOON,
        pickup_window=window, dropoff_window=dropoff,
    )  # fmt: skip
    delivery.grant_hold(line.line_id, now=NOON)
    return delivery


def claimed(window: Window | None, *, at: datetime = NOON) -> Delivery:
    """Claimed by Ana."""
    delivery = a_delivery(window=window)
    delivery.claim(
        ANA, now=at, min_handling=HOUR, active=True, vehicle_fits=True, overlapping=False, claims_today=0, daily_cap=9
    )
    return delivery


def window(hours: float, *, lasts: float = 2) -> Window:
    """A window that begins so many hours after noon."""
    return Window(from_at=NOON + hours * HOUR, to_at=NOON + (hours + lasts) * HOUR)


# -- watches -----------------------------------------------------------------------------------------------------------


def test_an_early_claim_is_asked_reminded_missed_and_taken_back() -> None:
    """Pickup from 18:00 to 20:00: confirm until 17:00, asked at 16:00, reminded at 17:30, late at 20:00, released at 20:30."""
    moments = for_pickup(claimed(window(6)), PATIENCE, now=NOON)

    assert [(moment.name, (moment.at - NOON) / HOUR) for moment in moments] == [
        ("ask-to-confirm", 4.0), ("remind", 5.5), ("delayed", 8.0), ("release", 8.5),
    ]  # fmt: skip


def test_a_late_claim_is_not_reminded_of_what_it_just_promised() -> None:
    """Claimed within the reminder's time, or within the window: only the delay is watched, an hour after at the earliest."""
    soon, within = (
        for_pickup(claimed(window(0.25)), PATIENCE, now=NOON),
        for_pickup(claimed(window(-1.5)), PATIENCE, now=NOON),
    )

    assert [moment.name for moment in soon] == [moment.name for moment in within] == ["delayed", "release"]
    assert soon[0].at == NOON + 2.25 * HOUR
    assert within[0].at == NOON + HOUR
    assert for_pickup(claimed(None), PATIENCE, now=NOON)[0].at == NOON + HOUR


def test_goods_on_the_road_are_late_by_their_window_or_by_patience() -> None:
    """The first receiver's window counts for the first receiver alone; a delay is told three times."""
    delivery = a_delivery(dropoff=window(1))

    to_first = for_dropoff(delivery, PATIENCE, now=NOON, rerouted=False)
    to_second = for_dropoff(delivery, PATIENCE, now=NOON, rerouted=True)

    assert [(moment.step, (moment.at - NOON) / HOUR) for moment in to_first] == [
        ("delayed", 3.0), ("delayed-2", 4.0), ("delayed-3", 5.0),
    ]  # fmt: skip
    assert to_second[0].at == NOON + 2 * HOUR
    assert for_dropoff(a_delivery(dropoff=window(-9)), PATIENCE, now=NOON, rerouted=False)[0].at == NOON
    assert len(for_reroute(PATIENCE, now=NOON)) == TOLD_TIMES_MAX
    assert for_holds(delivery, PATIENCE, now=NOON + HOUR)[0].at == NOON + 15 * MINUTE


def test_a_reminder_after_the_fact_is_past() -> None:
    """Looked at an hour after the window: the delay is told, what came before it is only recorded, the release waits."""
    moments = for_pickup(claimed(window(6)), PATIENCE, now=NOON)
    late = NOON + 9.5 * HOUR

    told = due(moments, set(), now=late)
    moments = with_grace(moments, PATIENCE.pickup_grace, now=late)

    assert [moment.name for moment in told] == ["ask-to-confirm", "remind", "delayed"]
    assert next_at(moments, now=late) == late + 30 * MINUTE
    assert [moment.name for moment in due(moments, {"delayed"}, now=late + HOUR)][-1] == RELEASE


@given(
    looks=st.lists(st.integers(0, 15 * 60), min_size=1, max_size=12),
    from_=st.integers(-120, 600),
    lasts=st.integers(1, 300),
)
def test_whenever_it_is_looked_at_a_claim_is_warned_first(looks: list[int], from_: int, lasts: int) -> None:
    """Each moment counts once, the claim is taken back at least the grace after it was warned, and it comes to an end."""
    span = Window(from_at=NOON + from_ * MINUTE, to_at=NOON + (from_ + lasts) * MINUTE)
    moments = for_pickup(claimed(span), PATIENCE, now=NOON)
    done: dict[str, datetime] = {}

    def look(now: datetime) -> None:
        nonlocal moments
        coming = due(moments, done.keys(), now=now)
        for moment in coming:
            assert moment.step not in done
            done[moment.step] = now
        if coming and coming[-1].name == DELAYED:
            moments = with_grace(moments, PATIENCE.pickup_grace, now=now)

    for minutes in sorted(looks):
        look(NOON + minutes * MINUTE)
    look(NOON + 30 * HOUR)
    look(NOON + 31 * HOUR)

    assert done[RELEASE] - done[DELAYED] >= PATIENCE.pickup_grace
    assert next_at(moments, now=NOON + 32 * HOUR) is None


# -- offers ------------------------------------------------------------------------------------------------------------


def candidate(number: int, *, distance_m: int = 100, claims_today: int = 0) -> Candidate:
    """A volunteer with a car."""
    return Candidate(
        volunteer_id=UserId(UUID(int=number)),
        distance_m=distance_m,
        vehicle="car",
        capacity_g=1,
        claims_today=claims_today,
    )


def test_who_carried_least_today_is_asked_first_then_who_is_nearest() -> None:
    """Load before distance, and never more people than a ring takes."""
    near_and_busy, near, far = candidate(1, claims_today=2), candidate(2), candidate(3, distance_m=900)

    assert choose([near_and_busy, far, near], count=2) == [near, far]
    assert choose([near_and_busy], count=2) == [near_and_busy]


@given(loads=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20_000)), max_size=30), count=st.integers(1, 10))
def test_nobody_is_passed_over_for_somebody_worse(loads: list[tuple[int, int]], count: int) -> None:
    """Everybody who is asked carried no more, or is no farther, than anybody who is not; the order of finding is nothing."""
    found = [candidate(n, claims_today=load, distance_m=metres) for n, (load, metres) in enumerate(loads)]

    asked = choose(found, count=count)

    left_out = [one for one in found if one not in asked]
    assert len(asked) == min(count, len(found))
    assert asked == choose(list(reversed(found)), count=count)
    worst = max(((one.claims_today, one.distance_m) for one in asked), default=(0, 0))
    assert all((one.claims_today, one.distance_m) >= worst for one in left_out)


def test_goods_that_keep_for_an_hour_are_not_offered_for_two() -> None:
    """The usual pause, a share of the time that is left when that is shorter, never less than people need to answer."""

    def pause(minutes: float | None) -> timedelta:
        until = None if minutes is None else NOON + minutes * MINUTE
        return pause_after(REACH, rings_left=2, until=until, now=NOON)

    assert pause(None) == pause(600) == 10 * MINUTE
    assert pause(15) == 5 * MINUTE
    assert pause(0) == pause(-60) == PAUSE_MIN


# -- what is said ------------------------------------------------------------------------------------------------------


def test_what_is_said_is_about_what_is_in_hand() -> None:
    """Planned quantities until the pickup, then what the volunteer carries; the stream counts what was said."""
    delivery = claimed(None)
    line = delivery.lines[LineId(UUID(int=10))]

    before = About.of(delivery)
    delivery.lines[line.line_id] = replace(line, picked=4, delivered=1)
    after = About.of(delivery)
    follow_up = FollowUp(id=follow_up_id(delivery.id))
    for about in (before, after):
        follow_up.say(DeliveryUnclaimed(about=about, offered=0))

    assert (before.goods[0].quantity, after.goods[0].quantity, before.volunteer_id) == (5, 3, ANA)
    assert (follow_up.version, follow_up.delivery_id) == (2, delivery.id)
    assert FollowUp.fold(follow_up.id, list(follow_up.pending)) == follow_up
