"""A delivery under any order of commands: one claim, everything accounted for, ends that stay ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID

import pytest
from chassis.kernel import Conflict, Forbidden, Invalid, InvalidTransition, NotFound
from chassis.testing.planting import finds, plant
from deliveries.domain import (
    SPLITS_MAX,
    BatchId,
    Delivery,
    DeliveryId,
    Dropped,
    LineId,
    OrganizationId,
    Part,
    PlaceId,
    PlannedLine,
    Spoilage,
    Status,
    Storage,
    UserId,
    Window,
    guards,
)
from deliveries.domain.course import Course
from deliveries.domain.sharing import Shared
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
USE_BY, MIN_HANDLING = START + timedelta(hours=8), timedelta(minutes=30)
LINE_COUNT = 2
VOLUNTEERS = st.integers(1, 3).map(lambda n: UserId(UUID(int=n)))
AMOUNTS = st.integers(0, 5)
NUMBERS = st.integers(0, LINE_COUNT)
PROVIDER = UserId(UUID(int=50))
PLACE, ORGANIZATION = PlaceId(UUID(int=60)), OrganizationId(UUID(int=61))


class DeliveryMachine(RuleBasedStateMachine):
    """Claims, of parts too, handovers, refusals, spoilage and timers in any order, many of them out of place.

    `family` is what the plan was split into; commands go to one of them until `turn_to` chooses another.
    """

    @initialize(
        quantities=st.lists(st.integers(1, 5), min_size=LINE_COUNT, max_size=LINE_COUNT),
        parts=st.integers(0, 2),
        steps=st.integers(0, 4),
        late=st.sampled_from([0, 0, 7]),
    )
    def plan(self, quantities: list[int], parts: int, steps: int, late: int) -> None:
        """Two lines, good for eight hours, and some way along: chance alone would seldom get them to anybody's door."""
        self.now = START
        self.ends: dict[UUID, tuple[Status, object]] = {}
        self.ids = count(1_000)
        self.planned = {BatchId(UUID(int=n)): quantity for n, quantity in enumerate(quantities, start=1)}
        self.delivery = Delivery.plan(
            DeliveryId(UUID(int=99)),
            receiving_organization_id=ORGANIZATION,
            receiving_place_id=PLACE,
            lines=[planned_line(n, quantity) for n, quantity in enumerate(quantities, start=1)],
            accepts=None,
            planned_by=PROVIDER,
            now=START,
            pickup_window=Window(from_at=START + timedelta(hours=3), to_at=START + timedelta(hours=5)),
        )
        self.family = [self.delivery]
        if parts:
            self.open_up()
        for _ in range(parts):
            self.claim_part(UserId(UUID(int=1)), [1, 1], fitting=False)
            self.delivery.release(reason="test")
            self.delivery = self.family[-1]
        way: list[Callable[[], object]] = [
            self.open_up,
            lambda: self.delivery.reassign(UserId(UUID(int=1)), reason="test", now=START),
            lambda: self.delivery.pickup(
                {line_id: line.planned for line_id, line in self.delivery.lines.items()}, given_by=PROVIDER, now=START
            ),
            lambda: self.delivery.refuse(reason="closed", now=START),
        ]
        for step in way[:steps]:
            step()
        self.now += timedelta(hours=late)

    def line(self, number: int) -> LineId:
        """One of the lines, or one that nobody has."""
        return [*self.delivery.lines, LineId(UUID(int=999))][number % (len(self.delivery.lines) + 1)]

    def attempt(self, command: Callable[[], None], name: str = "") -> None:
        """A refusal leaves no trace, and the table decides whether it is about the state."""
        version, allowed = self.delivery.version, self.delivery.allowed
        try:
            command()
        except InvalidTransition:
            assert name not in allowed
            assert self.delivery.version == version
        except (Conflict, Forbidden, Invalid, NotFound):
            assert self.delivery.version == version
        else:
            assert not name or name in allowed

    @rule(number=st.integers(0, 9))
    def turn_to(self, number: int) -> None:
        """Another part of the plan."""
        self.delivery = self.family[number % len(self.family)]

    @rule(number=NUMBERS)
    def grant(self, number: int) -> None:
        """Batches granted a hold, perhaps again."""
        self.attempt(lambda: self.delivery.grant_hold(self.line(number), now=self.now))

    @rule()
    def open_up(self) -> None:
        """Every hold was granted at once."""
        for line_id in list(self.delivery.lines):
            self.attempt(lambda line_id=line_id: self.delivery.grant_hold(line_id, now=self.now))  # type: ignore[misc]

    @rule(number=NUMBERS, really=st.integers(0, 9))
    def reject(self, number: int, really: int) -> None:
        """Now and then a hold is rejected."""
        if really == 0:
            self.attempt(lambda: self.delivery.reject_hold(self.line(number), reason="insufficient"))

    @rule(volunteer_id=VOLUNTEERS)
    def claim(self, volunteer_id: UserId) -> None:
        """Only an open delivery can be won."""
        self.attempt(
            lambda: self.delivery.claim(
                volunteer_id,
                now=self.now,
                min_handling=MIN_HANDLING,
                active=True,
                vehicle_fits=True,
                overlapping=False,
                claims_today=0,
                daily_cap=1,
            ),
            "claim",
        )

    @rule(
        volunteer_id=VOLUNTEERS,
        amounts=st.lists(AMOUNTS, min_size=LINE_COUNT, max_size=LINE_COUNT),
        fitting=st.booleans(),
    )
    def claim_part(self, volunteer_id: UserId, amounts: list[int], fitting: bool) -> None:
        """Any part, fitting or not; what is left joins the family, and commands go to it as often as not."""
        lines = zip(self.delivery.lines.values(), amounts, strict=False)
        taken = {line.line_id: amount % (line.planned + 2) if fitting else amount for line, amount in lines}
        part = Part(
            taken={line_id: amount for line_id, amount in taken.items() if amount},
            sibling_id=DeliveryId(UUID(int=next(self.ids))),
            sibling_line_ids={line_id: LineId(UUID(int=next(self.ids))) for line_id in self.delivery.lines},
        )

        def claim() -> None:
            rest = self.delivery.claim(
                volunteer_id,
                now=self.now,
                min_handling=MIN_HANDLING,
                active=True,
                vehicle_fits=True,
                overlapping=False,
                claims_today=0,
                daily_cap=1,
                part=part,
            )
            self.family += [] if rest is None else [rest]
            assert {line_id: line.planned for line_id, line in self.delivery.lines.items()} == part.taken

        self.attempt(claim, "claim")
        if sum(amounts) % 2:
            self.delivery = self.family[-1]

    @rule(volunteer_id=VOLUNTEERS, leave=st.booleans())
    def wait(self, volunteer_id: UserId, leave: bool) -> None:
        """Somebody waits, or no longer."""
        if leave:
            self.attempt(lambda: self.delivery.leave_waiting_list(volunteer_id))
        else:
            self.attempt(lambda: self.delivery.join_waiting_list(volunteer_id, active=True), "waiting-list")

    @rule(volunteer_id=VOLUNTEERS)
    def reassign(self, volunteer_id: UserId) -> None:
        """A coordinator chooses somebody."""
        self.attempt(lambda: self.delivery.reassign(volunteer_id, reason="sick", now=self.now), "reassign")

    @rule(name=st.sampled_from(["release", "confirm", "no-show", "cancel", "fail"]), really=st.integers(0, 3))
    def before_pickup(self, name: str, really: int) -> None:
        """What can happen to a claim."""
        commands: dict[str, Callable[[], None]] = {
            "release": lambda: self.delivery.release(reason="test"),
            "confirm": self.delivery.confirm,
            "no-show": lambda: self.delivery.no_show(reported_by=PROVIDER, now=self.now),
            "cancel": lambda: self.delivery.cancel(reason="test"),
            "fail": lambda: self.delivery.fail(reason="test"),
        }
        if really == 0 or name in ("release", "confirm"):
            self.attempt(commands[name], name)

    @rule(amounts=st.lists(AMOUNTS, min_size=LINE_COUNT, max_size=LINE_COUNT), fitting=st.booleans())
    def pickup(self, amounts: list[int], fitting: bool) -> None:
        """Any quantities, fitting or not."""
        lines = zip(self.delivery.lines.values(), amounts, strict=False)
        picked = {line.line_id: amount % (line.planned + 2) if fitting else amount for line, amount in lines}
        self.attempt(lambda: self.delivery.pickup(picked, given_by=PROVIDER, now=self.now), "pickup")

    @rule(amounts=st.lists(AMOUNTS, min_size=LINE_COUNT, max_size=LINE_COUNT), exact=st.booleans())
    def dropoff(self, amounts: list[int], exact: bool) -> None:
        """Delivered and rejected quantities, mostly adding up."""
        dropped = {
            line.line_id: Dropped(
                delivered=min(amount, line.in_hand) if exact else amount, rejected=max(0, line.in_hand - amount)
            )
            for line, amount in zip(self.delivery.lines.values(), amounts, strict=False)
        }
        self.attempt(lambda: self.delivery.dropoff(dropped, now=self.now), "dropoff")

    @rule(number=NUMBERS, quantity=st.integers(0, 3), everything=st.booleans())
    def lose(self, number: int, quantity: int, everything: bool) -> None:
        """Something fell off the bike, or all of it."""
        lost = {self.line(number): quantity}
        if everything:
            lost = {line_id: line.in_hand for line_id, line in self.delivery.lines.items() if line.in_hand}
        self.attempt(lambda: self.delivery.lose(lost, reason="rain", now=self.now), "lost")

    @rule(name=st.sampled_from(["refuse", "reroute", "return", "discard"]))
    def on_the_road(self, name: str) -> None:
        """What can happen to goods nobody took."""
        commands: dict[str, Callable[[], None]] = {
            "refuse": lambda: self.delivery.refuse(reason="closed", now=self.now),
            "reroute": lambda: self.delivery.reroute(
                organization_id=ORGANIZATION, place_id=PLACE, accepts=None, now=self.now
            ),
            "return": lambda: self.delivery.return_(now=self.now),
            "discard": lambda: self.delivery.discard(reason="test", now=self.now),
        }
        self.attempt(commands[name], name)

    @rule(batch=st.integers(1, LINE_COUNT), cause=st.sampled_from(Spoilage), really=st.integers(0, 9))
    def spoil(self, batch: int, cause: Spoilage, really: int) -> None:
        """Now and then a batch expires or is recalled; telling it twice adds nothing."""
        if really == 0:
            self.delivery.batch_spoiled(BatchId(UUID(int=batch)), cause=cause)
            version = self.delivery.version
            self.delivery.batch_spoiled(BatchId(UUID(int=batch)), cause=cause)
            assert self.delivery.version == version

    @rule(minutes=st.sampled_from([0, 1, 30, 60, 150, 240]))
    def time_passes(self, minutes: int) -> None:
        """Timers fire, in time or early."""
        self.now += timedelta(minutes=minutes)
        for delivery in self.family:
            delivery.release_unconfirmed(now=self.now)
            delivery.expire(now=self.now, min_handling=MIN_HANDLING)
            assert delivery.status is not Status.OPEN or self.now < USE_BY - MIN_HANDLING
            assert delivery.status is not Status.CLAIMED or self.now < USE_BY

    @invariant()
    def one_claim_while_it_matters(self) -> None:
        """A claimed or carried delivery has a volunteer; a planned or open one has none."""
        for delivery in self.family:
            if delivery.status in (Status.CLAIMED, Status.IN_TRANSIT, Status.REROUTING):
                assert delivery.volunteer_id is not None
            if delivery.status in (Status.PLANNED, Status.OPEN):
                assert delivery.volunteer_id is None

    @invariant()
    def quantities_add_up(self) -> None:
        """0 ≤ in hand ≤ picked ≤ planned; nothing is in hand at the end, and something is while on the road."""
        for delivery in self.family:
            for line in delivery.lines.values():
                assert 0 <= line.in_hand <= line.picked <= line.planned
                assert min(line.delivered, line.returned, line.discarded, line.lost) >= 0
            on_the_road = delivery.status in (Status.IN_TRANSIT, Status.REROUTING)
            assert on_the_road == (delivery.in_hand > 0)

    @invariant()
    def what_was_planned_is_conserved(self) -> None:
        """However often it is split: all parts together are the plan, each line is of one part, and none is empty."""
        sums: Counter[BatchId] = Counter()
        for delivery in self.family:
            assert delivery.lines
            for line in delivery.lines.values():
                assert line.planned > 0
                sums[line.batch_id] += line.planned
        assert sums == self.planned
        assert len({line_id for delivery in self.family for line_id in delivery.lines}) == sum(
            len(delivery.lines) for delivery in self.family
        )
        assert len(self.family) + sum(delivery.splits_left for delivery in self.family) <= SPLITS_MAX + 1

    @invariant()
    def who_waits_can_hope(self) -> None:
        """Nobody twice, nobody for what they carry, nobody once it cannot be open again."""
        for delivery in self.family:
            assert len(set(delivery.waiting)) == len(delivery.waiting)
            assert delivery.volunteer_id not in delivery.waiting
            assert not delivery.waiting or delivery.status in (Status.OPEN, Status.CLAIMED)

    @invariant()
    def the_end_says_what_happened(self) -> None:
        """`delivered` exactly when something was, of those that were carried."""
        for delivery in self.family:
            if delivery.status in (Status.DELIVERED, Status.RETURNED, Status.DISCARDED):
                assert delivery.partly_delivered == (delivery.status is Status.DELIVERED)

    @invariant()
    def ends_are_frozen(self) -> None:
        """Nothing about an ended delivery changes."""
        for delivery in self.family:
            if delivery.id in self.ends:
                assert (delivery.status, delivery.totals) == self.ends[delivery.id]
            if delivery.ended:
                self.ends[delivery.id] = (delivery.status, delivery.totals)

    @invariant()
    def state_is_the_fold_of_its_events(self) -> None:
        """Folding the events gives the same delivery."""
        assert Delivery.fold(self.delivery.id, self.delivery.pending) == self.delivery


