"""The rules of a batch, without I/O: given a batch, when a command, then facts or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from batches.domain import (
    ALLOWED,
    EVENTS,
    Batch,
    BatchId,
    BatchInUse,
    Category,
    DeliveryId,
    HoldId,
    HoldNotFound,
    HoldNotPossible,
    HoldState,
    Kind,
    MoreThanHeld,
    OrganizationId,
    PickupWindow,
    PlaceId,
    Product,
    QuantityCommitted,
    Receiver,
    Rejection,
    Severity,
    Stage,
    Status,
    Storage,
    TemperatureOutOfBand,
    TemperatureRequired,
    Unit,
    UseByRequired,
    UseByTooSoon,
)
from chassis.kernel import Invalid, InvalidTransition

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HALF_HOUR = timedelta(minutes=30)
TOMORROW = NOW + timedelta(days=1)
BATCH = BatchId(UUID(int=1))
DELIVERY = DeliveryId(UUID(int=50))
LINE = HoldId(UUID(int=100))
OTHER_LINE = HoldId(UUID(int=101))
SPLIT_LINE = HoldId(UUID(int=102))


def a_batch(**changes: Any) -> Batch:
    """Ten portions in `producing`, unless told otherwise."""
    announced: dict[str, Any] = {
        "organization_id": OrganizationId(UUID(int=2)),
        "place_id": PlaceId(UUID(int=3)),
        "kind": Kind.FOOD,
        "product": Product(name="Feijoada", category=Category.PREPARED),
        "unit": Unit.PORTION,
        "quantity": 10,
        "storage": Storage.AMBIENT,
        "pickup_window": PickupWindow(from_at=NOW, to_at=NOW + timedelta(hours=3)),
        "use_by_at": TOMORROW,
        "now": NOW,
    }
    return Batch.create(BATCH, **(announced | changes))


def a_ready_batch(**changes: Any) -> Batch:
    """Ten portions that can be held."""
    batch = a_batch(**changes)
    batch.mark_ready(now=NOW, min_handling=HALF_HOUR)
    return batch


def a_held_batch(quantity: int = 4) -> Batch:
    """Ten portions, some of them held for one line."""
    batch = a_ready_batch()
    batch.hold(LINE, delivery_id=DELIVERY, quantity=quantity, now=NOW)
    return batch


def a_carried_batch(picked: int = 4) -> Batch:
    """Ten portions, some of them on the road."""
    batch = a_held_batch(picked)
    batch.pick_up(LINE, picked=picked, now=NOW)
    return batch


def buckets(batch: Batch) -> tuple[int, int, int, int, int, int]:
    """total, available, held, in_transit, delivered, lost."""
    return batch.total, batch.available, batch.held, batch.in_transit, batch.delivered, batch.lost


def recorded(batch: Batch) -> list[str]:
    """The names of what happened, in order."""
    return [type(event).__name__ for event in batch.pending]


def test_a_new_batch_is_producing() -> None:
    """A created batch is in `producing` with everything available and nothing held."""
    batch = a_batch()

    assert batch.status is Status.PRODUCING
    assert buckets(batch) == (10, 10, 0, 0, 0, 0)


@pytest.mark.parametrize("quantity", [0, -1, 1_000_000_001])
def test_a_quantity_out_of_range_is_invalid(quantity: int) -> None:
    """A quantity is between one and a thousand tonnes."""
    with pytest.raises(Invalid) as refused:
        a_batch(quantity=quantity)

    assert refused.value.details["pointer"] == "/quantity"


def test_a_use_by_time_in_the_past_is_invalid() -> None:
    """Nobody can offer what is past its use-by time."""
    with pytest.raises(Invalid):
        a_batch(use_by_at=NOW)


def test_a_pickup_window_must_have_length() -> None:
    """A window that ends when it begins is invalid."""
    with pytest.raises(Invalid):
        a_batch(pickup_window=PickupWindow(from_at=NOW, to_at=NOW))


def test_ready_takes_what_really_came_out() -> None:
    """The quantity told with `ready` replaces the announced one."""
    batch = a_batch()

    batch.mark_ready(now=NOW, min_handling=HALF_HOUR, quantity=7)

    assert batch.status is Status.READY
    assert buckets(batch) == (7, 7, 0, 0, 0, 0)


def test_ready_needs_safe_time() -> None:
    """A batch with less than the handling time left cannot be ready; exactly the handling time is enough."""
    late = a_batch(use_by_at=NOW + HALF_HOUR - timedelta(seconds=1))
    just_in_time = a_batch(use_by_at=NOW + HALF_HOUR)

    with pytest.raises(UseByTooSoon):
        late.mark_ready(now=NOW, min_handling=HALF_HOUR)
    just_in_time.mark_ready(now=NOW, min_handling=HALF_HOUR)

    assert just_in_time.status is Status.READY


def test_only_aid_may_lack_a_use_by_time() -> None:
    """Food and medicine need a use-by time to be ready; blankets do not."""
    food = a_batch(use_by_at=None)
    aid = a_batch(use_by_at=None, kind=Kind.AID)

    with pytest.raises(UseByRequired):
        food.mark_ready(now=NOW, min_handling=HALF_HOUR)
    aid.mark_ready(now=NOW, min_handling=HALF_HOUR)

    assert aid.status is Status.READY


def test_a_use_by_time_may_be_told_when_ready() -> None:
    """The use-by time told with `ready` replaces the announced one."""
    batch = a_batch(use_by_at=None)

    batch.mark_ready(now=NOW, min_handling=HALF_HOUR, use_by_at=TOMORROW)

    assert batch.use_by_at == TOMORROW


@pytest.mark.parametrize(
    ("storage", "good", "bad"),
    [
        (Storage.CHILLED, 0, -1),
        (Storage.CHILLED, 80, 81),
        (Storage.FROZEN, -120, -119),
        (Storage.HOT, 600, 599),
    ],
)
def test_ready_needs_a_temperature_in_band(storage: Storage, good: int, bad: int) -> None:
    """Chilled, frozen and hot goods need a reading inside the band, whose ends belong to it."""
    batch = a_batch(storage=storage)

    with pytest.raises(TemperatureRequired):
        batch.mark_ready(now=NOW, min_handling=HALF_HOUR)
    with pytest.raises(TemperatureOutOfBand):
        batch.mark_ready(now=NOW, min_handling=HALF_HOUR, temperature_dc=bad)
    batch.mark_ready(now=NOW, min_handling=HALF_HOUR, temperature_dc=good)

    assert batch.temperature_dc == good


def test_a_hold_moves_available_to_held() -> None:
    """A granted hold takes its quantity out of what is available."""
    batch = a_held_batch(4)

    assert buckets(batch) == (10, 6, 4, 0, 0, 0)
    assert batch.holds[LINE].state is HoldState.HELD


def test_the_same_hold_twice_is_answered_once() -> None:
    """A repeated hold, granted or rejected, records nothing more."""
    granted, rejected = a_held_batch(4), a_held_batch(11)
    versions = granted.version, rejected.version

    granted.hold(LINE, delivery_id=DELIVERY, quantity=4, now=NOW)
    rejected.hold(LINE, delivery_id=DELIVERY, quantity=11, now=NOW)

    assert (granted.version, rejected.version) == versions


def test_a_hold_of_more_than_available_is_rejected() -> None:
    """A batch is never oversold, and the rejection is an event with a reason."""
    batch = a_held_batch(7)

    batch.hold(OTHER_LINE, delivery_id=DELIVERY, quantity=4, now=NOW)

    assert batch.pending[-1].reason is Rejection.INSUFFICIENT
    assert buckets(batch) == (10, 3, 7, 0, 0, 0)


def test_an_expired_batch_cannot_be_held() -> None:
    """A hold at the use-by time is rejected even when no timer has fired yet."""
    batch = a_ready_batch()

    batch.hold(LINE, delivery_id=DELIVERY, quantity=1, now=TOMORROW)

    assert batch.pending[-1].reason is Rejection.EXPIRED


def test_a_batch_that_is_not_ready_cannot_be_held() -> None:
    """A hold on a batch still in the making, or taken back, is rejected."""
    producing, cancelled = a_batch(), a_ready_batch()
    cancelled.cancel(reason="eaten")

    for batch in (producing, cancelled):
        batch.hold(LINE, delivery_id=DELIVERY, quantity=1, now=NOW)

        assert batch.pending[-1].reason is Rejection.NOT_READY


def test_a_recalled_batch_cannot_be_held() -> None:
    """A hold on a recalled batch is rejected."""
    batch = a_ready_batch()
    batch.recall(severity=Severity.HIGH, reason="glass")

    batch.hold(LINE, delivery_id=DELIVERY, quantity=1, now=NOW)

    assert batch.pending[-1].reason is Rejection.RECALLED


def test_a_released_hold_is_available_again() -> None:
    """A release puts everything back, once."""
    batch = a_held_batch(4)

    batch.release(LINE, reason="cancelled")
    batch.release(LINE, reason="cancelled")

    assert buckets(batch) == (10, 10, 0, 0, 0, 0)
    assert recorded(batch).count("BatchHoldReleased") == 1


def test_holding_everything_depletes_and_a_release_replenishes() -> None:
    """`ready` and `depleted` follow what is available."""
    batch = a_held_batch(10)
    depleted = batch.status

    batch.release(LINE, reason="cancelled")

    assert (depleted, batch.status) == (Status.DEPLETED, Status.READY)
    assert recorded(batch)[-2:] == ["BatchHoldReleased", "BatchReplenished"]


def test_a_pickup_shortfall_is_available_again() -> None:
    """What was held and not picked up goes back."""
    batch = a_held_batch(4)

    batch.pick_up(LINE, picked=3, now=NOW)

    assert buckets(batch) == (10, 7, 0, 3, 0, 0)


def test_a_shortfall_after_expiry_is_lost() -> None:
    """Nothing goes back on offer after the use-by time."""
    batch = a_held_batch(4)
    batch.expire(now=TOMORROW)

    batch.pick_up(LINE, picked=3, now=TOMORROW)

    assert buckets(batch) == (10, 0, 0, 3, 0, 7)


def test_picking_up_nothing_releases_the_hold() -> None:
    """A line of which nothing was picked up is released, once."""
    batch = a_held_batch(4)

    batch.pick_up(LINE, picked=0, now=NOW)
    batch.pick_up(LINE, picked=0, now=NOW)

    assert batch.holds[LINE].state is HoldState.RELEASED
    assert buckets(batch) == (10, 10, 0, 0, 0, 0)


@pytest.mark.parametrize("picked", [-1, 5])
def test_a_pickup_never_exceeds_its_hold(picked: int) -> None:
    """0 ≤ picked ≤ held."""
    batch = a_held_batch(4)

    with pytest.raises(MoreThanHeld):
        batch.pick_up(LINE, picked=picked, now=NOW)


def test_a_released_hold_cannot_be_picked_up() -> None:
    """What was given back is not there to be handed over."""
    batch = a_held_batch(4)
    batch.release(LINE, reason="cancelled")

    with pytest.raises(HoldNotPossible):
        batch.pick_up(LINE, picked=4, now=NOW)


def test_a_hold_on_the_road_cannot_be_released() -> None:
    """A release comes before the pickup or not at all."""
    batch = a_carried_batch()

    with pytest.raises(HoldNotPossible):
        batch.release(LINE, reason="cancelled")


def test_an_unknown_hold_is_not_found() -> None:
    """A command about a hold that never existed is an error, not a guess."""
    with pytest.raises(HoldNotFound):
        a_ready_batch().release(LINE, reason="cancelled")


def test_totals_so_far_make_repeats_harmless() -> None:
    """Deliver, take back and lose take totals: repeating one changes nothing, a higher one adds the difference."""
    batch = a_carried_batch(6)

    batch.deliver(LINE, delivered=2)
    batch.deliver(LINE, delivered=2)
    batch.deliver(LINE, delivered=3)
    batch.take_back(LINE, returned=2, usable=True)
    batch.take_back(LINE, returned=2, usable=True)
    batch.lose(LINE, lost=1)
    batch.lose(LINE, lost=1)

    assert buckets(batch) == (10, 6, 0, 0, 3, 1)
    assert batch.holds[LINE].state is HoldState.SETTLED


def test_more_than_was_picked_up_cannot_arrive() -> None:
    """Delivered, returned and lost together never exceed what was picked up."""
    batch = a_carried_batch(4)
    batch.deliver(LINE, delivered=3)

    with pytest.raises(MoreThanHeld):
        batch.take_back(LINE, returned=2, usable=True)


def test_unusable_returns_are_lost() -> None:
    """What comes back unusable is not offered again."""
    batch = a_carried_batch(4)

    batch.take_back(LINE, returned=4, usable=False)

    assert buckets(batch) == (10, 6, 0, 0, 0, 4)


def test_a_batch_closes_when_nothing_is_left() -> None:
    """A depleted batch closes with its last delivery."""
    batch = a_carried_batch(10)

    batch.deliver(LINE, delivered=10)

    assert batch.status is Status.CLOSED
    assert recorded(batch)[-2:] == ["BatchDelivered", "BatchClosed"]


def test_an_adjustment_cannot_take_what_is_committed() -> None:
    """What is held cannot be adjusted away; down to it is fine."""
    batch = a_held_batch(4)

    with pytest.raises(QuantityCommitted):
        batch.adjust(3, reason="counted again")
    batch.adjust(4, reason="counted again")

    assert buckets(batch) == (4, 0, 4, 0, 0, 0)
    assert batch.status is Status.DEPLETED


def test_a_batch_in_use_cannot_be_cancelled() -> None:
    """A batch with something held or on the road cannot be taken back."""
    for batch in (a_held_batch(), a_carried_batch()):
        with pytest.raises(BatchInUse):
            batch.cancel(reason="changed my mind")


def test_expiry_waits_for_its_time() -> None:
    """A timer that fires early, or twice, records nothing."""
    batch = a_held_batch(4)

    batch.expire(now=TOMORROW - timedelta(seconds=1))
    assert batch.status is Status.READY
    batch.expire(now=TOMORROW)
    batch.expire(now=TOMORROW)

    assert recorded(batch).count("BatchExpired") == 1
    assert buckets(batch) == (10, 0, 4, 0, 0, 6)


def test_a_recall_names_every_holder() -> None:
    """A recall names each delivery that ever held any of the batch, even after it closed."""
    batch = a_carried_batch(10)
    batch.deliver(LINE, delivered=10)

    batch.recall(severity=Severity.CRITICAL, reason="botulism")

    assert batch.status is Status.RECALLED
    assert batch.pending[-1].delivery_ids == (DELIVERY,)


def test_what_comes_back_to_a_recalled_batch_is_lost() -> None:
    """Recalled goods are never offered again."""
    batch = a_carried_batch(4)
    batch.recall(severity=Severity.LOW, reason="wrong label")

    batch.take_back(LINE, returned=4, usable=True)

    assert buckets(batch) == (10, 0, 0, 0, 0, 10)


def test_a_reading_says_whether_it_is_in_band() -> None:
    """Readings are kept either way."""
    batch = a_batch(storage=Storage.CHILLED)

    batch.record_temperature(40, stage=Stage.STORAGE, now=NOW)
    batch.record_temperature(95, stage=Stage.TRANSIT, now=NOW)

    assert [event.in_band for event in batch.pending[-2:]] == [True, False]


def the_batch_in(status: Status) -> Batch:
    """A batch brought to a status by commands."""
    batch = a_carried_batch(10) if status in (Status.DEPLETED, Status.CLOSED) else a_batch()
    if status is Status.READY:
        batch.mark_ready(now=NOW, min_handling=HALF_HOUR)
    if status is Status.CLOSED:
        batch.deliver(LINE, delivered=10)
    if status is Status.CANCELLED:
        batch.cancel(reason="test")
    if status is Status.EXPIRED:
        batch.expire(now=TOMORROW)
    if status is Status.RECALLED:
        batch.recall(severity=Severity.LOW, reason="test")
    return batch


COMMANDS: dict[str, Callable[[Batch], None]] = {
    "ready": lambda batch: batch.mark_ready(now=NOW, min_handling=HALF_HOUR),
    "adjust": lambda batch: batch.adjust(30, reason="test"),
    "cancel": lambda batch: batch.cancel(reason="test"),
    "recall": lambda batch: batch.recall(severity=Severity.LOW, reason="test"),
    "temperatures": lambda batch: batch.record_temperature(40, stage=Stage.STORAGE, now=NOW),
}


def test_every_command_of_the_table_is_tried() -> None:
    """None is left out below."""
    assert COMMANDS.keys() == {command for commands in ALLOWED.values() for command in commands}


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_table_decides_which_commands_exist(status: Status, command: str) -> None:
    """A command the table allows works in that status; any other is refused, naming the status and what is allowed."""
    batch = the_batch_in(status)
    assert batch.status is status

    if (command, status) == ("cancel", Status.DEPLETED):  # the table allows it, but everything is on the road
        with pytest.raises(BatchInUse):
            COMMANDS[command](batch)
    elif command in ALLOWED[status]:
        COMMANDS[command](batch)
    else:
        with pytest.raises(InvalidTransition) as refused:
            COMMANDS[command](batch)
        assert refused.value.details == {"current_status": status, "allowed": ALLOWED[status]}


def test_every_event_survives_json() -> None:
    """An event written as JSON and read back is equal, and folding what was read gives the same batch."""
    batch = a_carried_batch(10)
    batch.deliver(LINE, delivered=3, receiver=Receiver(organization_id=batch.organization_id, place_id=batch.place_id))
    batch.take_back(LINE, returned=2, usable=True)
    batch.lose(LINE, lost=1)
    batch.adjust(12, reason="found two")
    batch.hold(SPLIT_LINE, delivery_id=DELIVERY, quantity=2, now=NOW)
    batch.split_hold(SPLIT_LINE, sibling_id=HoldId(UUID(int=103)), sibling_delivery_id=DELIVERY, quantity=1)
    batch.hold(OTHER_LINE, delivery_id=DELIVERY, quantity=99, now=NOW)
    batch.record_temperature(40, stage=Stage.STORAGE, now=NOW)
    batch.recall(severity=Severity.LOW, reason="label")

    read: list[Any] = [
        msgspec.json.decode(msgspec.json.encode(e), type=EVENTS[type(e).__name__]) for e in batch.pending
    ]

    assert read == batch.pending
    assert Batch.fold(BATCH, read) == batch
