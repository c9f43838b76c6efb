"""The rules of a delivery, without I/O: given a delivery, when a command, then facts or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from chassis.kernel import Conflict, Forbidden, Invalid, InvalidTransition, NotFound
from deliveries import domain
from deliveries.domain import (
    ALLOWED,
    EVENTS,
    BatchId,
    CodeTries,
    Delivery,
    DeliveryId,
    Dropped,
    Handshake,
    LineId,
    OrganizationId,
    PlaceId,
    PlannedLine,
    Spoilage,
    Status,
    Storage,
    UserId,
    Window,
    code_at,
    code_matches,
    entered_at,
    hotp,
)

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HALF_HOUR = timedelta(minutes=30)
DELIVERY = DeliveryId(UUID(int=1))
RICE, BEANS = LineId(UUID(int=10)), LineId(UUID(int=11))
RICE_BATCH, BEANS_BATCH = BatchId(UUID(int=20)), BatchId(UUID(int=21))
PROVIDER, SHELTER, SCHOOL = (OrganizationId(UUID(int=n)) for n in (30, 31, 32))
KITCHEN, GYM, HALL = (PlaceId(UUID(int=n)) for n in (40, 41, 42))
ANA, BIA, CAIO = (UserId(UUID(int=n)) for n in (50, 51, 52))
SECRET = b"a per-delivery secret of 32 bytes"


def a_line(line_id: LineId = RICE, batch_id: BatchId = RICE_BATCH, **changes: Any) -> PlannedLine:
    """Five portions of one batch, unless told otherwise."""
    told: dict[str, Any] = {
        "provider_id": PROVIDER,
        "pickup_place_id": KITCHEN,
        "product_name": "Marmita",
        "category": "prepared",
        "storage": Storage.AMBIENT,
        "unit": "portion",
        "quantity": 5,
        "use_by_at": NOW + timedelta(hours=8),
    }
    return PlannedLine(line_id=line_id, batch_id=batch_id, **(told | changes))


def a_planned(*lines: PlannedLine, **changes: Any) -> Delivery:
    """Two lines to a shelter, holds pending."""
    told: dict[str, Any] = {
        "receiving_organization_id": SHELTER,
        "receiving_place_id": GYM,
        "lines": lines or (a_line(), a_line(BEANS, BEANS_BATCH)),
        "accepts": None,
        "planned_by": CAIO,
        "now": NOW,
    }
    return Delivery.plan(DELIVERY, **(told | changes))


def an_open(*lines: PlannedLine, **changes: Any) -> Delivery:
    """Every hold granted."""
    delivery = a_planned(*lines, **changes)
    for line_id in list(delivery.lines):
        delivery.grant_hold(line_id, now=NOW)
    return delivery


def claim(delivery: Delivery, volunteer_id: UserId = ANA, **changes: Any) -> None:
    """An active volunteer with nothing else to do claims."""
    told: dict[str, Any] = {
        "now": NOW,
        "min_handling": HALF_HOUR,
        "active": True,
        "vehicle_fits": True,
        "overlapping": False,
        "claims_today": 0,
        "daily_cap": 5,
    }
    delivery.claim(volunteer_id, **(told | changes))


def a_claimed(*lines: PlannedLine, **changes: Any) -> Delivery:
    """Claimed by Ana."""
    delivery = an_open(*lines, **changes)
    claim(delivery)
    return delivery


def a_carried(*lines: PlannedLine, temperature_dc: int | None = None) -> Delivery:
    """Everything planned is in Ana's hands."""
    delivery = a_claimed(*lines)
    picked = {line_id: line.planned for line_id, line in delivery.lines.items()}
    delivery.pickup(picked, given_by=CAIO, now=NOW, temperature_dc=temperature_dc)
    return delivery


def a_refused() -> Delivery:
    """Nothing was taken; everything is still in Ana's hands."""
    delivery = a_carried()
    delivery.refuse(reason="closed", now=NOW)
    return delivery


