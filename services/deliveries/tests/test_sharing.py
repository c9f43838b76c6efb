"""Parts of a delivery and its waiting list: the rules, without I/O."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from chassis.kernel import Conflict, Invalid, InvalidTransition, NotFound
from deliveries import domain
from deliveries.domain import (
    SPLITS_MAX,
    WAITING_MAX,
    BatchId,
    Delivery,
    DeliveryId,
    LineId,
    Part,
    Spoilage,
    Status,
    UserId,
    Window,
)

from services.deliveries.tests.test_domain import (
    ANA,
    BEANS,
    BEANS_BATCH,
    BIA,
    CAIO,
    HALF_HOUR,
    NOW,
    RICE,
    RICE_BATCH,
    a_carried,
    a_claimed,
    a_line,
    an_open,
    claim,
    recorded,
)

SIBLING = DeliveryId(UUID(int=2))
REST_OF_RICE, REST_OF_BEANS = LineId(UUID(int=12)), LineId(UUID(int=13))


def a_part(**taken: int) -> Part:
    """So much rice and beans; the rest has ids of its own."""
    named = {"rice": RICE, "beans": BEANS}
    return Part(
        taken={named[name]: quantity for name, quantity in taken.items()},
        sibling_id=SIBLING,
        sibling_line_ids={RICE: REST_OF_RICE, BEANS: REST_OF_BEANS},
    )


def claim_part(delivery: Delivery, part: Part, volunteer_id: UserId = ANA, **changes: Any) -> Delivery | None:
    """An active volunteer with nothing else to do claims a part."""
    told: dict[str, Any] = {
        "now": NOW,
        "min_handling": HALF_HOUR,
        "active": True,
        "vehicle_fits": True,
        "overlapping": False,
        "claims_today": 0,
        "daily_cap": 5,
        "part": part,
    }
    return delivery.claim(volunteer_id, **(told | changes))


def planned(*deliveries: Delivery) -> dict[BatchId, int]:
    """What is planned of each batch, by all of them together."""
    sums: dict[BatchId, int] = {}
    for delivery in deliveries:
        for line in delivery.lines.values():
            sums[line.batch_id] = sums.get(line.batch_id, 0) + line.planned
    return sums


# -- parts -------------------------------------------------------------------------------------------------------------


def test_a_part_is_claimed_and_the_rest_is_open() -> None:
    """Two deliveries with the sum of the one; the rest asks for no hold, for its goods are held."""
    delivery = an_open()

    rest = claim_part(delivery, a_part(rice=2))

    assert rest is not None
    assert (delivery.status, delivery.volunteer_id, rest.status, rest.volunteer_id) == (
        Status.CLAIMED, ANA, Status.OPEN, None,
    )  # fmt: skip
    assert {line_id: line.planned for line_id, line in delivery.lines.items()} == {RICE: 2}
    assert {line_id: line.planned for line_id, line in rest.lines.items()} == {REST_OF_RICE: 3, REST_OF_BEANS: 5}
    assert planned(delivery, rest) == {RICE_BATCH: 5, BEANS_BATCH: 5}
    assert recorded(delivery)[-2:] == ["DeliverySplit", "DeliveryClaimed"]
    assert recorded(rest) == ["DeliverySplitOff", "DeliveryOpened"]
    assert (rest.parent_id, delivery.sibling_ids) == (delivery.id, [SIBLING])
    assert (rest.request_id, rest.planned_by, rest.pickup_window) == (
        delivery.request_id, delivery.planned_by, delivery.pickup_window,
    )  # fmt: skip


def test_a_part_of_everything_is_the_whole() -> None:
    """Nothing is left, so nothing is split."""
    delivery = an_open()

    assert claim_part(delivery, a_part(rice=5, beans=5)) is None
    assert recorded(delivery)[-1] == "DeliveryClaimed"
    assert delivery.sibling_ids == []


@pytest.mark.parametrize(
    ("taken", "refusal"),
    [
        ({"rice": 6}, domain.QuantityMismatch),
        ({"rice": 0}, domain.QuantityMismatch),
        ({"rice": -1}, domain.QuantityMismatch),
        ({}, Invalid),
    ],
)
def test_a_part_is_some_of_what_is_there(taken: dict[str, int], refusal: type[Exception]) -> None:
    """Not more than planned of a line, not nothing, and no line of another delivery; a refusal leaves no trace."""
    delivery = an_open()
    version = delivery.version

    with pytest.raises(refusal):
        claim_part(delivery, a_part(**taken))
    foreign = Part(taken={REST_OF_RICE: 1}, sibling_id=SIBLING, sibling_line_ids={})
    with pytest.raises(NotFound):
        claim_part(delivery, foreign)

    assert (delivery.version, delivery.status) == (version, Status.OPEN)


def test_only_an_open_delivery_is_split() -> None:
    """Whoever comes second finds it claimed; a refused volunteer splits nothing."""
    claimed, delivery = a_claimed(), an_open()
    version = delivery.version

    with pytest.raises(InvalidTransition):
        claim_part(claimed, a_part(rice=1), BIA)
    for refused in ({"active": False}, {"vehicle_fits": False}, {"overlapping": True}, {"claims_today": 5}):
        with pytest.raises(Conflict):
            claim_part(delivery, a_part(rice=1), **refused)

    assert delivery.version == version


def test_only_what_is_taken_has_to_be_safe() -> None:
    """Who takes the beans is not held up by rice that is nearly over; the rice itself is refused."""
    nearly = a_line(use_by_at=NOW + timedelta(minutes=29))
    delivery = an_open(nearly, a_line(BEANS, BEANS_BATCH))

    with pytest.raises(domain.NotEnoughTime):
        claim_part(delivery, a_part(rice=1))
    rest = claim_part(delivery, a_part(beans=1))

    assert rest is not None
    assert rest.use_by_at == nearly.use_by_at


def test_the_weight_of_a_part_is_its_own() -> None:
    """A bicycle takes what it can carry of a heavy line; only grams weigh, and foreign lines weigh nothing."""
    delivery = an_open(a_line(unit="g", quantity=90_000), a_line(BEANS, BEANS_BATCH))

    assert delivery.weight_g == 90_000
    assert delivery.weight_g_of({RICE: 8_000, BEANS: 5, REST_OF_RICE: 7}) == 8_000


def test_nobody_crumbles_a_delivery() -> None:
    """However it is split and released again, there are never more parts than the bound, and their sum stays."""
    whole = an_open(a_line(quantity=1_000))
    family, ids = [whole], iter(range(1_000, 10_000))
    for _ in range(3 * SPLITS_MAX):
        for each in list(family):
            line_id, line = next(iter(each.lines.items()))
            part = Part(
                taken={line_id: 1},
                sibling_id=DeliveryId(UUID(int=next(ids))),
                sibling_line_ids={line_id: LineId(UUID(int=next(ids)))},
            )
            try:
                rest = claim_part(each, part) if line.planned > 1 else None
            except domain.TooManyParts:
                continue
            if rest is not None:
                each.release(reason="test")
                family.append(rest)

    assert 1 < len(family) <= SPLITS_MAX + 1
    assert planned(*family) == {RICE_BATCH: 1_000}
    with pytest.raises(domain.TooManyParts):
        claim_part(next(e for e in family if e.splits_left == 0 and max(planned(e).values()) > 1), _one_of(family))


def _one_of(family: list[Delivery]) -> Part:
    each = next(e for e in family if e.splits_left == 0 and max(planned(e).values()) > 1)
    line_id = next(iter(each.lines))
    return Part(taken={line_id: 1}, sibling_id=SIBLING, sibling_line_ids={line_id: REST_OF_RICE})


def test_both_halves_go_their_own_way() -> None:
    """Each has its own claim, code version, pickup and end."""
    delivery = an_open()
    rest = claim_part(delivery, a_part(rice=2))
    assert rest is not None
    claim(rest, BIA)

    delivery.pickup({RICE: 2}, given_by=CAIO, now=NOW)
    rest.batch_spoiled(RICE_BATCH, cause=Spoilage.RECALLED)

    assert (delivery.status, rest.status) == (Status.IN_TRANSIT, Status.CANCELLED)
    assert Delivery.fold(rest.id, rest.pending) == rest
    assert Delivery.fold(delivery.id, delivery.pending) == delivery


# -- the waiting list --------------------------------------------------------------------------------------------------


def a_waited_for(*volunteers: UserId) -> Delivery:
    """Claimed by Ana, others wait."""
    delivery = a_claimed()
    for volunteer_id in volunteers:
        delivery.join_waiting_list(volunteer_id, active=True)
    return delivery


@pytest.mark.parametrize(
    "let_go",
    [
        lambda delivery: delivery.release(reason="ill"),
        lambda delivery: delivery.no_show(reported_by=CAIO, now=NOW),
    ],
    ids=["release", "no-show"],
)
def test_the_first_who_waits_is_called(let_go: Callable[[Delivery], None]) -> None:
    """Whenever a claim ends in `open`; who was called waits no longer, so the next time the next is."""
    delivery = a_waited_for(BIA, CAIO)

    let_go(delivery)
    called = delivery.pending[-1]
    claim(delivery, ANA)
    delivery.release(reason="again")

    assert called == domain.WaitingVolunteerCalled(volunteer_id=BIA)
    assert delivery.pending[-1] == domain.WaitingVolunteerCalled(volunteer_id=CAIO)
    assert delivery.waiting == []


def test_an_unconfirmed_claim_calls_too() -> None:
    """A timer's release is one like any other."""
    window = Window(from_at=NOW + timedelta(hours=5), to_at=NOW + timedelta(hours=6))
    delivery = an_open(pickup_window=window)
    claim(delivery)
    delivery.join_waiting_list(BIA, active=True)

    delivery.release_unconfirmed(now=NOW + timedelta(hours=4))

    assert recorded(delivery)[-2:] == ["ClaimReleased", "WaitingVolunteerCalled"]


