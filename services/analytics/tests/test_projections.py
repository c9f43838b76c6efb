"""What events add up to: the same whatever their order, however often they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from analytics import queries
from analytics.consumers import EVENTS
from analytics.domain import Period
from chassis.access import Principal
from chassis.database import Database
from chassis.kernel import new_id
from contracts.catalogue import example
from contracts.events import batches, deliveries, resources
from contracts.registry import event_types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.analytics.tests.conftest import Projector
from services.analytics.tests.story import (
    NOON,
    BatchStory,
    DeliveryStory,
    RequestStory,
    Told,
    expected,
)

TABLES = "audit_events, quantities_daily, batch_losses, batches_seen, deliveries_seen, requests_seen, need_lines"
ADMIN = Principal(new_id(), "person", {}, frozenset({"admin"}))
WHOLE = Period(date(2026, 1, 1), date(2026, 12, 31))
Draw = Callable[[st.SearchStrategy[Any]], Any]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def _emptied(database: Database) -> AsyncIterator[None]:
    """Every test starts with nothing told."""
    await database.pool.execute(f"TRUNCATE {TABLES}, inbox")
    yield


async def _shown(database: Database, organization_id: UUID | None = None, period: Period = WHOLE) -> dict[str, Any]:
    found = await queries.dashboard(database.reading(), ADMIN, period, organization_id)
    names = (*queries.QUANTITIES, *queries.NEEDED)
    return {
        "by_category": {
            (row["category"], row["unit"]): {name: row[name] for name in names if row[name]}
            for row in found.by_category
        },
        "batches": found.batches,
        "deliveries": {name: found.deliveries[name] for name in queries.DELIVERY_MILESTONES},
        **found.time_to_claim_s,
    }


# -- any order, any number of times ------------------------------------------------------------------------------------


def _told(draw: Draw, organizations: list[UUID]) -> list[Told]:
    hours = st.integers(0, 24 * 5).map(lambda h: NOON + h * HOUR)
    one = st.integers(0, 2).map(lambda n: organizations[n])
    told: list[Told] = []
    stories = []
    for _ in range(draw(st.integers(1, 3))):
        unit, category = draw(st.sampled_from(["portion", "g", "unit"])), draw(st.sampled_from(["prepared", "dry"]))
        batch = BatchStory(draw(one), new_id(), unit=unit, category=category, total=draw(st.integers(100, 500)))
        stories.append(batch)
        told += [
            batch.tell(batches.BatchCreated, draw(hours), "producing"),
            batch.tell(batches.BatchReady, draw(hours)),
        ]
        told += [batch.lose(quantity, draw(hours)) for quantity in draw(st.lists(st.integers(1, 9), max_size=3))]
        if draw(st.booleans()):
            batch.lost += draw(st.integers(0, 20))
            told.append(batch.tell(batches.BatchExpired, draw(hours), "expired"))
    for _ in range(draw(st.integers(0, 3))):
        parts = [(stories[n], 10) for n in draw(st.lists(st.integers(0, len(stories) - 1), min_size=1, max_size=3))]
        delivery = DeliveryStory(parts, draw(one), new_id())
        told += _course(draw, delivery, hours)
    for _ in range(draw(st.integers(0, 2))):
        request = RequestStory(draw(one), new_id())
        for kind in (resources.ResourceRequestOpened, *draw(_LATER)):
            lines = draw(st.lists(_LINE, min_size=1, max_size=3))
            told.append(request.tell(kind, draw(hours), lines, draw(st.sampled_from(["open", "closed", "cancelled"]))))
    return told


_LATER = st.lists(st.sampled_from([resources.ResourceRequestChanged, resources.ReservationMade]), max_size=3)
_LINE = st.tuples(
    st.sampled_from(["dry", "baby"]),
    st.sampled_from(["unit", "g"]),
    st.integers(5, 50),
    st.integers(0, 5),
    st.integers(0, 5),
)


def _course(draw: Draw, delivery: DeliveryStory, hours: Any) -> list[Told]:
    told = [
        delivery.tell(deliveries.DeliveryPlanned, draw(hours), "planned"),
        delivery.tell(deliveries.DeliveryOpened, draw(hours)),
    ]
    for _ in range(draw(st.integers(0, 2))):
        told.append(delivery.tell(deliveries.DeliveryClaimed, draw(hours), "claimed"))
        told.append(delivery.tell(deliveries.ClaimReleased, draw(hours), previous_volunteer_id=new_id(), reason="x"))
    if draw(st.booleans()):
        told.append(delivery.tell(deliveries.VolunteerNoShow, draw(hours), reporter_id=new_id()))
    if draw(st.booleans()):
        told.append(delivery.pick([draw(st.integers(0, 10)) for _ in delivery.parts], draw(hours)))
        if draw(st.booleans()):
            told.append(delivery.tell(deliveries.DeliveryReturned, draw(hours), "returned", usable=True))
        if draw(st.booleans()):
            told.append(delivery.complete([draw(st.integers(0, picked)) for picked in delivery.picked], draw(hours)))
    else:
        told.append(delivery.tell(deliveries.DeliveryCancelled, draw(hours), "cancelled", reason="x"))
    return told


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_any_order_and_any_repetition_give_the_same_dashboard(
    data: st.DataObject, database: Database, projector: Projector
) -> None:
    """The dashboard is a function of the set of events: of each organization, of the platform, and of any days."""
    await database.pool.execute(f"TRUNCATE {TABLES}, inbox")
    organizations = [new_id() for _ in range(3)]
    told = _told(data.draw, organizations)
    doubled = [*range(len(told)), *data.draw(st.lists(st.integers(0, len(told) - 1), max_size=10))]
    shuffled = [told[n] for n in data.draw(st.permutations(doubled))]

    await projector.take(shuffled, batch=data.draw(st.sampled_from([1, 7, 100])))

    days = Period(date(2026, 3, 11), date(2026, 3, 12))
    for whose in (None, *organizations):
        for period in (WHOLE, days):
            assert await _shown(database, whose, period) == expected(told, whose, period.first, period.last)
    assert sum((await queries.events_counted(database.reading())).values()) == len(told)


async def test_an_event_that_comes_again_after_the_inbox_forgot_it_adds_nothing(
    database: Database, projector: Projector
) -> None:
    """The audit trail remembers for ever what was counted."""
    batch = BatchStory(new_id(), new_id())
    told = [batch.tell(batches.BatchReady, NOON)]
    await projector.take(told)
    await database.pool.execute("TRUNCATE inbox")

    await projector.take(told)

    assert (await _shown(database))["by_category"] == {("prepared", "portion"): {"offered": 40}}


async def test_two_replicas_project_the_same_rows_without_losing_a_count(
    database: Database, projector: Projector
) -> None:
    """Concurrent projections, of other events about the same rows and of the same events, add up exactly and never deadlock."""
    organization_id, here, there = new_id(), new_id(), new_id()
    one, other = (
        [BatchStory(organization_id, place, total=3).tell(batches.BatchReady, NOON) for place in places]
        for places in ([here] * 50 + [there] * 150, [there] * 50 + [here] * 150)
    )

    await asyncio.gather(*(database.reading().fetchval("SELECT 1") for _ in range(9)))  # so that all start at once

    with capture_logs() as logs:
        await asyncio.gather(projector.take(one), projector.take(other), projector.take(one, batch=7))

    assert (await _shown(database, organization_id))["by_category"] == {("prepared", "portion"): {"offered": 1200}}
    assert await queries.events_counted(database.reading()) == {"vouajudar.batches.batch.ready.v1": 400}
    assert [entry for entry in logs if entry["log_level"] != "info"] == []


# -- definitions -------------------------------------------------------------------------------------------------------


async def test_lost_is_what_the_ledger_lost_more_since_the_version_before(
    database: Database, projector: Projector
) -> None:
    """Losses on the road, and what expiry writes off, count once, on their own days, for the giver."""
    batch = BatchStory(new_id(), new_id(), total=40)
    told = [batch.tell(batches.BatchReady, NOON), batch.lose(3, NOON), batch.lose(2, NOON + DAY)]
    batch.lost += 30  # what was available
    told += [batch.tell(batches.BatchExpired, NOON + 2 * DAY, "expired")]
    told += [batch.tell(batches.BatchClosed, NOON + 3 * DAY, "closed")]

    await projector.take(told[::-1])

    by_day = [
        (await _shown(database, None, Period(day, day)))["by_category"].get(("prepared", "portion"), {}).get("lost")
        for day in (NOON.date(), (NOON + DAY).date(), (NOON + 2 * DAY).date(), (NOON + 3 * DAY).date())
    ]
    assert by_day == [3, 2, 30, None]


async def test_a_delivery_counts_for_both_sides_and_once_for_the_platform(
    database: Database, projector: Projector
) -> None:
    """Giver and receiver both show what was rescued and delivered; the platform shows it once; strangers not at all."""
    giver, receiver = new_id(), new_id()
    delivery = DeliveryStory([(BatchStory(giver, new_id()), 10)], receiver, new_id())

    await projector.take(
        [
            delivery.tell(deliveries.DeliveryPlanned, NOON, "planned"),
            delivery.pick([8], NOON),
            delivery.complete([7], NOON),
        ]
    )

    goods = {("prepared", "portion"): {"rescued": 8, "delivered": 7}}
    for whose, completed, seen in ((giver, 1, goods), (receiver, 1, goods), (None, 1, goods), (new_id(), 0, {})):
        shown = await _shown(database, whose)
        assert (shown["deliveries"]["completed"], shown["by_category"]) == (completed, seen)


async def test_a_rerouted_delivery_counts_for_everybody_who_took_part(database: Database, projector: Projector) -> None:
    """What was fetched counts for the first receiver, what was handed over for the last; both see the delivery."""
    giver, first, last = new_id(), new_id(), new_id()
    delivery = DeliveryStory([(BatchStory(giver, new_id()), 10)], first, new_id())
    told = [delivery.tell(deliveries.DeliveryPlanned, NOON, "planned"), delivery.pick([8], NOON)]
    delivery.receiver_id = last
    told += [delivery.tell(deliveries.DeliveryRerouted, NOON, "in_transit"), delivery.complete([8], NOON)]

    await projector.take(told[::-1])

    for whose, goods in ((first, {"rescued": 8}), (last, {"delivered": 8}), (giver, {"rescued": 8, "delivered": 8})):
        shown = await _shown(database, whose)
        assert (shown["deliveries"]["completed"], shown["by_category"]) == (1, {("prepared", "portion"): goods})


async def test_goods_moved_within_one_organization_count_once_there(database: Database, projector: Projector) -> None:
    """An organization that gives to itself is not counted twice."""
    both = new_id()
    delivery = DeliveryStory([(BatchStory(both, new_id()), 10)], both, new_id())

    await projector.take([delivery.pick([8], NOON), delivery.complete([8], NOON)])

    assert (await _shown(database, both))["by_category"] == {("prepared", "portion"): {"rescued": 8, "delivered": 8}}


async def test_units_are_never_added_up(database: Database, projector: Projector) -> None:
    """Grams and portions of one category stay two rows, and two totals."""
    owner = new_id()
    told = [
        BatchStory(owner, new_id(), unit=unit, total=7).tell(batches.BatchReady, NOON) for unit in ("g", "portion", "g")
    ]

    await projector.take(told)

    found = await queries.dashboard(database.reading(), ADMIN, WHOLE, owner)
    assert [(row["unit"], row["offered"]) for row in found.by_unit(queries.QUANTITIES)] == [("g", 14), ("portion", 7)]


async def test_units_of_one_delivery_stay_apart(database: Database, projector: Projector) -> None:
    """Lines of one category in different units are not one line; lines in the same unit are."""
    giver, receiver = new_id(), new_id()
    parts = [(BatchStory(giver, new_id(), unit=unit), 9) for unit in ("g", "portion", "g")]

    await projector.take([DeliveryStory(parts, receiver, new_id()).pick([1, 2, 4], NOON)])

    for whose in (None, giver, receiver):
        goods = {("prepared", "g"): {"rescued": 5}, ("prepared", "portion"): {"rescued": 2}}
        assert (await _shown(database, whose))["by_category"] == goods


@pytest.mark.parametrize(
    ("at", "day"),
    [
        (datetime(2026, 3, 10, 23, 59, 59, 999_999, UTC), date(2026, 3, 10)),
        (datetime(2026, 3, 11, tzinfo=UTC), date(2026, 3, 11)),
    ],
)
async def test_a_day_ends_at_midnight_utc(database: Database, projector: Projector, at: datetime, day: date) -> None:
    """The last microsecond belongs to the day that ends, midnight to the one that begins: counters and milestones alike."""
    batch = BatchStory(new_id(), new_id())
    batch.lost = 1
    await projector.take([batch.tell(batches.BatchReady, at)])

    for offset in (-1, 0, 1):
        shown = await _shown(database, None, Period(day + offset * DAY, day + offset * DAY))
        assert shown["batches"]["ready"] == (offset == 0)
        assert shown["by_category"] == ({("prepared", "portion"): {"offered": 40, "lost": 1}} if offset == 0 else {})


async def test_needs_are_those_of_the_newest_snapshot(database: Database, projector: Projector) -> None:
    """A line taken out of a request, and a cancelled request, are needed no more; a late old snapshot changes nothing."""
    request, void = RequestStory(new_id(), new_id()), RequestStory(new_id(), new_id())
    opened = request.tell(resources.ResourceRequestOpened, NOON, [("dry", "g", 9, 0, 0), ("baby", "unit", 4, 0, 0)])
    changed = request.tell(resources.ResourceRequestChanged, NOON + DAY, [("dry", "g", 8, 5, 2)])
    told = [void.tell(resources.ResourceRequestOpened, NOON, [("dry", "g", 100, 0, 0)])]
    told += [void.tell(resources.ResourceRequestCancelled, NOON, [("dry", "g", 100, 0, 0)], "cancelled")]

    await projector.take([changed, *told, opened])

    assert (await _shown(database))["by_category"] == {("dry", "g"): {"needed": 8, "reserved": 5, "received": 2}}


async def test_the_rates_have_a_basis_or_are_null(database: Database, projector: Projector) -> None:
    """On time is fetched within the pickup windows; no-shows are of the claimed; without any both are null."""
    batch = BatchStory(new_id(), new_id(), pickup_to=NOON + HOUR)
    early, late, missed = (DeliveryStory([(batch, 1)], new_id(), new_id()) for _ in range(3))
    empty = await queries.dashboard(database.reading(), ADMIN, WHOLE, None)
    told = [batch.tell(batches.BatchCreated, NOON)]
    for each in (early, late, missed):
        told += [
            each.tell(deliveries.DeliveryOpened, NOON),
            each.tell(deliveries.DeliveryClaimed, NOON + HOUR, "claimed"),
        ]
    told += [early.pick([1], NOON), late.pick([1], NOON + 2 * HOUR)]
    told += [missed.tell(deliveries.VolunteerNoShow, NOON, reporter_id=new_id()) for _ in range(2)]

    await projector.take(told)

    found = (await queries.dashboard(database.reading(), ADMIN, WHOLE, None)).deliveries
    assert (found["on_time_rate"], found["no_show_rate"]) == (0.5, 0.3333)
    assert (empty.deliveries["on_time_rate"], empty.deliveries["no_show_rate"]) == (None, None)


# -- every event there is ----------------------------------------------------------------------------------------------


async def test_every_published_type_is_heard_and_counted(database: Database, projector: Projector) -> None:
    """Each type's golden example becomes one row of the audit trail; only what no stream keeps is left out."""
    heard = {name for name, kind in event_types().items() if kind in EVENTS.handlers}
    assert {name for name in event_types() if name not in heard} == {
        "vouajudar.webhooks.endpoint.test.v1", "vouajudar.webhooks.message.exhausted.v1",
        "vouajudar.resources.catalogue_chunk.stored.v1",
    }  # fmt: skip
    told = [_golden(name) for name in sorted(heard)]

    await projector.take(told)

    counted = sorted(heard - {"vouajudar.resources.catalogue_chunk.products_changed.v1"})
    assert await queries.events_counted(database.reading()) == dict.fromkeys(counted, 1)