def recorded(delivery: Delivery) -> list[str]:
    """The names of what happened, in order."""
    return [type(event).__name__ for event in delivery.pending]


def test_a_delivery_opens_with_its_last_hold() -> None:
    """It stays planned until every line is granted; a repeated grant records nothing."""
    delivery = a_planned()

    delivery.grant_hold(RICE, now=NOW)
    delivery.grant_hold(RICE, now=NOW)
    still = delivery.status
    delivery.grant_hold(BEANS, now=NOW)

    assert (still, delivery.status) == (Status.PLANNED, Status.OPEN)
    assert recorded(delivery) == ["DeliveryPlanned", "HoldGranted", "HoldGranted", "DeliveryOpened"]


def test_a_rejected_hold_cancels_the_delivery() -> None:
    """One line that is not to be had ends it, and a grant that comes late changes nothing."""
    delivery = a_planned()

    delivery.reject_hold(RICE, reason="insufficient")
    delivery.grant_hold(BEANS, now=NOW)

    assert delivery.status is Status.CANCELLED
    assert delivery.ended_reason == "hold-rejected: insufficient"


@pytest.mark.parametrize(
    ("lines", "refusal"),
    [
        ((a_line(), a_line(BEANS, RICE_BATCH)), Invalid),
        ((a_line(quantity=0),), Invalid),
        ((a_line(), a_line(BEANS, BEANS_BATCH, pickup_place_id=HALL)), domain.SeveralPickupPlaces),
        ((a_line(storage=Storage.HOT), a_line(BEANS, BEANS_BATCH, storage=Storage.CHILLED)), domain.MixedStorage),
        ((a_line(category="clothing"),), domain.CategoryNotAccepted),
    ],
)
def test_a_plan_that_cannot_work_is_refused(lines: tuple[PlannedLine, ...], refusal: type[Exception]) -> None:
    """Each batch once, real quantities, one pickup place, one temperature band, accepted categories."""
    with pytest.raises(refusal):
        a_planned(*lines, accepts={"prepared"})


def test_a_plan_without_lines_is_invalid() -> None:
    """A delivery carries something."""
    with pytest.raises(Invalid):
        Delivery.plan(
            DELIVERY,
            receiving_organization_id=SHELTER,
            receiving_place_id=GYM,
            lines=(),
            accepts=None,
            planned_by=CAIO,
            now=NOW,
        )


def test_the_second_claim_loses() -> None:
    """Once claimed, everybody else is told so."""
    delivery = a_claimed()

    with pytest.raises(InvalidTransition) as refused:
        claim(delivery, BIA)

    assert refused.value.details["current_status"] == Status.CLAIMED
    assert delivery.volunteer_id == ANA


@pytest.mark.parametrize(
    ("told", "refusal"),
    [
        ({"active": False}, domain.VolunteerNotActive),
        ({"vehicle_fits": False}, domain.VehicleDoesNotFit),
        ({"overlapping": True}, domain.ClaimOverlaps),
        ({"claims_today": 5}, domain.ClaimCapReached),
        ({"now": NOW + timedelta(hours=7, minutes=31)}, domain.NotEnoughTime),
    ],
)
def test_a_claim_that_cannot_work_is_refused(told: dict[str, Any], refusal: type[Exception]) -> None:
    """An active volunteer, a fitting vehicle, a free slot, below the cap, with safe time left."""
    delivery = an_open()

    with pytest.raises(refusal):
        claim(delivery, **told)

    assert delivery.status is Status.OPEN


