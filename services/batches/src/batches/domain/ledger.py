"""The quantity ledger: what a batch is after its events, and the questions that state answers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from chassis.kernel import Aggregate

from batches.domain import facts
from batches.domain.terms import (
    ALLOWED,
    NO_ORGANIZATION,
    NO_PLACE,
    NO_PRODUCT,
    Drop,
    Hold,
    HoldId,
    HoldState,
    Kind,
    OrganizationId,
    PickupWindow,
    PlaceId,
    Product,
    Rejection,
    Severity,
    Status,
    Storage,
    Unit,
)


@dataclass
class Ledger(Aggregate):
    """`total = available + held + in_transit + delivered + lost`, each never negative, after every event."""

    organization_id: OrganizationId = NO_ORGANIZATION
    place_id: PlaceId = NO_PLACE
    kind: Kind = Kind.FOOD
    product: Product = NO_PRODUCT
    unit: Unit = Unit.UNIT
    storage: Storage = Storage.AMBIENT
    lot_code: str | None = None
    use_by_at: datetime | None = None
    pickup_window: PickupWindow | None = None
    est_ready_at: datetime | None = None
    handling_notes: str | None = None
    status: Status = Status.PRODUCING
    total: int = 0
    available: int = 0
    held: int = 0
    in_transit: int = 0
    delivered: int = 0
    lost: int = 0
    holds: dict[HoldId, Hold] = field(default_factory=dict)
    temperature_dc: int | None = None
    temperature_in_band: bool | None = None
    created_at: datetime | None = None
    ready_at: datetime | None = None
    recall_severity: Severity | None = None

    @property
    def allowed(self) -> list[str]:
        """The commands a person may give now; an offer taken back can be recalled when somebody was brought a part of it."""
        delivered_before = self.status is Status.CANCELLED and self.delivered > 0
        return ["recall"] if delivered_before else ALLOWED[self.status]

    @property
    def in_use(self) -> bool:
        """Something is held or on the road."""
        return self.held > 0 or self.in_transit > 0

    @property
    def temperature_alarm(self) -> bool:
        """The newest reading is out of band."""
        return self.temperature_in_band is False

    @property
    def spoiled(self) -> bool:
        """Nothing may be handed over any more, and what comes back is lost."""
        return self.status in (Status.EXPIRED, Status.RECALLED)

    def past_use_by(self, now: datetime) -> bool:
        """The use-by time has come."""
        return self.use_by_at is not None and self.use_by_at <= now

    def why_not_hold(self, quantity: int, *, now: datetime) -> Rejection | None:
        """The reason a hold of this quantity would be rejected, or None when it would be granted."""
        if self.status is Status.RECALLED:
            return Rejection.RECALLED
        if self.status is Status.EXPIRED or self.past_use_by(now):
            return Rejection.EXPIRED
        if self.status not in (Status.READY, Status.DEPLETED):
            return Rejection.NOT_READY
        return None if quantity <= self.available else Rejection.INSUFFICIENT

    # -- folding -------------------------------------------------------------------------------------------------------

    def _on_BatchCreated(self, event: facts.BatchCreated) -> None:  # noqa: N802
        self.organization_id, self.place_id = event.organization_id, event.place_id
        self.kind, self.product, self.unit, self.storage = event.kind, event.product, event.unit, event.storage
        self.lot_code, self.use_by_at, self.pickup_window = event.lot_code, event.use_by_at, event.pickup_window
        self.est_ready_at, self.handling_notes = event.est_ready_at, event.handling_notes
        self.created_at = event.created_at
        self.total = self.available = event.quantity

    def _on_BatchReady(self, event: facts.BatchReady) -> None:  # noqa: N802
        self.status, self.ready_at, self.use_by_at = Status.READY, event.ready_at, event.use_by_at
        self.total = self.available = event.quantity
        if event.temperature_dc is not None:
            self.temperature_dc, self.temperature_in_band = event.temperature_dc, True

    def _on_BatchAdjusted(self, event: facts.BatchAdjusted) -> None:  # noqa: N802
        self.available += event.quantity - event.previous_quantity
        self.total = event.quantity

    def _on_BatchHeld(self, event: facts.BatchHeld) -> None:  # noqa: N802
        self.available -= event.quantity
        self.held += event.quantity
        self.holds[event.hold_id] = Hold(delivery_id=event.delivery_id, quantity=event.quantity, state=HoldState.HELD)

    def _on_BatchHoldRejected(self, event: facts.BatchHoldRejected) -> None:  # noqa: N802
        self.holds[event.hold_id] = Hold(
            delivery_id=event.delivery_id, quantity=event.quantity, state=HoldState.REJECTED
        )

    def _on_BatchHoldReleased(self, event: facts.BatchHoldReleased) -> None:  # noqa: N802
        self.held -= event.restocked + event.lost
        self._put_back(event.restocked, event.lost)
        self.holds[event.hold_id] = replace(self.holds[event.hold_id], state=HoldState.RELEASED)

    def _on_BatchHoldSplit(self, event: facts.BatchHoldSplit) -> None:  # noqa: N802
        hold = self.holds[event.hold_id]
        left = hold.quantity - event.quantity
        self.holds[event.hold_id] = replace(hold, quantity=left, state=HoldState.HELD if left else HoldState.RELEASED)
        self.holds[event.sibling_hold_id] = Hold(
            delivery_id=event.sibling_delivery_id, quantity=event.quantity, state=HoldState.HELD
        )

    def _on_BatchPickedUp(self, event: facts.BatchPickedUp) -> None:  # noqa: N802
        self.held -= event.picked + event.restocked + event.lost
        self.in_transit += event.picked
        self._put_back(event.restocked, event.lost)
        hold = self.holds[event.hold_id]
        self.holds[event.hold_id] = replace(hold, picked=event.picked, state=HoldState.IN_TRANSIT)

    def _on_BatchDelivered(self, event: facts.BatchDelivered) -> None:  # noqa: N802
        self.in_transit -= event.quantity
        self.delivered += event.quantity
        hold = self.holds[event.hold_id]
        drops = hold.drops
        if event.receiver is not None:
            drops = (*drops, Drop(receiver=event.receiver, quantity=event.quantity))
        self._account(event.hold_id, replace(hold, delivered=hold.delivered + event.quantity, drops=drops))

    def _on_BatchReturned(self, event: facts.BatchReturned) -> None:  # noqa: N802
        self.in_transit -= event.restocked + event.lost
        self._put_back(event.restocked, event.lost)
        hold = self.holds[event.hold_id]
        self._account(event.hold_id, replace(hold, returned=hold.returned + event.restocked + event.lost))

    def _on_BatchLost(self, event: facts.BatchLost) -> None:  # noqa: N802
        self.in_transit -= event.quantity
        self.lost += event.quantity
        hold = self.holds[event.hold_id]
        self._account(event.hold_id, replace(hold, lost=hold.lost + event.quantity))

    def _on_BatchDepleted(self, _event: facts.BatchDepleted) -> None:  # noqa: N802
        self.status = Status.DEPLETED

    def _on_BatchReplenished(self, _event: facts.BatchReplenished) -> None:  # noqa: N802
        self.status = Status.READY

    def _on_BatchClosed(self, _event: facts.BatchClosed) -> None:  # noqa: N802
        self.status = Status.CLOSED

    def _on_BatchExpired(self, event: facts.BatchExpired) -> None:  # noqa: N802
        self.status = Status.EXPIRED
        self._write_off(event.lost)

    def _on_BatchCancelled(self, _event: facts.BatchCancelled) -> None:  # noqa: N802
        self.status = Status.CANCELLED

    def _on_BatchRecalled(self, event: facts.BatchRecalled) -> None:  # noqa: N802
        self.status, self.recall_severity = Status.RECALLED, event.severity
        self._write_off(event.lost)

    def _on_TemperatureRecorded(self, event: facts.TemperatureRecorded) -> None:  # noqa: N802
        self.temperature_dc, self.temperature_in_band = event.temperature_dc, event.in_band

    def _put_back(self, restocked: int, lost: int) -> None:
        self.available += restocked
        self.lost += lost

    def _write_off(self, quantity: int) -> None:
        self.available -= quantity
        self.lost += quantity

    def _account(self, hold_id: HoldId, hold: Hold) -> None:
        """Store a hold whose totals moved; with nothing left on the road it is settled."""
        self.holds[hold_id] = hold if hold.in_transit else replace(hold, state=HoldState.SETTLED)
