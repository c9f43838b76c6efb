"""A delivery under any order of commands: one claim, everything accounted for, ends that stay ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from chassis.kernel import Conflict, Forbidden, Invalid, InvalidTransition
from deliveries.domain import (
    BatchId,
    Delivery,
    DeliveryId,
    Dropped,
    LineId,
    OrganizationId,
    PlaceId,
    PlannedLine,
    Spoilage,
    Status,
    Storage,
    UserId,
    Window,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
MIN_HANDLING = timedelta(minutes=30)
LINE_COUNT = 2
LINES = st.integers(1, LINE_COUNT).map(lambda n: LineId(UUID(int=n)))
VOLUNTEERS = st.integers(1, 3).map(lambda n: UserId(UUID(int=n)))
AMOUNTS = st.integers(0, 5)
PROVIDER = UserId(UUID(int=50))
PLACE, ORGANIZATION = PlaceId(UUID(int=60)), OrganizationId(UUID(int=61))


class DeliveryMachine(RuleBasedStateMachine):
    """Claims, handovers, refusals, spoilage and timers in any order, many of them out of place."""

    @initialize(quantities=st.lists(st.integers(1, 5), min_size=LINE_COUNT, max_size=LINE_COUNT))
    def plan(self, quantities: list[int]) -> None:
        """Two lines, their holds pending, good for eight hours."""
        self.now = START
        self.end: tuple[Status, object] | None = None
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

    def attempt(self, command: Callable[[], None], name: str = "") -> None:
        """A refusal leaves no trace, and the table decides whether it is about the state."""
        version, allowed = self.delivery.version, self.delivery.allowed
        try:
            command()
        except InvalidTransition:
            assert name not in allowed
            assert self.delivery.version == version
        except (Conflict, Forbidden, Invalid):
            assert self.delivery.version == version
        else:
            assert not name or name in allowed

    @rule(line_id=LINES)
    def grant(self, line_id: LineId) -> None:
        """Batches granted a hold, perhaps again."""
        self.attempt(lambda: self.delivery.grant_hold(line_id, now=self.now))

    @rule()
    def open_up(self) -> None:
        """Every hold was granted at once."""
        for line_id in list(self.delivery.lines):
            self.attempt(lambda line_id=line_id: self.delivery.grant_hold(line_id, now=self.now))  # type: ignore[misc]

    @rule(line_id=LINES, really=st.integers(0, 9))
    def reject(self, line_id: LineId, really: int) -> None:
        """Now and then a hold is rejected."""
        if really == 0:
            self.attempt(lambda: self.delivery.reject_hold(line_id, reason="insufficient"))

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
        if really == 0:
            self.attempt(commands[name], name)

    @rule(amounts=st.lists(AMOUNTS, min_size=LINE_COUNT, max_size=LINE_COUNT))
    def pickup(self, amounts: list[int]) -> None:
        """Any quantities, fitting or not."""
        picked = dict(zip(self.delivery.lines, amounts, strict=True))
        self.attempt(lambda: self.delivery.pickup(picked, given_by=PROVIDER, now=self.now), "pickup")

    @rule(amounts=st.lists(AMOUNTS, min_size=LINE_COUNT, max_size=LINE_COUNT), exact=st.booleans())
    def dropoff(self, amounts: list[int], exact: bool) -> None:
        """Delivered and rejected quantities, mostly adding up."""
        dropped = {
            line.line_id: Dropped(
                delivered=min(amount, line.in_hand) if exact else amount, rejected=max(0, line.in_hand - amount)
            )
            for line, amount in zip(self.delivery.lines.values(), amounts, strict=True)
        }
        self.attempt(lambda: self.delivery.dropoff(dropped, now=self.now), "dropoff")

    @rule(line_id=LINES, quantity=st.integers(0, 3))
    def lose(self, line_id: LineId, quantity: int) -> None:
        """Something fell off the bike."""
        self.attempt(lambda: self.delivery.lose({line_id: quantity}, reason="rain", now=self.now), "lost")

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

    @rule(minutes=st.integers(0, 60))
    def time_passes(self, minutes: int) -> None:
        """Timers fire, in time or early."""
        self.now += timedelta(minutes=minutes)
        self.delivery.release_unconfirmed(now=self.now)
        self.delivery.expire(now=self.now, min_handling=MIN_HANDLING)

    @invariant()
    def one_claim_while_it_matters(self) -> None:
        """A claimed or carried delivery has a volunteer; a planned or open one has none."""
        if self.delivery.status in (Status.CLAIMED, Status.IN_TRANSIT, Status.REROUTING):
            assert self.delivery.volunteer_id is not None
        if self.delivery.status in (Status.PLANNED, Status.OPEN):
            assert self.delivery.volunteer_id is None

    @invariant()
    def quantities_add_up(self) -> None:
        """0 ≤ in hand ≤ picked ≤ planned; nothing is in hand at the end, and something is while on the road."""
        for line in self.delivery.lines.values():
            assert 0 <= line.in_hand <= line.picked <= line.planned
            assert min(line.delivered, line.returned, line.discarded, line.lost) >= 0
        on_the_road = self.delivery.status in (Status.IN_TRANSIT, Status.REROUTING)
        assert on_the_road == (self.delivery.in_hand > 0)

    @invariant()
    def the_end_says_what_happened(self) -> None:
        """`delivered` exactly when something was, of those that were carried."""
        if self.delivery.status in (Status.DELIVERED, Status.RETURNED, Status.DISCARDED):
            assert self.delivery.partly_delivered == (self.delivery.status is Status.DELIVERED)

    @invariant()
    def ends_are_frozen(self) -> None:
        """Nothing about an ended delivery changes."""
        if self.end is not None:
            assert (self.delivery.status, self.delivery.totals) == self.end
        if self.delivery.ended:
            self.end = (self.delivery.status, self.delivery.totals)

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
        use_by_at=START + timedelta(hours=8),
    )


DeliveryMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("VAJ_EXAMPLES", "60")), stateful_step_count=40, deadline=None
)
TestDelivery = DeliveryMachine.TestCase