def test_a_claim_far_ahead_has_to_be_confirmed() -> None:
    """More than two hours before the pickup: confirm until an hour before, or lose the claim."""
    pickup_at = NOW + timedelta(hours=2, seconds=1)
    window = Window(from_at=pickup_at, to_at=pickup_at + timedelta(hours=1))
    kept, lost = a_claimed(pickup_window=window), a_claimed(pickup_window=window)

    kept.confirm()
    for delivery in (kept, lost):
        delivery.release_unconfirmed(now=pickup_at - timedelta(minutes=60, seconds=1))
        assert delivery.status is Status.CLAIMED
        delivery.release_unconfirmed(now=pickup_at - timedelta(minutes=60))

    assert (kept.status, lost.status) == (Status.CLAIMED, Status.OPEN)


def test_a_claim_near_the_pickup_counts_as_confirmed() -> None:
    """Two hours before or less needs no confirmation."""
    window = Window(from_at=NOW + timedelta(hours=2), to_at=NOW + timedelta(hours=3))

    assert a_claimed(pickup_window=window).confirm_by is None


def test_a_released_delivery_can_be_claimed_again() -> None:
    """A release opens it, and the next claim has codes of its own."""
    delivery = a_claimed()
    version = delivery.secret_version

    delivery.release(reason="flat tyre")
    claim(delivery, BIA)

    assert delivery.volunteer_id == BIA
    assert delivery.secret_version == version + 1


def test_a_no_show_waits_for_the_pickup_window() -> None:
    """Nobody is late before the window begins; afterwards it is open again."""
    window = Window(from_at=NOW + timedelta(hours=1), to_at=NOW + timedelta(hours=2))
    delivery = a_claimed(pickup_window=window)

    with pytest.raises(domain.TooEarly):
        delivery.no_show(reported_by=CAIO, now=NOW)
    delivery.no_show(reported_by=CAIO, now=window.from_at)

    assert delivery.status is Status.OPEN
    assert delivery.no_shows[0].volunteer_id == ANA


def test_a_no_show_can_be_contested_once() -> None:
    """The volunteer's word stands beside the reporter's; others have nothing to contest."""
    delivery = a_claimed()
    delivery.no_show(reported_by=CAIO, now=NOW)

    with pytest.raises(domain.NoShowNotFound):
        delivery.contest_no_show(BIA, reason="not me")
    delivery.contest_no_show(ANA, reason="door was locked")
    with pytest.raises(domain.NoShowNotFound):
        delivery.contest_no_show(ANA, reason="again")

    assert delivery.no_shows[0].contested_reason == "door was locked"


def test_a_coordinator_reassigns() -> None:
    """The former claim is released and the new one counts as confirmed."""
    delivery = a_claimed()

    delivery.reassign(BIA, reason="sick", now=NOW)

    assert (delivery.status, delivery.volunteer_id) == (Status.CLAIMED, BIA)
    assert recorded(delivery)[-2:] == ["ClaimReleased", "DeliveryClaimed"]


def test_the_main_path_ends_delivered() -> None:
    """Planned, open, claimed, carried, delivered: everything picked is delivered."""
    delivery = a_carried()

    delivery.dropoff({RICE: Dropped(delivered=5), BEANS: Dropped(delivered=5)}, now=NOW)

    assert delivery.status is Status.DELIVERED
    assert [line.delivered for line in delivery.lines.values()] == [5, 5]


def test_a_partial_pickup_carries_less() -> None:
    """A line may be picked in part or not at all, as long as something is."""
    delivery = a_claimed()

    delivery.pickup({RICE: 3, BEANS: 0}, given_by=CAIO, now=NOW)
    delivery.dropoff({RICE: Dropped(delivered=3)}, now=NOW)

    assert delivery.status is Status.DELIVERED


@pytest.mark.parametrize(
    ("picked", "refusal"),
    [
        ({RICE: 6, BEANS: 0}, domain.QuantityMismatch),
        ({RICE: -1, BEANS: 5}, domain.QuantityMismatch),
        ({RICE: 5}, domain.QuantityMismatch),
        ({RICE: 0, BEANS: 0}, domain.NothingPickedUp),
        ({RICE: 5, BEANS: 5, LineId(UUID(int=99)): 1}, domain.LineNotFound),
    ],
)
def test_a_pickup_fits_the_plan(picked: dict[LineId, int], refusal: type[Exception]) -> None:
    """Every line named, 0 ≤ picked ≤ planned, some > 0."""
    with pytest.raises(refusal):
        a_claimed().pickup(picked, given_by=CAIO, now=NOW)