def _golden(name: str) -> Told:
    import json

    envelope = example(name)
    kind = event_types()[name]
    body = json.dumps(envelope).encode()
    return Told(UUID(envelope["id"]), kind.model_validate(envelope["data"]), NOON, envelope["aggregateversion"], body)


async def test_poison_is_kept_aside_and_holds_nobody_up(database: Database, projector: Projector) -> None:
    """Bytes that are no event, and an event that cannot be stored, become dead letters; their neighbours count."""
    batch, bad = BatchStory(new_id(), new_id()), BatchStory(new_id(), new_id())
    junk = bad.tell(batches.BatchCreated, NOON)
    unstorable = bad.tell(batches.BatchReady, NOON)
    told = [
        Told(junk.id, junk.event, NOON, 1, b"{"),
        Told(unstorable.id, unstorable.event, NOON, 2, unstorable.body.replace(b"Sopa", b"So\\u0000pa")),
        batch.tell(batches.BatchReady, NOON),
    ]

    await projector.take(told)

    rows = await database.pool.fetch("SELECT message_id, reason FROM dead_letters")
    assert {(row["message_id"], row["reason"]) for row in rows} == {
        (str(junk.id), "undecodable"),
        (str(unstorable.id), "permanent"),
    }
    assert (await _shown(database))["batches"]["ready"] == 1
    await database.pool.execute("TRUNCATE dead_letters")
