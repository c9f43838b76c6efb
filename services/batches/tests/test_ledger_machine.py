"""The ledger under any interleaving of commands: conserved, never negative, and equal to its events."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

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
    Severity,
    Status,
    Storage,
    Unit,
)
from chassis.kernel import Conflict, Invalid
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
LINES = st.integers(1, 6).map(lambda n: HoldId(UUID(int=n)))
AMOUNTS = st.integers(0, 12)
FROZEN = (Status.CANCELLED, Status.RECALLED)


class LedgerMachine(RuleBasedStateMachine):
    """Holds, pickups, deliveries, returns and losses, repeated and out of order, with expiry and recall between."""

    @initialize(quantity=st.integers(1, 20))
    def create(self, quantity: int) -> None:
        """A fresh batch of one to twenty portions."""
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
            use_by_at=START + timedelta(hours=6),
            now=START,
        )
        self.batch.mark_ready(now=START, min_handling=timedelta(minutes=30))

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
        """A hold is granted exactly when the batch says that it would be."""
        known, reason = hold_id in self.batch.holds, self.batch.why_not_hold(quantity, now=self.now)
        self.attempt(lambda: self.batch.hold(hold_id, delivery_id=DeliveryId(hold_id), quantity=quantity, now=self.now))
        if not known:
            assert (self.batch.holds[hold_id].state is HoldState.HELD) == (reason is None)

    @rule(hold_id=LINES)
    def release(self, hold_id: HoldId) -> None:
        """A delivery was cancelled."""
        if hold_id in self.batch.holds:
            self.attempt(lambda: self.batch.release(hold_id, reason="cancelled"))

    @rule(hold_id=LINES, picked=AMOUNTS)
    def pick_up(self, hold_id: HoldId, picked: int) -> None:
        """A volunteer took some of a hold."""
        if hold_id in self.batch.holds:
            self.attempt(lambda: self.batch.pick_up(hold_id, picked=picked, now=self.now))

    @rule(hold_id=LINES, delivered=AMOUNTS)
    def deliver(self, hold_id: HoldId, delivered: int) -> None:
        """A receiver accepted so much so far."""
        if hold_id in self.batch.holds:
            self.attempt(lambda: self.batch.deliver(hold_id, delivered=delivered))

    @rule(hold_id=LINES, returned=AMOUNTS, usable=st.booleans())
    def take_back(self, hold_id: HoldId, returned: int, usable: bool) -> None:
        """So much came back so far."""
        if hold_id in self.batch.holds:
            self.attempt(lambda: self.batch.take_back(hold_id, returned=returned, usable=usable))

    @rule(hold_id=LINES, lost=AMOUNTS)
    def lose(self, hold_id: HoldId, lost: int) -> None:
        """So much was lost so far."""
        if hold_id in self.batch.holds:
            self.attempt(lambda: self.batch.lose(hold_id, lost=lost))

    @rule(quantity=st.integers(0, 25))
    def adjust(self, quantity: int) -> None:
        """The provider counted again."""
        self.attempt(lambda: self.batch.adjust(quantity, reason="counted"))

    @rule(hours=st.integers(0, 1))
    def time_passes(self, hours: int) -> None:
        """A timer fires, in time or early."""
        self.now += timedelta(hours=hours)
        self.attempt(lambda: self.batch.expire(now=self.now))

    @rule(really=st.integers(0, 9))
    def recall_or_cancel(self, really: int) -> None:
        """Now and then the batch is recalled or taken back."""
        if really == 0:
            self.attempt(lambda: self.batch.recall(severity=Severity.HIGH, reason="glass"))
        elif really == 1:
            self.attempt(lambda: self.batch.cancel(reason="eaten"))

    @invariant()
    def conserved(self) -> None:
        """total = available + held + in_transit + delivered + lost, none below zero."""
        batch = self.batch
        parts = (batch.available, batch.held, batch.in_transit, batch.delivered, batch.lost)
        assert min(parts) >= 0
        assert batch.total == sum(parts)

    @invariant()
    def buckets_are_the_sum_of_the_holds(self) -> None:
        """What is held, on the road and delivered is exactly what the holds say."""
        holds = self.batch.holds.values()
        assert self.batch.held == sum(hold.quantity for hold in holds if hold.state is HoldState.HELD)
        assert self.batch.in_transit == sum(hold.in_transit for hold in holds)
        assert self.batch.delivered == sum(hold.delivered for hold in holds)

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
        """Nothing leaves `cancelled` or `recalled`."""
        if self.ended_as is not None:
            assert self.batch.status is self.ended_as
        if self.batch.status in FROZEN:
            self.ended_as = self.batch.status

    @invariant()
    def state_is_the_fold_of_its_events(self) -> None:
        """Folding the events gives the same batch."""
        assert Batch.fold(self.batch.id, self.batch.pending) == self.batch


LedgerMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("VAJ_EXAMPLES", "60")), stateful_step_count=40, deadline=None
)
TestLedger = LedgerMachine.TestCase