def test_nobody_hands_over_to_oneself() -> None:
    """One person is never giver and taker."""
    with pytest.raises(Forbidden):
        a_claimed().pickup({RICE: 5, BEANS: 5}, given_by=ANA, now=NOW)


def test_nothing_changes_hands_after_its_use_by_time() -> None:
    """At the use-by time neither pickup nor drop-off is possible."""
    late = NOW + timedelta(hours=8)

    with pytest.raises(domain.GoodsExpired):
        a_claimed().pickup({RICE: 5, BEANS: 5}, given_by=CAIO, now=late)
    with pytest.raises(domain.GoodsExpired):
        a_carried().dropoff({RICE: Dropped(delivered=5), BEANS: Dropped(delivered=5)}, now=late)


def test_cold_goods_need_a_reading_at_both_ends() -> None:
    """Chilled goods change hands only between 0 and 8 °C."""
    chilled = a_line(storage=Storage.CHILLED)
    waiting, carried = a_claimed(chilled), a_carried(chilled, temperature_dc=40)

    with pytest.raises(domain.TemperatureRequired):
        waiting.pickup({RICE: 5}, given_by=CAIO, now=NOW)
    with pytest.raises(domain.TemperatureOutOfBand):
        carried.dropoff({RICE: Dropped(delivered=5)}, now=NOW, temperature_dc=81)
    carried.dropoff({RICE: Dropped(delivered=5)}, now=NOW, temperature_dc=80)

    assert carried.status is Status.DELIVERED


@pytest.mark.parametrize(
    "dropped",
    [
        {RICE: Dropped(delivered=5)},
        {RICE: Dropped(delivered=5), BEANS: Dropped(delivered=4)},
        {RICE: Dropped(delivered=6, rejected=-1), BEANS: Dropped(delivered=5)},
    ],
)
def test_a_dropoff_accounts_for_everything_in_hand(dropped: dict[LineId, Dropped]) -> None:
    """Delivered and rejected together are what is in hand, line by line."""
    with pytest.raises(domain.QuantityMismatch):
        a_carried().dropoff(dropped, now=NOW)


def test_rejected_goods_are_rerouted_and_delivered_elsewhere() -> None:
    """What one receiver rejects another may take; the codes change with the place."""
    delivery = a_carried()
    version = delivery.secret_version

    delivery.dropoff({RICE: Dropped(delivered=5), BEANS: Dropped(delivered=1, rejected=4)}, now=NOW)
    delivery.reroute(organization_id=SCHOOL, place_id=HALL, accepts=None, now=NOW)
    delivery.dropoff({BEANS: Dropped(delivered=4)}, now=NOW)

    assert delivery.status is Status.DELIVERED
    assert (delivery.lines[BEANS].delivered, delivery.lines[BEANS].rejected) == (5, 4)
    assert (delivery.receiving_place_id, delivery.secret_version) == (HALL, version + 1)


def test_the_new_place_must_take_the_goods() -> None:
    """A reroute respects what the place accepts."""
    with pytest.raises(domain.CategoryNotAccepted):
        a_refused().reroute(organization_id=SCHOOL, place_id=HALL, accepts={"clothing"}, now=NOW)


def test_refused_goods_go_back_or_away() -> None:
    """Nothing delivered: the end is `returned` or `discarded`."""
    returned, discarded = a_refused(), a_refused()

    returned.return_(now=NOW)
    discarded.discard(reason="spilled", now=NOW)

    assert (returned.status, discarded.status) == (Status.RETURNED, Status.DISCARDED)


