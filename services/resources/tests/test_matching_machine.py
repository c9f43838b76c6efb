"""A batch and the needs around it under any order of moves: what is matched is never more than there is, nor than is lacked."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from chassis.kernel import Conflict, Invalid
from chassis.testing.planting import finds, plant
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from resources.domain import (
    OPEN_MAX,
    BatchId,
    Candidate,
    DeliveryId,
    Goods,
    LineId,
    Match,
    MatchId,
    MatchStatus,
    Mode,
    Need,
    Offer,
    OrganizationId,
    PlaceId,
    RequestId,
    ReservationId,
    ReservationState,
    ResourceRequest,
    Standing,
    Supply,
    Urgency,
    UserId,
    dealt,
    ranked,
    time_to_answer,
    to_end,
)
from resources.domain.coverage import Coverage

START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
PROVIDER, OTHERS, ANA = OrganizationId(UUID(int=2)), OrganizationId(UUID(int=3)), UserId(UUID(int=4))
LINES = [LineId(UUID(int=n)) for n in (11, 12, 21)]
HERE = sys.modules[__name__]
PLACE, DAY = PlaceId(UUID(int=5)), timedelta(days=1)


class MatchingMachine(RuleBasedStateMachine):
    """One batch, two requests with three lines; the batch's process moves after everything, as its timers make it do."""

    @initialize(available=st.integers(1, 40), needs=st.lists(st.integers(1, 20), min_size=3, max_size=3))
    def begin(self, available: int, needs: list[int]) -> None:
        """The batch is ready, both requests are open."""
        self.now, self.available, self.status, self.counter = START, available, "ready", 100
        self.matches: dict[MatchId, Match] = {}
        self.ended: dict[MatchId, MatchStatus] = {}
        self.requests = [self.request(1, needs[:2]), self.request(2, needs[2:])]

    def request(self, number: int, needs: list[int]) -> ResourceRequest:
        """A request with a line per need."""
        lines = [line_id for line_id in LINES if line_id.int // 10 == number]
        return ResourceRequest.open(
            RequestId(UUID(int=number)),
            organization_id=OrganizationId(UUID(int=50 + number)),
            place_id=PLACE,
            title="Abrigo",
            urgency=Urgency.NORMAL,
            needed_by_at=None,
            lines=[a_need(line_id, needed) for line_id, needed in zip(lines, needs, strict=True)],
            opened_by=ANA,
            now=START,
        )

    # -- what the process sees and does --------------------------------------------------------------------------------

    def new_id(self) -> UUID:
        """The next number."""
        self.counter += 1
        return UUID(int=self.counter)

    def request_of(self, match: Match) -> ResourceRequest:
        """The request that a match is for."""
        return next(each for each in self.requests if each.id == match.request_id)

    def takes(self, match: Match) -> bool:
        """It still takes of the batch: it is proposed, or promised and not on its way."""
        if match.status is not MatchStatus.ACCEPTED or match.reservation_id is None:
            return match.is_open
        return self.request_of(match).reservations[match.reservation_id].state is ReservationState.RESERVED

    @property
    def standing(self) -> list[Standing]:
        """What takes of the batch, promises first."""
        taking = sorted(filter(self.takes, self.matches.values()), key=lambda match: (match.is_open, -match.score))
        return [
            Standing(
                id=MatchId(match.id),
                request_id=match.request_id,
                line_id=match.line_id,
                status=match.status,
                quantity=match.quantity,
                expires_at=match.expires_at or START,
                wanted=True,
            )
            for match in taking
        ]

    @property
    def supply(self) -> Supply:
        """What is left of the batch."""
        free = self.available - sum(each.quantity for each in self.standing)
        return Supply(status=self.status, verified=True, ends_at=START + DAY, free=free, offer=an_offer(free))

    def proposed(self, line_id: LineId) -> int:
        """What of a line is proposed."""
        return sum(match.quantity for match in self.matches.values() if match.is_open and match.line_id == line_id)

    def settle(self) -> None:
        """Requests let go of proposals they have no room for; the batch ends what it cannot keep."""
        for request in self.requests:
            proposals = [match for match in self.matches.values() if match.is_open and match.request_id == request.id]
            for match in request.crowded_out(proposals):
                match.withdraw(reason="need-covered", now=self.now)
        for standing, reason in to_end(self.supply, self.standing, now=self.now):
            match = self.matches[standing.id]
            match.expire(now=self.now)
            if match.reservation_id is not None:
                self.request_of(match).cancel_reservation(match.reservation_id, reason=reason)
            match.withdraw(reason=reason, now=self.now)

    def attempt(self, command: Callable[[], None]) -> None:
        """A command of somebody, and what follows from it."""
        with contextlib.suppress(Conflict, Invalid):
            command()
        self.settle()

    # -- rules ---------------------------------------------------------------------------------------------------------

    @rule(proposals_max=st.integers(1, OPEN_MAX))
    def propose(self, proposals_max: int) -> None:
        """What is free is dealt out."""
        supply = self.supply
        if not supply.can_be_proposed(self.now) or supply.offer is None:
            return
        refused = {m.line_id for m in self.matches.values() if m.status in (MatchStatus.DECLINED, MatchStatus.EXPIRED)}
        taken = {match.line_id for match in self.matches.values() if match.is_open}
        candidates = [
            a_candidate(request, line_id, line.uncovered)
            for request in self.requests
            for line_id, line in request.lines.items()
            if request.status == "open" and line_id not in refused | taken
        ]
        order = ranked(supply.offer, candidates, now=self.now)
        expires_at = self.now + time_to_answer(timedelta(hours=2), left=supply.ends_at - self.now)
        for chosen, quantity in dealt(supply.offer, order, proposals_max=proposals_max):
            match_id = MatchId(self.new_id())
            self.matches[match_id] = Match.propose(
                match_id, offer=supply.offer, chosen=chosen, quantity=quantity, expires_at=expires_at, now=self.now
            )

    @rule(which=st.integers(0, 30), accepts=st.booleans())
    def answer(self, which: int, accepts: bool) -> None:
        """Somebody accepts or declines a match, perhaps one that ended."""
        if not self.matches:
            return
        match = list(self.matches.values())[which % len(self.matches)]
        self.attempt(
            lambda: self.accept(match) if accepts else match.decline(reason="no", declined_by=ANA, now=self.now)
        )

    def accept(self, match: Match) -> None:
        """It becomes a reservation, or nothing happens at all."""
        request, reservation_id = self.request_of(match), ReservationId(self.new_id())
        match.accept(reservation_id, accepted_by=ANA, now=self.now)
        request.reserve(
            reservation_id,
            organization_id=match.provider_id,
            reserved_by=None,
            mode=Mode.VOLUNTEER_PICKUP,
            quantities={match.line_id: match.quantity},
            now=self.now,
        )

    @rule(line_id=st.sampled_from(LINES), quantity=st.sampled_from([1, 1, 2, 5]))
    def reserve(self, line_id: LineId, quantity: int) -> None:
        """Others promise the same."""
        request = next(each for each in self.requests if line_id in each.lines)
        self.attempt(
            lambda: request.reserve(
                ReservationId(self.new_id()),
                organization_id=OTHERS,
                reserved_by=ANA,
                mode=Mode.PARTNER,
                quantities={line_id: quantity},
                now=self.now,
            )
        )

    @rule(quantity=st.integers(1, 15), number=st.integers(0, 1), arrives=st.booleans())
    def carry(self, quantity: int, number: int, arrives: bool) -> None:
        """A delivery of the batch is planned for a request and held; it arrives, or fails and the goods are back."""
        request, delivery_id = self.requests[number], DeliveryId(self.new_id())
        quantity = min(quantity, self.available)
        if self.status != "ready" or quantity < 1:
            return
        goods = [Goods(category="prepared", unit="portion", quantity=quantity)]
        request.plan_delivery(delivery_id, brought_by=[PROVIDER], goods=goods)
        self.available -= quantity
        self.settle()
        if arrives:
            request.receive_delivery(delivery_id, brought_by=[PROVIDER], goods=goods, now=self.now)
        else:
            self.available += quantity
        request.lose_delivery(delivery_id, reason="delivery-failed")
        self.settle()

    @rule(available=st.integers(0, 40))
    def adjust(self, available: int) -> None:
        """There is less, or more."""
        self.available = available
        self.settle()

    @rule(hours=st.integers(0, 3))
    def time_passes(self, hours: int) -> None:
        """Answers may be late, and so may the goods."""
        self.now += timedelta(hours=hours)
        self.settle()

    @rule(number=st.integers(0, 1), needed=st.integers(1, 20))
    def change(self, number: int, needed: int) -> None:
        """A place needs more or less of its first line."""
        request = self.requests[number]
        lines = [a_need(line.line_id, line.needed) for line in request.listed]
        lines[0] = a_need(lines[0].line_id, needed)
        self.attempt(lambda: request.change(now=self.now, lines=lines))

    @rule(really=st.integers(0, 29), number=st.integers(0, 1))
    def end(self, really: int, number: int) -> None:
        """Now and then a request is closed or the batch recalled."""
        if really == 0:
            self.attempt(self.requests[number].close)
        elif really == 1:
            self.status, self.available = "recalled", 0
            self.settle()

    # -- invariants ----------------------------------------------------------------------------------------------------

    @invariant()
    def no_more_is_matched_than_there_is(self) -> None:
        """Σ proposed and promised, not on its way, ≤ available."""
        assert self.supply.free >= 0

    @invariant()
    def no_more_is_matched_than_is_lacked(self) -> None:
        """Σ proposed + reserved + received ≤ needed, line by line; nothing is proposed to a request that ended."""
        for request in self.requests:
            for line_id, line in request.lines.items():
                assert 0 <= self.proposed(line_id) <= (line.uncovered if request.status == "open" else 0)

    @invariant()
    def an_accepted_match_is_a_reservation_of_its_quantity(self) -> None:
        """And a withdrawn one is none any more."""
        for match in self.matches.values():
            if match.reservation_id is not None:
                reservation = self.request_of(match).reservations[match.reservation_id]
                assert reservation.quantities == {match.line_id: match.quantity}
                assert match.status is MatchStatus.ACCEPTED or not reservation.active

    @invariant()
    def ends_are_frozen(self) -> None:
        """Declined, expired and withdrawn stay so, and the state is the fold of the events."""
        for match_id, match in self.matches.items():
            assert self.ended.setdefault(match_id, match.status) in (
                match.status,
                MatchStatus.PROPOSED,
                MatchStatus.ACCEPTED,
            )
            self.ended[match_id] = match.status
            assert Match.fold(match_id, match.pending) == match


def a_need(line_id: LineId, needed: int) -> Need:
    """Portions."""
    return Need(line_id=line_id, name="Marmita", unit="portion", needed=needed, category="prepared")


def an_offer(free: int) -> Offer:
    """Portions to be fetched within a day."""
    return Offer(
        batch_id=BatchId(UUID(int=1)),
        organization_id=PROVIDER,
        place_id=PLACE,
        lat=-30.03,
        lon=-51.23,
        category="prepared",
        gtin=None,
        unit="portion",
        product_name="Marmita",
        free=free,
        use_by_at=None,
        pickup_from=START,
        pickup_to=START + DAY,
    )


def a_candidate(request: ResourceRequest, line_id: LineId, lacks: int) -> Candidate:
    """A line as the search finds it."""
    return Candidate(
        request_id=RequestId(request.id),
        line_id=line_id,
        organization_id=request.organization_id,
        place_id=request.place_id,
        lat=-30.03,
        lon=-51.2 - line_id.int / 1000,
        people_served=None,
        urgency=request.urgency,
        needed=request.lines[line_id].needed,
        open=lacks,
        needed_by_at=None,
        recent=0,
    )


MatchingMachine.TestCase.settings = settings(stateful_step_count=40)
TestMatching = pytest.mark.machine(MatchingMachine.TestCase)


@pytest.mark.parametrize(
    ("owner", "name", "right", "wrong"),
    [
        (HERE, "dealt", "each.candidate.open)", "each.candidate.open + 1)"),
        (HERE, "dealt", "left -= quantity", "left -= quantity - 1"),
        (HERE, "to_end", "lacking > 0", "lacking > 1"),
        (
            Coverage,
            "crowded_out",
            "match.quantity <= room.get(match.line_id, 0)",
            "match.quantity <= room.get(match.line_id, 0) + 1",
        ),
    ],
)
def test_the_machine_finds_what_is_off_by_one(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, right: str, wrong: str
) -> None:
    """A number or a comparison next to the right one breaks something that the machine watches."""
    plant(monkeypatch, owner, name, right, wrong)

    assert finds(MatchingMachine)