def planned_line(n: int, quantity: int) -> PlannedLine:
    """The n-th line, of the n-th batch."""
    return PlannedLine(
        line_id=LineId(UUID(int=n)),
        batch_id=BatchId(UUID(int=n)),
        provider_id=ORGANIZATION,
        pickup_place_id=PLACE,
        product_name="Arroz",
        category="dry",
        storage=Storage.AMBIENT,
        unit="unit",
        quantity=quantity,
        use_by_at=USE_BY,
    )


DeliveryMachine.TestCase.settings = settings(stateful_step_count=40)  # as often as the profile says
TestDelivery = pytest.mark.machine(DeliveryMachine.TestCase)


@pytest.mark.parametrize(
    ("owner", "name", "right", "wrong"),
    [
        (Shared, "_rest", "part.taken.get(line_id, 0)", "part.taken.get(line_id, 0) - 1"),
        (Shared, "_split", "self.splits_left // 2", "self.splits_left // 2 + 1"),
        (Course, "_on_DeliverySplit", "line.planned - moved.quantity)", "line.planned - moved.quantity + 1)"),
        (guards, "require_part", "quantity <= lines[line_id].planned", "quantity <= lines[line_id].planned + 1"),
        (guards, "require_picked", "<= line.planned", "<= line.planned + 1"),
        (guards, "require_losable", "quantity <= lines[line_id].in_hand", "quantity <= lines[line_id].in_hand + 1"),
        (Delivery, "lose", "self.in_hand == 0", "self.in_hand == 1"),
        (Delivery, "expire", "due <= now", "due < now"),
    ],
)
def test_the_machine_finds_what_is_off_by_one(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, right: str, wrong: str
) -> None:
    """A number or a comparison next to the right one breaks something that the machine watches."""
    plant(monkeypatch, owner, name, right, wrong)

    assert finds(DeliveryMachine)