def test_after_a_partial_delivery_the_end_is_delivered() -> None:
    """The lines tell what came back."""
    delivery = a_carried()
    delivery.dropoff({RICE: Dropped(delivered=5), BEANS: Dropped(delivered=0, rejected=5)}, now=NOW)

    delivery.return_(now=NOW)

    assert delivery.status is Status.DELIVERED
    assert recorded(delivery)[-2:] == ["DeliveryReturned", "DeliveryCompleted"]
    assert delivery.lines[BEANS].returned == delivery.lines[BEANS].picked


def test_losing_the_last_of_it_ends_the_delivery() -> None:
    """What is lost is not in hand; with nothing left the delivery is over."""
    delivery = a_carried()

    delivery.lose({RICE: 5}, reason="rain", now=NOW)
    still = delivery.status
    delivery.lose({BEANS: 5}, reason="rain", now=NOW)

    assert (still, delivery.status) == (Status.IN_TRANSIT, Status.DISCARDED)


@pytest.mark.parametrize("lost", [{RICE: 6}, {RICE: 0}])
def test_only_what_is_in_hand_can_be_lost(lost: dict[LineId, int]) -> None:
    """1 ≤ lost ≤ in hand."""
    with pytest.raises(Conflict):
        a_carried().lose(lost, reason="rain", now=NOW)


@pytest.mark.parametrize(
    ("cause", "given", "expected"),
    [
        (Spoilage.RECALLED, a_planned, Status.CANCELLED),
        (Spoilage.RECALLED, an_open, Status.CANCELLED),
        (Spoilage.RECALLED, a_claimed, Status.CANCELLED),
        (Spoilage.EXPIRED, a_planned, Status.CANCELLED),
        (Spoilage.EXPIRED, an_open, Status.EXPIRED),
        (Spoilage.EXPIRED, a_claimed, Status.EXPIRED),
        (Spoilage.EXPIRED, a_carried, Status.REROUTING),
        (Spoilage.RECALLED, a_carried, Status.REROUTING),
        (Spoilage.RECALLED, a_refused, Status.REROUTING),
    ],
)
def test_a_spoiled_batch_stops_the_delivery(cause: Spoilage, given: Callable[[], Delivery], expected: Status) -> None:
    """Before the pickup it ends; on the road it has to go elsewhere; telling it twice changes nothing."""
    delivery = given()

    delivery.batch_spoiled(RICE_BATCH, cause=cause)
    version = delivery.version
    delivery.batch_spoiled(RICE_BATCH, cause=cause)

    assert delivery.status is expected
    assert delivery.version == version


def test_recalled_goods_are_not_rerouted() -> None:
    """After a recall in transit the goods go back or away, never to another receiver."""
    delivery = a_carried()
    delivery.batch_spoiled(RICE_BATCH, cause=Spoilage.RECALLED)

    with pytest.raises(domain.GoodsRecalled):
        delivery.reroute(organization_id=SCHOOL, place_id=HALL, accepts=None, now=NOW)


def test_a_batch_of_another_delivery_does_not_concern_this_one() -> None:
    """A recall of a batch that is not carried records nothing."""
    delivery = a_carried()

    delivery.batch_spoiled(BatchId(UUID(int=77)), cause=Spoilage.RECALLED)

    assert delivery.status is Status.IN_TRANSIT


def test_expiry_leaves_handling_time_to_the_open_and_all_time_to_the_claimed() -> None:
    """Open ones end half an hour before the use-by time, claimed ones at it, and a second timer does nothing."""
    waiting, claimed = an_open(), a_claimed()
    too_late = NOW + timedelta(hours=7, minutes=30)

    for delivery in (waiting, claimed):
        delivery.expire(now=too_late - timedelta(seconds=1), min_handling=HALF_HOUR)
        assert not delivery.ended
        delivery.expire(now=too_late, min_handling=HALF_HOUR)
        delivery.expire(now=too_late, min_handling=HALF_HOUR)

    assert (waiting.status, claimed.status) == (Status.EXPIRED, Status.CLAIMED)
    claimed.expire(now=NOW + timedelta(hours=8), min_handling=HALF_HOUR)
    assert recorded(claimed)[-1] == "DeliveryExpired"


