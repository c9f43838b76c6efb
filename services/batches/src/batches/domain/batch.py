"""The batch: every command checks its rule and records a fact; the ledger moves the quantities."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from chassis.kernel import InvalidTransition

from batches.domain import facts, guards, refusals
from batches.domain.ledger import Ledger
from batches.domain.terms import (
    BatchId,
    DeliveryId,
    Hold,
    HoldId,
    HoldState,
    Kind,
    OrganizationId,
    PickupWindow,
    PlaceId,
    Product,
    Receiver,
    Severity,
    Stage,
    Status,
    Storage,
    Unit,
)


@dataclass
class Batch(Ledger):
    """Supply that can be held, carried, delivered, returned or lost, never more than there is.

    People's commands are refused with an error. Commands about holds come from messages: a repeated one records
    nothing, and the quantities they carry are totals so far for that hold, so that repeating is harmless.
    """

    # -- commands of people --------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        batch_id: BatchId,
        *,
        organization_id: OrganizationId,
        place_id: PlaceId,
        kind: Kind,
        product: Product,
        unit: Unit,
        quantity: int,
        storage: Storage,
        pickup_window: PickupWindow,
        now: datetime,
        lot_code: str | None = None,
        use_by_at: datetime | None = None,
        est_ready_at: datetime | None = None,
        handling_notes: str | None = None,
    ) -> Self:
        """A new batch in `producing`; nothing of it can be held yet."""
        guards.check_quantity(quantity)
        guards.check_window(pickup_window)
        guards.check_use_by_ahead(use_by_at, now=now)
        batch = cls(id=batch_id)
        batch.record(
            facts.BatchCreated(
                organization_id=organization_id,
                place_id=place_id,
                kind=kind,
                product=product,
                unit=unit,
                quantity=quantity,
                storage=storage,
                pickup_window=pickup_window,
                lot_code=lot_code,
                use_by_at=use_by_at,
                est_ready_at=est_ready_at,
                handling_notes=handling_notes,
                created_at=now,
            )
        )
        return batch

    def mark_ready(
        self,
        *,
        now: datetime,
        min_handling: timedelta,
        quantity: int | None = None,
        temperature_dc: int | None = None,
        use_by_at: datetime | None = None,
    ) -> None:
        """Open the batch for holds. `quantity` and `use_by_at`, when given, replace what was announced."""
        self._require("ready")
        if quantity is not None:
            guards.check_quantity(quantity)
        guards.check_use_by_ahead(use_by_at, now=now)
        use_by_at = use_by_at or self.use_by_at
        self._require_safe_time(use_by_at, earliest=now + min_handling)
        guards.require_in_band(self.storage, temperature_dc)
        self.record(
            facts.BatchReady(
                quantity=self.total if quantity is None else quantity,
                use_by_at=use_by_at,
                temperature_dc=temperature_dc,
                ready_at=now,
            )
        )

    def adjust(self, quantity: int, *, reason: str) -> None:
        """Correct the total; what is held, on the road, delivered or lost cannot be adjusted away."""
        self._require("adjust")
        guards.check_quantity(quantity)
        committed = self.total - self.available
        if quantity < committed:
            raise refusals.QuantityCommitted(committed=committed)
        if quantity == self.total:
            return
        self.record(facts.BatchAdjusted(quantity=quantity, previous_quantity=self.total, reason=reason))
        self._follow_up()

    def cancel(self, *, reason: str) -> None:
        """Take the offer back while nothing is held or on the road."""
        self._require("cancel")
        if self.in_use:
            raise refusals.BatchInUse(held=self.held, in_transit=self.in_transit)
        self.record(facts.BatchCancelled(reason=reason))

    def recall(self, *, severity: Severity, reason: str) -> None:
        """Declare the batch dangerous, whatever became of it, naming every delivery that ever held any of it."""
        self._require("recall")
        holders = {hold.delivery_id for hold in self.holds.values() if hold.state is not HoldState.REJECTED}
        self.record(
            facts.BatchRecalled(
                severity=severity, reason=reason, lost=self.available, delivery_ids=tuple(sorted(holders))
            )
        )

    def record_temperature(self, temperature_dc: int, *, stage: Stage, now: datetime) -> None:
        """Keep a reading, in band or not."""
        self._require("temperatures")
        guards.check_temperature(temperature_dc)
        self.record(
            facts.TemperatureRecorded(
                temperature_dc=temperature_dc,
                stage=stage,
                in_band=guards.in_band(self.storage, temperature_dc),
                recorded_at=now,
            )
        )

    # -- commands of messages and timers -------------------------------------------------------------------------------

    def hold(self, hold_id: HoldId, *, delivery_id: DeliveryId, quantity: int, now: datetime) -> None:
        """Set a quantity aside if there is enough; otherwise the rejection is the event. Asked twice: answered once."""
        if hold_id in self.holds:
            return
        guards.check_quantity(quantity)
        reason = self.why_not_hold(quantity, now=now)
        if reason is not None:
            self.record(
                facts.BatchHoldRejected(hold_id=hold_id, delivery_id=delivery_id, quantity=quantity, reason=reason)
            )
            return
        self.record(facts.BatchHeld(hold_id=hold_id, delivery_id=delivery_id, quantity=quantity))
        self._follow_up()

    def release(self, hold_id: HoldId, *, reason: str) -> None:
        """End a hold before pickup; a hold that is not held any more, or never was granted, stays as it is."""
        hold = self._hold(hold_id)
        if hold.state in (HoldState.RELEASED, HoldState.REJECTED):
            return
        guards.require_hold_state(hold, HoldState.HELD)
        restocked, lost = self._split(hold.quantity, usable=True)
        self.record(
            facts.BatchHoldReleased(
                hold_id=hold_id, delivery_id=hold.delivery_id, restocked=restocked, lost=lost, reason=reason
            )
        )
        self._follow_up()

    def split_hold(
        self, hold_id: HoldId, *, sibling_id: HoldId, sibling_delivery_id: DeliveryId, quantity: int
    ) -> None:
        """Keep part of a hold for another delivery's line. Both deliveries tell of it: whoever comes second changes nothing."""
        if sibling_id in self.holds:
            return
        hold = self._hold(hold_id)
        guards.require_hold_state(hold, HoldState.HELD)
        guards.check_quantity(quantity)
        guards.require_at_most(quantity, hold.quantity)
        self.record(
            facts.BatchHoldSplit(
                hold_id=hold_id,
                delivery_id=hold.delivery_id,
                sibling_hold_id=sibling_id,
                sibling_delivery_id=sibling_delivery_id,
                quantity=quantity,
            )
        )

    def pick_up(self, hold_id: HoldId, *, picked: int, now: datetime) -> None:
        """Hand a hold over. It has left already, so this holds after expiry or recall too; the shortfall comes back."""
        hold = self._hold(hold_id)
        if picked == 0:
            self.release(hold_id, reason="not-picked-up")
            return
        if hold.state in (HoldState.IN_TRANSIT, HoldState.SETTLED):
            return
        guards.require_hold_state(hold, HoldState.HELD)
        guards.require_at_most(picked, hold.quantity)
        restocked, lost = self._split(hold.quantity - picked, usable=not self.past_use_by(now))
        self.record(
            facts.BatchPickedUp(
                hold_id=hold_id, delivery_id=hold.delivery_id, picked=picked, restocked=restocked, lost=lost
            )
        )
        self._follow_up()

    def deliver(self, hold_id: HoldId, *, delivered: int, receiver: Receiver | None = None) -> None:
        """Account for what receivers have accepted of a hold so far; `receiver` took what is new."""
        hold = self._hold(hold_id)
        more = self._more(hold, delivered, so_far=hold.delivered)
        if more > 0:
            self.record(
                facts.BatchDelivered(hold_id=hold_id, delivery_id=hold.delivery_id, quantity=more, receiver=receiver)
            )
            self._follow_up()

    def take_back(self, hold_id: HoldId, *, returned: int, usable: bool) -> None:
        """Account for what has come back of a hold so far; usable goods are available again unless spoiled."""
        hold = self._hold(hold_id)
        more = self._more(hold, returned, so_far=hold.returned)
        if more > 0:
            restocked, lost = self._split(more, usable=usable)
            self.record(
                facts.BatchReturned(hold_id=hold_id, delivery_id=hold.delivery_id, restocked=restocked, lost=lost)
            )
            self._follow_up()

    def lose(self, hold_id: HoldId, *, lost: int) -> None:
        """Account for what has been lost or discarded of a hold so far."""
        hold = self._hold(hold_id)
        more = self._more(hold, lost, so_far=hold.lost)
        if more > 0:
            self.record(facts.BatchLost(hold_id=hold_id, delivery_id=hold.delivery_id, quantity=more))
            self._follow_up()

    def expire(self, *, now: datetime) -> None:
        """End the batch when its use-by time has come; too early, or ended already, records nothing."""
        live = self.status in (Status.PRODUCING, Status.READY, Status.DEPLETED)
        if live and self.past_use_by(now):
            self.record(facts.BatchExpired(lost=self.available, expired_at=now))

    def close(self) -> None:
        """Close a depleted batch with nothing held or on the road; otherwise record nothing."""
        if self.status is Status.DEPLETED and not self.in_use:
            self.record(facts.BatchClosed())

    # -- rules ---------------------------------------------------------------------------------------------------------

    def _require(self, command: str) -> None:
        if command not in self.allowed:
            raise InvalidTransition(status=self.status, allowed=self.allowed)

    def _require_safe_time(self, use_by_at: datetime | None, *, earliest: datetime) -> None:
        if use_by_at is None:
            if self.kind is not Kind.AID:
                raise refusals.UseByRequired(kind=self.kind)
        elif use_by_at < earliest:
            raise refusals.UseByTooSoon(use_by_at=use_by_at, earliest=earliest)

    def _hold(self, hold_id: HoldId) -> Hold:
        if hold_id not in self.holds:
            raise refusals.HoldNotFound(hold_id=hold_id)
        return self.holds[hold_id]

    def _split(self, quantity: int, *, usable: bool) -> tuple[int, int]:
        """What of a quantity that comes back is available again, and what is lost."""
        return (quantity, 0) if usable and not self.spoiled else (0, quantity)

    def _more(self, hold: Hold, total: int, *, so_far: int) -> int:
        """How much a total adds to what is accounted for; zero or less when the message is an old one."""
        if total > so_far:
            guards.require_hold_state(hold, HoldState.IN_TRANSIT)
            guards.require_at_most(total - so_far, hold.in_transit)
        return total - so_far

    def _follow_up(self) -> None:
        """Record what the new quantities imply."""
        if self.status is Status.READY and self.available == 0:
            self.record(facts.BatchDepleted())
        elif self.status is Status.DEPLETED and self.available > 0:
            self.record(facts.BatchReplenished(available=self.available))
        self.close()
