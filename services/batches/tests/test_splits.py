"""Holds that are split, and where the goods of each hold are: the rules, without I/O."""

from __future__ import annotations

from uuid import UUID

import pytest
from batches.domain import (
    DeliveryId,
    Followed,
    HoldId,
    HoldNotFound,
    HoldNotPossible,
    HoldState,
    MoreThanHeld,
    OrganizationId,
    Part,
    PlaceId,
    Receiver,
    Severity,
    Stage,
    Status,
    Storage,
    UserId,
    Where,
    granted,
    holder,
)
from chassis.kernel import Invalid, InvalidTransition

from services.batches.tests.test_domain import (
    DELIVERY,
    LINE,
    NOW,
    OTHER_LINE,
    a_batch,
    a_carried_batch,
    a_held_batch,
    a_ready_batch,
    buckets,
    recorded,
)

SIBLING = DeliveryId(UUID(int=51))
ANA = UserId(UUID(int=60))
SHELTER, SCHOOL = (
    Receiver(organization_id=OrganizationId(UUID(int=n)), place_id=PlaceId(UUID(int=n + 1))) for n in (70, 80)
)
KITCHEN = Receiver(organization_id=OrganizationId(UUID(int=2)), place_id=PlaceId(UUID(int=3)))
CARRIED = Followed(status="in_transit", volunteer_id=ANA, receiver=SHELTER)


def test_a_split_hold_keeps_its_sum() -> None:
    """Part of what is held is for the sibling's line; no bucket of the batch moves."""
    batch = a_held_batch(4)

    batch.split_hold(LINE, sibling_id=OTHER_LINE, sibling_delivery_id=SIBLING, quantity=3)

    assert buckets(batch) == (10, 6, 4, 0, 0, 0)
    assert [(hold.delivery_id, hold.held) for hold in batch.holds.values()] == [(DELIVERY, 1), (SIBLING, 3)]
    batch.pick_up(OTHER_LINE, picked=3, now=NOW)
    batch.release(LINE, reason="cancelled")
    assert buckets(batch) == (10, 7, 0, 3, 0, 0)


def test_both_halves_tell_of_a_split_and_one_counts() -> None:
    """The same split told again changes nothing, also when the sibling's goods are on the road by then."""
    batch = a_held_batch(4)
    for _ in range(2):
        batch.split_hold(LINE, sibling_id=OTHER_LINE, sibling_delivery_id=SIBLING, quantity=3)
    batch.pick_up(OTHER_LINE, picked=3, now=NOW)

    batch.split_hold(LINE, sibling_id=OTHER_LINE, sibling_delivery_id=SIBLING, quantity=3)

    assert recorded(batch).count("BatchHoldSplit") == 1


def test_a_hold_that_moved_whole_is_over() -> None:
    """When the sibling takes all of a line, nothing is held for the old one, and it can neither leave nor be released."""
    batch = a_held_batch(4)
    batch.split_hold(LINE, sibling_id=OTHER_LINE, sibling_delivery_id=SIBLING, quantity=4)
    version = batch.version

    batch.release(LINE, reason="cancelled")
    with pytest.raises(HoldNotPossible):
        batch.pick_up(LINE, picked=1, now=NOW)

    assert (batch.holds[LINE].state, batch.version) == (HoldState.RELEASED, version)
    assert buckets(batch) == (10, 6, 4, 0, 0, 0)


def test_only_what_is_held_is_split() -> None:
    """Not more than the hold has, not nothing, not what is on the road, not a hold nobody knows."""
    held, carried = a_held_batch(4), a_carried_batch(4)

    with pytest.raises(MoreThanHeld):
        held.split_hold(LINE, sibling_id=OTHER_LINE, sibling_delivery_id=SIBLING, quantity=5)
    with pytest.raises(Invalid):
        held.split_hold(LINE, sibling_id=OTHER_LINE, sibling_delivery_id=SIBLING, quantity=0)
    with pytest.raises(HoldNotPossible):
        carried.split_hold(LINE, sibling_id=OTHER_LINE, sibling_delivery_id=SIBLING, quantity=1)
    with pytest.raises(HoldNotFound):
        held.split_hold(HoldId(UUID(int=9)), sibling_id=OTHER_LINE, sibling_delivery_id=SIBLING, quantity=1)


def test_a_recall_after_a_split_names_both_deliveries() -> None:
    """The sibling never asked for a hold, and is told all the same."""
    batch = a_held_batch(4)
    batch.split_hold(LINE, sibling_id=OTHER_LINE, sibling_delivery_id=SIBLING, quantity=3)

    batch.recall(severity=Severity.CRITICAL, reason="listeria")

    assert batch.pending[-1].delivery_ids == (DELIVERY, SIBLING)


def test_every_part_of_a_hold_has_its_place() -> None:
    """Delivered at two doors, some lost, some returned, the rest with the volunteer: each with its quantity."""
    batch = a_carried_batch(9)
    batch.deliver(LINE, delivered=3, receiver=SHELTER)
    batch.lose(LINE, lost=1)
    batch.deliver(LINE, delivered=5, receiver=SCHOOL)
    batch.take_back(LINE, returned=1, usable=True)

    found = holder(batch, LINE, CARRIED)

    assert set(found.parts) == {
        Part(where=Where.IN_TRANSIT, quantity=2, volunteer_id=ANA),
        Part(where=Where.DELIVERED, quantity=3, at=SHELTER),
        Part(where=Where.DELIVERED, quantity=2, at=SCHOOL),
        Part(where=Where.RETURNED, quantity=1, at=KITCHEN),
        Part(where=Where.LOST, quantity=1),
    }
    assert sum(part.quantity for part in found.parts) == 9


def test_what_is_not_picked_up_is_with_the_provider() -> None:
    """Held goods stand where the batch stands, whoever has claimed them; a rejected hold never held any."""
    batch = a_held_batch(4)
    batch.hold(OTHER_LINE, delivery_id=SIBLING, quantity=99, now=NOW)

    assert granted(batch) == [LINE]
    assert holder(batch, LINE, None).parts == (Part(where=Where.HELD, quantity=4, at=KITCHEN),)


def test_goods_delivered_before_doors_were_kept_are_still_counted() -> None:
    """A delivery without a known door is a part without one."""
    batch = a_carried_batch(4)
    batch.deliver(LINE, delivered=4)

    assert holder(batch, LINE, None).parts == (Part(where=Where.DELIVERED, quantity=4),)


def test_an_offer_taken_back_can_be_recalled_when_somebody_has_a_part_of_it() -> None:
    """Who was brought goods has to be told; where nothing was delivered, cancelled is the end."""
    eaten, untouched = a_carried_batch(4), a_ready_batch()
    eaten.deliver(LINE, delivered=4)
    for batch in (eaten, untouched):
        batch.cancel(reason="kitchen closes")

    eaten.recall(severity=Severity.HIGH, reason="glass")

    assert (eaten.status, eaten.allowed) == (Status.RECALLED, [])
    with pytest.raises(InvalidTransition) as refused:
        untouched.recall(severity=Severity.HIGH, reason="glass")
    assert refused.value.details == {"current_status": Status.CANCELLED, "allowed": []}


def test_the_newest_reading_decides_the_alarm() -> None:
    """Out of band raises it, in band ends it; without any reading there is none."""
    batch = a_batch(storage=Storage.CHILLED)
    seen = [batch.temperature_alarm]

    for reading in (120, 40, 81, 80):
        batch.record_temperature(reading, stage=Stage.STORAGE, now=NOW)
        seen.append(batch.temperature_alarm)

    assert seen == [False, True, False, True, False]