def test_nothing_to_collect_fails_the_delivery() -> None:
    """The volunteer came in vain."""
    delivery = a_claimed()

    delivery.fail(reason="shop closed")

    assert delivery.status is Status.FAILED


def the_delivery_in(status: Status) -> Delivery:
    """A delivery brought to a status by commands."""
    given: dict[Status, Callable[[], Delivery]] = {
        Status.PLANNED: a_planned,
        Status.OPEN: an_open,
        Status.CLAIMED: a_claimed,
        Status.IN_TRANSIT: a_carried,
        Status.REROUTING: a_refused,
    }
    ends: dict[Status, tuple[Callable[[], Delivery], Callable[[Delivery], None]]] = {
        Status.DELIVERED: (
            a_carried,
            lambda d: d.dropoff({RICE: Dropped(delivered=5), BEANS: Dropped(delivered=5)}, now=NOW),
        ),
        Status.RETURNED: (a_refused, lambda d: d.return_(now=NOW)),
        Status.DISCARDED: (a_refused, lambda d: d.discard(reason="test", now=NOW)),
        Status.CANCELLED: (an_open, lambda d: d.cancel(reason="test")),
        Status.EXPIRED: (an_open, lambda d: d.expire(now=NOW + timedelta(hours=8), min_handling=HALF_HOUR)),
        Status.FAILED: (a_claimed, lambda d: d.fail(reason="test")),
    }
    if status in given:
        return given[status]()
    start, end = ends[status]
    delivery = start()
    end(delivery)
    return delivery


COMMANDS: dict[str, Callable[[Delivery], None]] = {
    "claim": lambda d: claim(d, BIA),
    "cancel": lambda d: d.cancel(reason="test"),
    "reassign": lambda d: d.reassign(BIA, reason="test", now=NOW),
    "waiting-list": lambda d: d.join_waiting_list(BIA, active=True),
    "pickup": lambda d: d.pickup({RICE: 5, BEANS: 5}, given_by=CAIO, now=NOW),
    "release": lambda d: d.release(reason="test"),
    "confirm": lambda d: d.confirm(),
    "no-show": lambda d: d.no_show(reported_by=CAIO, now=NOW),
    "fail": lambda d: d.fail(reason="test"),
    "dropoff": lambda d: d.dropoff({RICE: Dropped(delivered=5), BEANS: Dropped(delivered=5)}, now=NOW),
    "refuse": lambda d: d.refuse(reason="test", now=NOW),
    "lost": lambda d: d.lose({RICE: 1}, reason="test", now=NOW),
    "reroute": lambda d: d.reroute(organization_id=SCHOOL, place_id=HALL, accepts=None, now=NOW),
    "return": lambda d: d.return_(now=NOW),
    "discard": lambda d: d.discard(reason="test", now=NOW),
}


def test_every_command_of_the_table_is_tried() -> None:
    """None is left out below."""
    assert COMMANDS.keys() == {command for commands in ALLOWED.values() for command in commands}


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_table_decides_which_commands_exist(status: Status, command: str) -> None:
    """A command the table allows works in that status; any other is refused, naming the status and what is allowed."""
    delivery = the_delivery_in(status)
    assert delivery.status is status

    if command in ALLOWED[status]:
        COMMANDS[command](delivery)
        return
    with pytest.raises(InvalidTransition) as refused:
        COMMANDS[command](delivery)

    assert refused.value.details == {"current_status": status, "allowed": ALLOWED[status]}


