"""A request under any order of commands: promises never exceed the need, and ends stay ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from chassis.kernel import Conflict, Invalid, NotFound
from chassis.testing.planting import finds, plant
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from resources.domain import (
    DeliveryId,
    Goods,
    Line,
    LineId,
    Mode,
    Need,
    OrganizationId,
    PlaceId,
    RequestId,
    ReservationId,
    ReservationState,
    ResourceRequest,
    ResourceRequestDeliveryReceived,
    Status,
    Urgency,
    UserId,
    guards,
)
from resources.domain.coverage import Coverage

START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
LINES = st.integers(1, 3).map(lambda n: LineId(UUID(int=n)))
RESERVATIONS = st.integers(101, 106).map(lambda n: ReservationId(UUID(int=n)))
DELIVERIES = st.integers(201, 203).map(lambda n: DeliveryId(UUID(int=n)))
NEEDED_WITHIN = timedelta(days=4)
DONOR, RECEIVER = OrganizationId(UUID(int=53)), UserId(UUID(int=55))
QUANTITIES = st.dictionaries(LINES, st.integers(0, 8), max_size=3)
NEEDS = st.dictionaries(LINES, st.integers(1, 12), min_size=1, max_size=3)


class RequestMachine(RuleBasedStateMachine):
    """Reservations made, started, received, refused, cancelled and expired, while the request changes and ends."""

    @initialize(needs=NEEDS, promised=st.integers(0, 3))
    def open(self, needs: dict[LineId, int], promised: int) -> None:
        """One to three lines, needed within four days, some of it promised: chance alone would seldom name the promises."""
        self.now = START
        self.ended_as: Status | None = None
        self.handed_over: dict[DeliveryId, int] = {}
        self.request = ResourceRequest.open(
            RequestId(UUID(int=99)),
            organization_id=OrganizationId(UUID(int=50)),
            place_id=PlaceId(UUID(int=51)),
            title="Abrigo",
            urgency=Urgency.NORMAL,
            needed_by_at=START + NEEDED_WITHIN,
            lines=needs_of(needs),
            opened_by=UserId(UUID(int=52)),
            now=START,
        )
        for number in range(101, 101 + promised):
            some = {line_id: max(1, needed // 3) for line_id, needed in needs.items()}
            self.reserve(ReservationId(UUID(int=number)), some, Mode.VOLUNTEER_PICKUP)

    def attempt(self, command: Callable[[], None]) -> None:
        """A refusal leaves no trace."""
        version = self.request.version
        try:
            command()
        except (Conflict, Invalid, NotFound):
            assert self.request.version == version

    @rule(reservation_id=RESERVATIONS, quantities=QUANTITIES, mode=st.sampled_from(Mode))
    def reserve(self, reservation_id: ReservationId, quantities: dict[LineId, int], mode: Mode) -> None:
        """Somebody promises something, perhaps too much, perhaps twice: it is made exactly when all of it is lacked."""
        known, open_ = reservation_id in self.request.reservations, self.request.status is Status.OPEN
        left = {line_id: uncovered(line) for line_id, line in self.request.lines.items()}
        fits = bool(quantities) and all(1 <= each <= left.get(line_id, 0) for line_id, each in quantities.items())
        self.attempt(
            lambda: self.request.reserve(
                reservation_id,
                organization_id=DONOR,
                reserved_by=UserId(UUID(int=54)),
                mode=mode,
                quantities=quantities,
                now=self.now,
            )
        )
        in_time = self.now < START + NEEDED_WITHIN
        assert (reservation_id in self.request.reservations) == (known or (open_ and in_time and fits))

    @rule(reservation_id=RESERVATIONS, delivery_id=st.none() | DELIVERIES)
    def start(self, reservation_id: ReservationId, delivery_id: DeliveryId | None) -> None:
        """It is on its way, perhaps with a delivery."""
        self.attempt(lambda: self.request.start(reservation_id, delivery_id=delivery_id))

    @rule(delivery_id=DELIVERIES, quantities=st.lists(st.integers(1, 15), max_size=2), own=st.booleans())
    def deliver(self, delivery_id: DeliveryId, quantities: list[int], own: bool) -> None:
        """A delivery has handed over so much so far, perhaps no more than before, perhaps too much."""
        events, told = len(self.request.pending), self.handed_over.get(delivery_id, 0)
        before = sum(line.received for line in self.request.lines.values())
        self.handed_over[delivery_id] = max(told, sum(quantities))
        self.request.receive_delivery(
            delivery_id,
            brought_by=[DONOR] if own else [],
            goods=[Goods(category="other", unit="unit", quantity=quantity) for quantity in quantities],
            now=self.now,
        )
        new = self.request.pending[events:]
        excess = sum(each.quantity for fact in new for each in getattr(fact, "excess", ()))
        added = sum(line.received for line in self.request.lines.values()) - before
        assert added + excess == max(0, sum(quantities) - told)

    @rule(delivery_id=DELIVERIES, quantity=st.integers(1, 15), own=st.booleans())
    def plan(self, delivery_id: DeliveryId, quantity: int, own: bool) -> None:
        """A delivery is planned: it takes promises along."""
        goods = [Goods(category="other", unit="unit", quantity=quantity)]
        self.request.plan_delivery(delivery_id, brought_by=[DONOR] if own else [], goods=goods)

    @rule(delivery_id=DELIVERIES)
    def lose(self, delivery_id: DeliveryId) -> None:
        """A delivery ends without the rest: nothing is on its way with it any more."""
        self.request.lose_delivery(delivery_id, reason="delivery-failed")
        moving = [each for each in self.request.reservations.values() if each.state is ReservationState.IN_DELIVERY]
        assert delivery_id not in {each.delivery_id for each in moving}

    @rule(reservation_id=RESERVATIONS, quantities=st.none() | QUANTITIES, fitting=st.booleans())
    def receive(self, reservation_id: ReservationId, quantities: dict[LineId, int] | None, fitting: bool) -> None:
        """All of it arrives, or some quantities, mostly such as fit or are one too many."""
        promised = self.request.reservations.get(reservation_id)
        if promised and quantities and fitting:
            quantities = {line_id: quantities.get(line_id, 0) % (n + 2) for line_id, n in promised.quantities.items()}
        self.attempt(
            lambda: self.request.receive(reservation_id, received_by=RECEIVER, now=self.now, quantities=quantities)
        )

    @rule(reservation_id=RESERVATIONS, refused=st.booleans())
    def give_up(self, reservation_id: ReservationId, refused: bool) -> None:
        """It is refused at the door or taken back."""
        if refused:
            self.attempt(lambda: self.request.refuse(reservation_id, refused_by=RECEIVER, reason="test"))
        else:
            self.attempt(lambda: self.request.cancel_reservation(reservation_id, reason="test"))

    @rule(needs=NEEDS)
    def change(self, needs: dict[LineId, int]) -> None:
        """The place needs something else."""
        self.attempt(lambda: self.request.change(now=self.now, lines=needs_of(needs)))

    @rule(hours=st.sampled_from([0, 1, 11, 12, 24, 48]))
    def time_passes(self, hours: int) -> None:
        """Timers fire, in time or early."""
        self.now += timedelta(hours=hours)
        for reservation_id in list(self.request.reservations):
            self.request.expire_reservation(reservation_id, now=self.now)
        self.request.expire(now=self.now)
        assert self.request.status is not Status.OPEN or self.now < START + NEEDED_WITHIN

    @rule(really=st.integers(0, 19))
    def end(self, really: int) -> None:
        """Now and then it is closed or cancelled."""
        if really == 0:
            self.attempt(self.request.close)
        elif really == 1:
            self.attempt(lambda: self.request.cancel(reason="test"))

    @invariant()
    def promises_never_exceed_the_need(self) -> None:
        """0 ≤ active reservations + received ≤ needed, line by line."""
        for line in self.request.lines.values():
            assert min(line.reserved, line.received, uncovered(line)) >= 0
            assert line.uncovered == uncovered(line)

    @invariant()
    def lines_are_the_sum_of_the_reservations(self) -> None:
        """What a line counts is exactly what the reservations and deliveries say."""
        delivered = [fact for fact in self.request.pending if isinstance(fact, ResourceRequestDeliveryReceived)]
        reservations = self.request.reservations.values()
        for line_id, line in self.request.lines.items():
            assert line.reserved == sum(each.quantities.get(line_id, 0) for each in reservations if each.active)
            assert all(each.received.get(line_id, 0) <= each.quantities.get(line_id, 0) for each in reservations)
            by_reservation = sum(each.received.get(line_id, 0) for each in reservations)
            assert line.received == by_reservation + sum(each.quantities.get(line_id, 0) for each in delivered)

    @invariant()
    def fulfilled_means_received_in_full(self) -> None:
        """An open request lacks something; a fulfilled one nothing."""
        if self.request.status in (Status.OPEN, Status.FULFILLED):
            lacking = any(line.received < line.needed for line in self.request.lines.values())
            assert lacking == (self.request.status is Status.OPEN)

    @invariant()
    def ends_are_frozen(self) -> None:
        """Nothing leaves an end, and no promise waits behind one."""
        if self.ended_as is not None:
            assert self.request.status is self.ended_as
        if self.request.status is not Status.OPEN:
            self.ended_as = self.request.status
            states = {each.state for each in self.request.reservations.values()}
            assert ReservationState.RESERVED not in states

    @invariant()
    def state_is_the_fold_of_its_events(self) -> None:
        """Folding the events gives the same request."""
        assert ResourceRequest.fold(self.request.id, self.request.pending) == self.request


def uncovered(line: Line) -> int:
    """What of a line is neither promised nor there."""
    return line.needed - line.reserved - line.received


def needs_of(needed: dict[LineId, int]) -> list[Need]:
    """Needs that differ in line and quantity only."""
    return [
        Need(line_id=line_id, name="Item", unit="unit", needed=quantity, category="other")
        for line_id, quantity in needed.items()
    ]


RequestMachine.TestCase.settings = settings(stateful_step_count=40)  # as often as the profile says
TestRequest = pytest.mark.machine(RequestMachine.TestCase)


@pytest.mark.parametrize(
    ("owner", "name", "right", "wrong"),
    [
        (Line, "uncovered", "self.reserved - self.received", "self.reserved - self.received + 1"),
        (ResourceRequest, "_require_uncovered", "quantity > self", "quantity >= self"),
        (ResourceRequest, "_require_uncovered", "quantity > self", "quantity - 1 > self"),
        (ResourceRequest, "_require_keeps_commitments", "need.needed < committed", "need.needed < committed - 1"),
        (Coverage, "satisfied", "line.received >= line.needed", "line.received > line.needed"),
        (Coverage, "share", "room.get(line_id, 0) -", "room.get(line_id, 0) + 1 -"),
        (Coverage, "past_needed_by", "self.needed_by_at <= now", "self.needed_by_at < now"),
        (guards, "require_within", "reservation.quantities[line_id]:", "reservation.quantities[line_id] + 1:"),
    ],
)
def test_the_machine_finds_what_is_off_by_one(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, right: str, wrong: str
) -> None:
    """A number or a comparison next to the right one breaks something that the machine watches."""
    plant(monkeypatch, owner, name, right, wrong)

    assert finds(RequestMachine)
