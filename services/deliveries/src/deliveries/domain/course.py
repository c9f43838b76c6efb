"""The course of a delivery: what it is after its events, and the questions that state answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from chassis.kernel import Aggregate, InvalidTransition

from deliveries.domain import facts
from deliveries.domain.terms import (
    ALLOWED,
    CLAIM_SPAN_MIN,
    NO_ORGANIZATION,
    NO_PLACE,
    SPLITS_MAX,
    TERMINAL,
    BatchId,
    DeliveryId,
    HoldState,
    Line,
    LineId,
    LineTotals,
    NoShow,
    OrganizationId,
    PlaceId,
    PlannedLine,
    RequestId,
    Spoilage,
    Status,
    UserId,
    Window,
)


@dataclass
class Course(Aggregate):
    """At most one volunteer at a time; picked = delivered + returned + discarded + lost at the end."""

    receiving_organization_id: OrganizationId = NO_ORGANIZATION
    receiving_place_id: PlaceId = NO_PLACE
    pickup_place_id: PlaceId = NO_PLACE
    lines: dict[LineId, Line] = field(default_factory=dict)
    status: Status = Status.PLANNED
    pickup_window: Window | None = None
    dropoff_window: Window | None = None
    request_id: RequestId | None = None
    planned_by: UserId | None = None
    planned_at: datetime | None = None
    volunteer_id: UserId | None = None
    claimed_at: datetime | None = None
    confirm_by: datetime | None = None
    secret_version: int = 0
    opened_at: datetime | None = None
    picked_up_at: datetime | None = None
    ended_at: datetime | None = None
    spoiled: dict[BatchId, Spoilage] = field(default_factory=dict)
    no_shows: list[NoShow] = field(default_factory=list)
    former_receiver_ids: list[OrganizationId] = field(default_factory=list)
    ended_reason: str | None = None
    parent_id: DeliveryId | None = None
    sibling_ids: list[DeliveryId] = field(default_factory=list)
    splits_left: int = SPLITS_MAX
    waiting: list[UserId] = field(default_factory=list)

    @property
    def allowed(self) -> list[str]:
        """The commands a person may give now."""
        return ALLOWED[self.status]

    @property
    def ended(self) -> bool:
        """Nothing about the goods changes any more."""
        return self.status in TERMINAL

    @property
    def provider_ids(self) -> list[OrganizationId]:
        """The organizations that give, each once."""
        return sorted({line.provider_id for line in self.lines.values()})

    @property
    def party_ids(self) -> list[OrganizationId]:
        """Every organization concerned, each once: who gives, who receives, and who was to receive before."""
        return list(dict.fromkeys([*self.provider_ids, self.receiving_organization_id, *self.former_receiver_ids]))

    @property
    def weight_g(self) -> int:
        """What is known of the weight: the lines counted in grams."""
        return self.weight_g_of({line_id: line.planned for line_id, line in self.lines.items()})

    @property
    def carrying(self) -> bool:
        """A volunteer has promised to carry it, or does."""
        return self.status in (Status.CLAIMED, Status.IN_TRANSIT, Status.REROUTING)

    @property
    def busy(self) -> Window | None:
        """When it keeps its volunteer busy; None while it has none, and afterwards."""
        return self.span_of_claim(self.claimed_at) if self.carrying and self.claimed_at is not None else None

    @property
    def use_by_at(self) -> datetime | None:
        """The earliest use-by time of any line."""
        return min((line.use_by_at for line in self.lines.values() if line.use_by_at), default=None)

    @property
    def in_hand(self) -> int:
        """How much is on the road and not yet accounted for."""
        return sum(line.in_hand for line in self.lines.values())

    @property
    def partly_delivered(self) -> bool:
        """A receiver took at least some of it."""
        return any(line.delivered for line in self.lines.values())

    @property
    def totals(self) -> tuple[LineTotals, ...]:
        """Every line as events tell it."""
        return tuple(totals_of(line) for line in self.lines.values())

    def weight_g_of(self, quantities: Mapping[LineId, int]) -> int:
        """What is known of the weight of so much of each line; a line that is not here weighs nothing."""
        known = self.lines.keys() & quantities.keys()
        return sum(quantities[line_id] for line_id in known if self.lines[line_id].unit == "g")

    def span_of_claim(self, claimed_at: datetime) -> Window:
        """When a claim made then keeps its volunteer busy: from the pickup window's beginning to the last window's end."""
        from_at = self.pickup_window.from_at if self.pickup_window else claimed_at
        last = self.dropoff_window or self.pickup_window
        ends = [from_at + CLAIM_SPAN_MIN, claimed_at + CLAIM_SPAN_MIN, *([last.to_at] if last else [])]
        return Window(from_at=from_at, to_at=max(ends))

    def require(self, command: str) -> None:
        """Refuse a command that does not exist in the present state."""
        if command not in self.allowed:
            raise InvalidTransition(status=self.status, allowed=self.allowed)

    def expires_at(self, *, min_handling: timedelta) -> datetime | None:
        """When `expire` ends it: an open one while there still is handling time, a claimed one at its use-by time."""
        if self.use_by_at is None or self.status not in (Status.OPEN, Status.CLAIMED):
            return None
        return self.use_by_at - min_handling if self.status is Status.OPEN else self.use_by_at

    # -- folding -------------------------------------------------------------------------------------------------------

    def _on_DeliveryPlanned(self, event: facts.DeliveryPlanned) -> None:  # noqa: N802
        self.receiving_organization_id = event.receiving_organization_id
        self.receiving_place_id, self.pickup_place_id = event.receiving_place_id, event.pickup_place_id
        self.pickup_window, self.dropoff_window = event.pickup_window, event.dropoff_window
        self.request_id, self.planned_by, self.planned_at = event.request_id, event.planned_by, event.planned_at
        for line in event.lines:
            self.lines[line.line_id] = line_of(line)

    def _on_DeliverySplitOff(self, event: facts.DeliverySplitOff) -> None:  # noqa: N802
        self.receiving_organization_id = event.receiving_organization_id
        self.receiving_place_id, self.pickup_place_id = event.receiving_place_id, event.pickup_place_id
        self.pickup_window, self.dropoff_window = event.pickup_window, event.dropoff_window
        self.request_id, self.planned_by, self.planned_at = event.request_id, event.planned_by, event.planned_at
        self.parent_id, self.splits_left = event.parent_id, event.splits_left
        for line in event.lines:
            self.lines[line.line_id] = replace(line_of(line), hold=HoldState.GRANTED)

    def _on_DeliverySplit(self, event: facts.DeliverySplit) -> None:  # noqa: N802
        self.sibling_ids.append(event.sibling_id)
        self.splits_left = event.splits_left
        for moved in event.moved:
            line = self.lines[moved.line_id]
            if line.planned == moved.quantity:
                del self.lines[moved.line_id]
            else:
                self.lines[moved.line_id] = replace(line, planned=line.planned - moved.quantity)

    def _on_HoldGranted(self, event: facts.HoldGranted) -> None:  # noqa: N802
        self.lines[event.line_id] = replace(self.lines[event.line_id], hold=HoldState.GRANTED)

    def _on_HoldRejected(self, event: facts.HoldRejected) -> None:  # noqa: N802
        self.lines[event.line_id] = replace(self.lines[event.line_id], hold=HoldState.REJECTED)

    def _on_DeliveryOpened(self, event: facts.DeliveryOpened) -> None:  # noqa: N802
        self.status, self.opened_at = Status.OPEN, event.opened_at

    def _on_DeliveryClaimed(self, event: facts.DeliveryClaimed) -> None:  # noqa: N802
        self.status, self.volunteer_id = Status.CLAIMED, event.volunteer_id
        self.claimed_at, self.confirm_by = event.claimed_at, event.confirm_by
        self.secret_version += 1
        self._stop_waiting(event.volunteer_id)

    def _on_ClaimConfirmed(self, _event: facts.ClaimConfirmed) -> None:  # noqa: N802
        self.confirm_by = None

    def _on_ClaimReleased(self, _event: facts.ClaimReleased) -> None:  # noqa: N802
        self.status, self.volunteer_id, self.claimed_at, self.confirm_by = Status.OPEN, None, None, None

    def _on_WaitingListJoined(self, event: facts.WaitingListJoined) -> None:  # noqa: N802
        self.waiting.append(event.volunteer_id)

    def _on_WaitingListLeft(self, event: facts.WaitingListLeft) -> None:  # noqa: N802
        self._stop_waiting(event.volunteer_id)

    def _on_WaitingVolunteerCalled(self, event: facts.WaitingVolunteerCalled) -> None:  # noqa: N802
        self._stop_waiting(event.volunteer_id)

    def _on_VolunteerNoShow(self, event: facts.VolunteerNoShow) -> None:  # noqa: N802
        self.no_shows.append(
            NoShow(volunteer_id=event.volunteer_id, reported_by=event.reported_by, reported_at=event.reported_at)
        )

    def _on_NoShowContested(self, event: facts.NoShowContested) -> None:  # noqa: N802
        self.no_shows = [
            replace(each, contested_reason=event.reason)
            if each.volunteer_id == event.volunteer_id and each.contested_reason is None
            else each
            for each in self.no_shows
        ]

    def _on_PickupConfirmed(self, event: facts.PickupConfirmed) -> None:  # noqa: N802
        self.status, self.picked_up_at, self.confirm_by = Status.IN_TRANSIT, event.picked_up_at, None
        self.waiting = []
        self._take(event.lines)

    def _on_DropoffRefused(self, event: facts.DropoffRefused) -> None:  # noqa: N802
        self.status = Status.REROUTING
        self._take(event.lines)

    def _on_DeliveryInterrupted(self, event: facts.DeliveryInterrupted) -> None:  # noqa: N802
        self.status = Status.REROUTING
        self.spoiled[event.batch_id] = event.cause

    def _on_DeliveryRerouted(self, event: facts.DeliveryRerouted) -> None:  # noqa: N802
        self.status = Status.IN_TRANSIT
        if self.receiving_organization_id not in self.former_receiver_ids:
            self.former_receiver_ids.append(self.receiving_organization_id)
        self.receiving_organization_id = event.receiving_organization_id
        self.receiving_place_id = event.receiving_place_id
        self.secret_version += 1

    def _on_DeliveryGoodsLost(self, event: facts.DeliveryGoodsLost) -> None:  # noqa: N802
        self._take(event.lines)

    def _on_DeliveryReturned(self, event: facts.DeliveryReturned) -> None:  # noqa: N802
        self._take(event.lines)
        if not self.partly_delivered:
            self._end(Status.RETURNED, at=event.returned_at)

    def _on_DeliveryDiscarded(self, event: facts.DeliveryDiscarded) -> None:  # noqa: N802
        self._take(event.lines)
        if not self.partly_delivered:
            self._end(Status.DISCARDED, at=event.discarded_at, reason=event.reason)

    def _on_DeliveryCompleted(self, event: facts.DeliveryCompleted) -> None:  # noqa: N802
        self._take(event.lines)
        self._end(Status.DELIVERED, at=event.completed_at)

    def _on_DeliveryFailed(self, event: facts.DeliveryFailed) -> None:  # noqa: N802
        self._end(Status.FAILED, reason=event.reason)

    def _on_DeliveryCancelled(self, event: facts.DeliveryCancelled) -> None:  # noqa: N802
        self._end(Status.CANCELLED, reason=event.reason)

    def _on_DeliveryExpired(self, _event: facts.DeliveryExpired) -> None:  # noqa: N802
        self._end(Status.EXPIRED)

    def _take(self, lines: tuple[LineTotals, ...]) -> None:
        for line in lines:
            self.lines[line.line_id] = replace(
                self.lines[line.line_id],
                picked=line.picked,
                delivered=line.delivered,
                rejected=line.rejected,
                returned=line.returned,
                discarded=line.discarded,
                lost=line.lost,
            )

    def _end(self, status: Status, *, at: datetime | None = None, reason: str | None = None) -> None:
        self.status, self.ended_at, self.ended_reason = status, at, reason
        self.waiting = []

    def _stop_waiting(self, volunteer_id: UserId) -> None:
        self.waiting = [each for each in self.waiting if each != volunteer_id]


def line_of(planned: PlannedLine) -> Line:
    """A line as it is planned, its hold not granted yet."""
    return Line(
        line_id=planned.line_id,
        batch_id=planned.batch_id,
        provider_id=planned.provider_id,
        product_name=planned.product_name,
        category=planned.category,
        storage=planned.storage,
        unit=planned.unit,
        planned=planned.quantity,
        use_by_at=planned.use_by_at,
    )


def totals_of(line: Line) -> LineTotals:
    """A line as events tell it."""
    return LineTotals(
        line_id=line.line_id,
        batch_id=line.batch_id,
        planned=line.planned,
        picked=line.picked,
        delivered=line.delivered,
        rejected=line.rejected,
        returned=line.returned,
        discarded=line.discarded,
        lost=line.lost,
    )