def test_codes_follow_rfc_6238() -> None:
    """The SHA-256 vectors of RFC 6238, appendix B, cut to six digits."""
    key = b"12345678901234567890123456789012"

    assert [hotp(key, at // 30) for at in (59, 1111111109, 1234567890)] == ["119246", "084774", "819424"]


def test_a_code_is_good_for_a_step_before_and_after() -> None:
    """Clocks may be a step apart, not two."""
    shown = code_at(SECRET, version=1, stage=Handshake.PICKUP, now=NOW)

    for steps, expected in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        now = NOW + timedelta(seconds=60 * steps)
        assert code_matches(SECRET, shown.code, version=1, stage=Handshake.PICKUP, now=now) is expected
    assert shown.valid_until == NOW + timedelta(seconds=60)


def test_a_code_of_one_stage_or_claim_is_worth_nothing_at_another() -> None:
    """Stages and claims have keys of their own."""
    shown = code_at(SECRET, version=1, stage=Handshake.PICKUP, now=NOW).code

    assert not code_matches(SECRET, shown, version=1, stage=Handshake.DROPOFF, now=NOW)
    assert not code_matches(SECRET, shown, version=2, stage=Handshake.PICKUP, now=NOW)
    assert not code_matches(SECRET, "", version=1, stage=Handshake.PICKUP, now=NOW)
    assert not code_matches(SECRET, "não é", version=1, stage=Handshake.PICKUP, now=NOW)


@pytest.mark.parametrize(
    ("offset", "claimed_h", "reason"),
    [
        (timedelta(seconds=60), 1, None),
        (timedelta(seconds=60, microseconds=1), 1, "ahead"),
        (timedelta(hours=-12), 24, None),
        (timedelta(hours=-12, microseconds=-1), 24, "too-old"),
        (timedelta(hours=-1, seconds=-60), 1, None),
        (timedelta(hours=-1, seconds=-60, microseconds=-1), 1, "before-the-claim"),
    ],
)
def test_a_code_was_entered_when_it_can_have_been(offset: timedelta, claimed_h: int, reason: str | None) -> None:
    """A step ahead at most, twelve hours ago at most, and a step before the claim at most."""
    client_time, claimed_at = NOW + offset, NOW - timedelta(hours=claimed_h)

    if reason is None:
        assert entered_at(client_time, claimed_at=claimed_at, now=NOW) == client_time
        return
    with pytest.raises(domain.OfflineCodeRefused) as refused:
        entered_at(client_time, claimed_at=claimed_at, now=NOW)
    assert refused.value.details["reason"] == reason


def test_a_code_that_comes_at_once_was_entered_now() -> None:
    """Without a client's time there is nothing to believe."""
    assert entered_at(None, claimed_at=None, now=NOW) == NOW


def test_a_handover_holds_then_and_now() -> None:
    """Goods that are over by either clock stay where they are, at both ends."""
    over = NOW + HALF_HOUR
    claimed, carried = a_claimed(a_line(use_by_at=over)), a_carried(a_line(use_by_at=over))
    for now, entered in ((over, NOW), (NOW, over)):
        with pytest.raises(domain.GoodsExpired):
            claimed.pickup({RICE: 5}, given_by=CAIO, now=now, entered_at=entered)
        with pytest.raises(domain.GoodsExpired):
            carried.dropoff({RICE: Dropped(delivered=5)}, now=now, entered_at=entered)

    claimed.pickup({RICE: 5}, given_by=CAIO, now=NOW, entered_at=NOW - timedelta(hours=3))
    assert claimed.picked_up_at == NOW


def test_five_wrong_codes_lock_for_ten_minutes() -> None:
    """Four failures leave one try; the fifth locks until the first has left the window."""
    tries = CodeTries()
    for second in range(5):
        tries.require_left(NOW + timedelta(seconds=second))
        tries = tries.failed(NOW + timedelta(seconds=second))
    assert tries.refusal(NOW).details == {"tries_left": 0}

    with pytest.raises(domain.CodeLocked) as locked:
        tries.require_left(NOW + timedelta(minutes=1))
    tries.require_left(NOW + timedelta(minutes=10))

    assert locked.value.details == {"retry_after_s": 540}


def test_an_unknown_line_is_not_found() -> None:
    """An answer about a line the delivery does not have is an error, not a guess."""
    with pytest.raises(NotFound):
        a_planned().grant_hold(LineId(UUID(int=99)), now=NOW)


def test_every_event_survives_json() -> None:
    """An event written as JSON and read back is equal, and folding what was read gives the same delivery."""
    delivery = a_claimed()
    delivery.no_show(reported_by=CAIO, now=NOW)
    delivery.contest_no_show(ANA, reason="was there")
    claim(delivery, BIA)
    delivery.pickup({RICE: 5, BEANS: 4}, given_by=CAIO, now=NOW)
    delivery.dropoff({RICE: Dropped(delivered=4, rejected=1), BEANS: Dropped(delivered=4)}, now=NOW)
    delivery.batch_spoiled(RICE_BATCH, cause=Spoilage.EXPIRED)
    delivery.discard(reason="expired", now=NOW)

    read: list[Any] = [
        msgspec.json.decode(msgspec.json.encode(e), type=EVENTS[type(e).__name__]) for e in delivery.pending
    ]

    assert read == delivery.pending
    assert Delivery.fold(DELIVERY, read) == delivery


def test_a_claim_keeps_its_volunteer_busy_until_the_last_window_ends() -> None:
    """From the pickup window's beginning to the drop-off window's end, at least an hour; nothing once it is over."""
    pickup = Window(from_at=NOW, to_at=NOW + timedelta(hours=2))
    dropoff = Window(from_at=NOW, to_at=NOW + timedelta(hours=3))
    delivery = an_open(pickup_window=pickup, dropoff_window=dropoff)
    assert delivery.busy is None

    claim(delivery)
    assert delivery.busy == Window(from_at=NOW, to_at=NOW + timedelta(hours=3))
    assert an_open().span_of_claim(NOW) == Window(from_at=NOW, to_at=NOW + timedelta(hours=1))

    delivery.release(reason="ill")
    assert delivery.busy is None


def test_whoever_was_to_receive_stays_a_party() -> None:
    """After a reroute the first receiver still sees what became of the goods."""
    delivery = a_refused()
    delivery.reroute(organization_id=SCHOOL, place_id=HALL, accepts=None, now=NOW)

    assert delivery.party_ids == [PROVIDER, SCHOOL, SHELTER]


def test_only_what_is_counted_in_grams_has_a_weight() -> None:
    """Portions and units weigh nothing that is known."""
    delivery = a_planned(a_line(unit="g", quantity=4_000), a_line(BEANS, BEANS_BATCH, unit="unit", quantity=7))

    assert delivery.weight_g == 4_000


def test_batches_are_fetched_while_all_their_windows_are_open() -> None:
    """The delivery's pickup window is where the batches' windows meet; apart, there is no delivery."""
    early = Window(from_at=NOW, to_at=NOW + timedelta(hours=2))
    late = Window(from_at=NOW + timedelta(hours=1), to_at=NOW + timedelta(hours=3))

    assert domain.meeting_of([early, late]) == Window(from_at=late.from_at, to_at=early.to_at)
    with pytest.raises(domain.PickupWindowsApart):
        domain.meeting_of([early, Window(from_at=early.to_at, to_at=late.to_at)])


def test_a_dropoff_before_the_pickup_cannot_be_meant() -> None:
    """A drop-off window that is over when the pickup window begins is refused."""
    pickup = Window(from_at=NOW + timedelta(hours=2), to_at=NOW + timedelta(hours=3))

    with pytest.raises(Invalid):
        a_planned(pickup_window=pickup, dropoff_window=Window(from_at=NOW, to_at=pickup.from_at))