def test_a_delivery_that_goes_on_calls_nobody() -> None:
    """Reassigned, it was never open; and whoever gets it waits no longer."""
    delivery = a_waited_for(BIA, CAIO)

    delivery.reassign(BIA, reason="flat tyre", now=NOW)

    assert (delivery.volunteer_id, delivery.waiting) == (BIA, [CAIO])
    assert "WaitingVolunteerCalled" not in recorded(delivery)


def test_who_waits_waits_once() -> None:
    """Again changes nothing, nor does leaving without waiting; a claim by who waits takes them off."""
    delivery = an_open()
    for _ in range(2):
        delivery.join_waiting_list(BIA, active=True)
    delivery.join_waiting_list(CAIO, active=True)
    for _ in range(2):
        delivery.leave_waiting_list(CAIO)
    waiting = list(delivery.waiting)
    claim(delivery, BIA)

    assert (waiting, delivery.waiting) == ([BIA], [])
    assert recorded(delivery)[-4:] == ["WaitingListJoined", "WaitingListJoined", "WaitingListLeft", "DeliveryClaimed"]


def test_the_list_has_an_end() -> None:
    """No more than can hope; not who carries it, not who is no active volunteer, not for what is on the road or over."""
    delivery = a_waited_for(*(UserId(UUID(int=1_000 + n)) for n in range(WAITING_MAX)))

    with pytest.raises(domain.WaitingListFull):
        delivery.join_waiting_list(BIA, active=True)
    with pytest.raises(domain.AlreadyYours):
        delivery.join_waiting_list(ANA, active=True)
    with pytest.raises(domain.VolunteerNotActive):
        delivery.join_waiting_list(BIA, active=False)
    with pytest.raises(InvalidTransition):
        a_carried().join_waiting_list(BIA, active=True)
    carried = a_waited_for(BIA)
    carried.pickup({RICE: 5, BEANS: 5}, given_by=CAIO, now=NOW)
    assert carried.waiting == []

    delivery.cancel(reason="rain")
    assert delivery.waiting == []
    with pytest.raises(InvalidTransition):
        delivery.join_waiting_list(BIA, active=True)
