"""The ledger under any interleaving of commands: conserved, never negative, and equal to its events."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from batches.domain import (
    Batch,
    BatchId,
    Category,
    DeliveryId,
    HoldId,
    HoldState,
    Kind,
    OrganizationId,
    PickupWindow,
    PlaceId,
    Product,
    Receiver,
    Severity,
    Status,
    Storage,
    Unit,
    Where,
    granted,
    guards,
    holder,
)
from batches.domain.ledger import Ledger
from chassis.kernel import Conflict, Invalid
from chassis.testing.planting import finds, plant
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
LINES = st.integers(1, 9).map(lambda n: HoldId(UUID(int=n)))
NUMBERS = st.integers(0, 63)
RECEIVERS = [Receiver(organization_id=OrganizationId(UUID(int=n)), place_id=PlaceId(UUID(int=n))) for n in (70, 80)]
AMOUNTS = st.integers(0, 31)
FROZEN, LIVE = (Status.CANCELLED, Status.RECALLED), (Status.PRODUCING, Status.READY, Status.DEPLETED)
USE_BY = START + timedelta(hours=6)


class LedgerMachine(RuleBasedStateMachine):
    """Holds, pickups, deliveries, returns and losses, repeated and out of order, with expiry and recall between.

    It begins with a few holds, and most commands are about a hold that they fit: chance alone would seldom get a portion
    to anybody's door.
    """

    @initialize(quantity=st.integers(1, 20), held=st.integers(0, 3), carried=st.integers(0, 2))
    def create(self, quantity: int, held: int, carried: int) -> None:
        """A fresh batch of one to twenty portions, some of them held, some of those on the road."""
        self.now = START
        self.ended_as: Status | None = None
        self.batch = Batch.create(
            BatchId(UUID(int=99)),
            organization_id=OrganizationId(UUID(int=1)),
            place_id=PlaceId(UUID(int=2)),
            kind=Kind.FOOD,
            product=Product(name="Rice", category=Category.DRY),
            unit=Unit.PORTION,
            quantity=quantity,
            storage=Storage.AMBIENT,
            pickup_window=PickupWindow(from_at=START, to_at=START + timedelta(hours=2)),
            use_by_at=USE_BY,
            now=START,
        )
        self.batch.mark_ready(now=START, min_handling=timedelta(minutes=30))
        for number in range(1, held + 1):
            line, part = HoldId(UUID(int=number)), max(1, quantity // 3)
            self.batch.hold(line, delivery_id=DeliveryId(line), quantity=part, now=START)
            if number <= carried and self.batch.holds[line].state is HoldState.HELD:
                self.batch.pick_up(line, picked=part, now=START)

    def one(self, number: int, fitting: HoldState) -> HoldId | None:
        """A hold in the fitting state most of the time, any hold otherwise; None while there is none."""
        holds = self.batch.holds
        fits = [hold_id for hold_id, hold in holds.items() if hold.state is fitting] if number % 8 else []
        choice = fits or list(holds)
        return choice[number % len(choice)] if choice else None

    def so_much(self, amount: int, most: int) -> int:
        """The amount as it is now and then, mostly cut to what fits, or is one too many."""
        return amount if amount % 8 == 0 else amount % (most + 2)

    def so_far(self, hold_id: HoldId, amount: int, already: int) -> int:
        """A total for a hold: mostly one that adds some of what is still on the road, or is one too many."""
        return amount if amount % 8 == 0 else already + amount % (self.batch.holds[hold_id].in_transit + 2)

    def attempt(self, command: Callable[[], None]) -> None:
        """Run a command twice: a refusal leaves no trace, and a repetition adds nothing."""
        version = self.batch.version
        try:
            command()
        except (Conflict, Invalid):
            assert self.batch.version == version
            return
        version = self.batch.version
        with contextlib.suppress(Conflict):
            command()
        assert self.batch.version == version

    @rule(hold_id=LINES, quantity=st.integers(1, 12))
    def hold(self, hold_id: HoldId, quantity: int) -> None:
        """A hold is granted exactly when there is as much and it is still good, which is what the batch says beforehand."""
        known, reason = hold_id in self.batch.holds, self.batch.why_not_hold(quantity, now=self.now)
        good = self.batch.status in (Status.READY, Status.DEPLETED) and self.now < USE_BY
        assert (reason is None) == (good and quantity <= self.batch.available)
        self.attempt(lambda: self.batch.hold(hold_id, delivery_id=DeliveryId(hold_id), quantity=quantity, now=self.now))
        if not known:
            assert (self.batch.holds[hold_id].state is HoldState.HELD) == (reason is None)

    @rule(number=NUMBERS, sibling_id=LINES, quantity=AMOUNTS)
    def split_hold(self, number: int, sibling_id: HoldId, quantity: int) -> None:
        """A delivery was split, and told of it from both sides; nothing moves between the buckets."""
        if hold_id := self.one(number, HoldState.HELD):
            before, sibling = self.buckets(), DeliveryId(sibling_id)
            quantity = self.so_much(quantity, self.batch.holds[hold_id].quantity)
            self.attempt(
                lambda: self.batch.split_hold(
                    hold_id, sibling_id=sibling_id, sibling_delivery_id=sibling, quantity=quantity
                )
            )
            assert self.buckets() == before

    @rule(number=NUMBERS)
    def release(self, number: int) -> None:
        """A delivery was cancelled."""
        if hold_id := self.one(number, HoldState.HELD):
            self.attempt(lambda: self.batch.release(hold_id, reason="cancelled"))

    @rule(number=NUMBERS, picked=AMOUNTS)
    def pick_up(self, number: int, picked: int) -> None:
        """A volunteer took some of a hold."""
        if hold_id := self.one(number, HoldState.HELD):
            picked = self.so_much(picked, self.batch.holds[hold_id].quantity)
            self.attempt(lambda: self.batch.pick_up(hold_id, picked=picked, now=self.now))

    @rule(number=NUMBERS, delivered=AMOUNTS, receiver=st.sampled_from([None, *RECEIVERS]))
    def deliver(self, number: int, delivered: int, receiver: Receiver | None) -> None:
        """Receivers accepted so much so far, the last of them at this door."""
        if hold_id := self.one(number, HoldState.IN_TRANSIT):
            delivered = self.so_far(hold_id, delivered, self.batch.holds[hold_id].delivered)
            self.attempt(lambda: self.batch.deliver(hold_id, delivered=delivered, receiver=receiver))

    @rule(number=NUMBERS, returned=AMOUNTS, usable=st.booleans())
    def take_back(self, number: int, returned: int, usable: bool) -> None:
        """So much came back so far."""
        if hold_id := self.one(number, HoldState.IN_TRANSIT):
            returned = self.so_far(hold_id, returned, self.batch.holds[hold_id].returned)
            self.attempt(lambda: self.batch.take_back(hold_id, returned=returned, usable=usable))

    @rule(number=NUMBERS, lost=AMOUNTS)
    def lose(self, number: int, lost: int) -> None:
        """So much was lost so far."""
        if hold_id := self.one(number, HoldState.IN_TRANSIT):
            lost = self.so_far(hold_id, lost, self.batch.holds[hold_id].lost)
            self.attempt(lambda: self.batch.lose(hold_id, lost=lost))

    @rule(quantity=st.integers(0, 25))
    def adjust(self, quantity: int) -> None:
        """The provider counted again."""
        self.attempt(lambda: self.batch.adjust(quantity, reason="counted"))

    @rule(hours=st.sampled_from([0, 0, 1, 1, 3]))
    def time_passes(self, hours: int) -> None:
        """A timer fires, in time or early."""
        self.now += timedelta(hours=hours)
        self.attempt(lambda: self.batch.expire(now=self.now))
        assert (self.batch.status not in LIVE) or self.now < USE_BY

    @rule(really=st.integers(0, 9))
    def recall_or_cancel(self, really: int) -> None:
        """Now and then the batch is recalled or taken back."""
        if really == 0:
            self.attempt(lambda: self.batch.recall(severity=Severity.HIGH, reason="glass"))
        elif really == 1:
            self.attempt(lambda: self.batch.cancel(reason="eaten"))

    def buckets(self) -> tuple[int, int, int, int, int]:
        """What the total is made of."""
        batch = self.batch
        return (batch.available, batch.held, batch.in_transit, batch.delivered, batch.lost)

    @invariant()
    def conserved(self) -> None:
        """total = available + held + in_transit + delivered + lost, none below zero."""
        assert min(self.buckets()) >= 0
        assert self.batch.total == sum(self.buckets())

    @invariant()
    def buckets_are_the_sum_of_the_holds(self) -> None:
        """What is held, on the road and delivered is exactly what the holds say."""
        holds = self.batch.holds.values()
        assert self.batch.held == sum(hold.held for hold in holds)
        assert self.batch.in_transit == sum(hold.in_transit for hold in holds)
        assert self.batch.delivered == sum(hold.delivered for hold in holds)
        assert all(hold.quantity > 0 or hold.state is HoldState.RELEASED for hold in holds)

    @invariant()
    def the_trace_tells_the_same(self) -> None:
        """Added up over all holders, the parts are the buckets: nothing held, carried or delivered is without a place."""
        told: Counter[Where] = Counter()
        for hold_id in granted(self.batch):
            for part in holder(self.batch, hold_id, None).parts:
                told[part.where] += part.quantity
        batch = self.batch
        assert (told[Where.HELD], told[Where.IN_TRANSIT]) == (batch.held, batch.in_transit)
        assert told[Where.DELIVERED] == batch.delivered

    @invariant()
    def status_follows_quantities(self) -> None:
        """Ready has something available, depleted and closed have not, and closed has nothing open."""
        if self.batch.status is Status.READY:
            assert self.batch.available > 0
        if self.batch.status in (Status.DEPLETED, Status.CLOSED):
            assert self.batch.available == 0
            assert self.batch.in_use == (self.batch.status is Status.DEPLETED)
        if self.batch.spoiled:
            assert self.batch.available == 0

    @invariant()
    def terminal_states_are_frozen(self) -> None:
        """Nothing leaves `recalled`, and `cancelled` only for a recall of what was delivered before."""
        if self.ended_as is not None and self.batch.status is not self.ended_as:
            assert (self.ended_as, self.batch.status) == (Status.CANCELLED, Status.RECALLED)
            assert self.batch.delivered > 0
        if self.batch.status in FROZEN:
            self.ended_as = self.batch.status

    @invariant()
    def state_is_the_fold_of_its_events(self) -> None:
        """Folding the events gives the same batch."""
        assert Batch.fold(self.batch.id, self.batch.pending) == self.batch


LedgerMachine.TestCase.settings = settings(stateful_step_count=40)  # as often as the profile says
TestLedger = pytest.mark.machine(LedgerMachine.TestCase)


@pytest.mark.parametrize(
    ("owner", "name", "right", "wrong"),
    [
        (Ledger, "why_not_hold", "quantity <= self.available", "quantity < self.available"),
        (Ledger, "why_not_hold", "quantity <= self.available", "quantity <= self.available + 1"),
        (Ledger, "past_use_by", "self.use_by_at <= now", "self.use_by_at < now"),
        (guards, "require_at_most", "quantity <= most", "quantity <= most + 1"),
        (Batch, "adjust", "quantity < committed", "quantity < committed - 1"),
        (Batch, "pick_up", "hold.quantity - picked", "hold.quantity - picked - 1"),
        (Batch, "_follow_up", "self.available == 0", "self.available <= 1"),
    ],
)
def test_the_machine_finds_what_is_off_by_one(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, right: str, wrong: str
) -> None:
    """A number or a comparison next to the right one breaks something that the machine watches."""
    plant(monkeypatch, owner, name, right, wrong)

    assert finds(LedgerMachine)
