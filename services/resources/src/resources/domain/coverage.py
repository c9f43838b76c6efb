"""The coverage: per line what is needed, promised and arrived, moved by facts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from chassis.kernel import Aggregate

from resources.domain import facts
from resources.domain.terms import (
    ALLOWED,
    NO_ORGANIZATION,
    NO_PLACE,
    DeliveryId,
    Goods,
    Line,
    LineId,
    Need,
    OrganizationId,
    PlaceId,
    Reservation,
    ReservationId,
    ReservationState,
    Status,
    Urgency,
    UserId,
)


@dataclass
class Coverage(Aggregate):
    """What a request is, and how its facts fold; which facts may happen is the request's to say."""

    organization_id: OrganizationId = NO_ORGANIZATION
    place_id: PlaceId = NO_PLACE
    title: str = ""
    urgency: Urgency = Urgency.NORMAL
    needed_by_at: datetime | None = None
    lines: dict[LineId, Line] = field(default_factory=dict)
    reservations: dict[ReservationId, Reservation] = field(default_factory=dict)
    status: Status = Status.OPEN
    opened_by: UserId | None = None
    opened_at: datetime | None = None
    deliveries: list[DeliveryId] = field(default_factory=list)

    @property
    def listed(self) -> list[Line]:
        """The lines as people put them."""
        return sorted(self.lines.values(), key=lambda line: line.position)

    @property
    def allowed(self) -> list[str]:
        """The commands a person may give now."""
        return ALLOWED[self.status]

    @property
    def satisfied(self) -> bool:
        """Every line has been received in full."""
        return all(line.received >= line.needed for line in self.lines.values())

    def past_needed_by(self, now: datetime) -> bool:
        """The time by which it was needed has come."""
        return self.needed_by_at is not None and self.needed_by_at <= now

    def share(self, goods: Sequence[Goods], room: Mapping[LineId, int]) -> tuple[dict[LineId, int], list[Goods]]:
        """Goods dealt out to lines of their category and unit that have room, and what is left over.

        Lines that ask for a category come before those that ask for one product of it.
        """
        left = {(each.category, each.unit): 0 for each in goods}
        for each in goods:
            left[each.category, each.unit] += each.quantity
        taken: dict[LineId, int] = {}
        for line in sorted(self.listed, key=lambda line: line.gtin is not None):
            quantity = min(room.get(line.line_id, 0), left.get((line.category or "", line.unit), 0))
            if quantity > 0:
                taken[line.line_id] = quantity
                left[line.category or "", line.unit] -= quantity
        rest = [Goods(category=category, unit=unit, quantity=q) for (category, unit), q in left.items() if q > 0]
        return taken, rest

    # -- folding -------------------------------------------------------------------------------------------------------

    def _on_ResourceRequestOpened(self, event: facts.ResourceRequestOpened) -> None:  # noqa: N802
        self.organization_id, self.place_id = event.organization_id, event.place_id
        self.title, self.urgency, self.needed_by_at = event.title, event.urgency, event.needed_by_at
        self.opened_by, self.opened_at = event.opened_by, event.opened_at
        self.lines = {need.line_id: line_of(need, position) for position, need in enumerate(event.lines)}

    def _on_ResourceRequestChanged(self, event: facts.ResourceRequestChanged) -> None:  # noqa: N802
        self.title, self.urgency, self.needed_by_at = event.title, event.urgency, event.needed_by_at
        self.lines = {
            need.line_id: line_of(need, position, self.lines.get(need.line_id))
            for position, need in enumerate(event.lines)
        }

    def _on_ResourceRequestFulfilled(self, _event: facts.ResourceRequestFulfilled) -> None:  # noqa: N802
        self.status = Status.FULFILLED

    def _on_ResourceRequestClosed(self, _event: facts.ResourceRequestClosed) -> None:  # noqa: N802
        self.status = Status.CLOSED

    def _on_ResourceRequestCancelled(self, _event: facts.ResourceRequestCancelled) -> None:  # noqa: N802
        self.status = Status.CANCELLED

    def _on_ResourceRequestExpired(self, _event: facts.ResourceRequestExpired) -> None:  # noqa: N802
        self.status = Status.EXPIRED

    def _on_ResourceRequestDeliveryReceived(  # noqa: N802
        self, event: facts.ResourceRequestDeliveryReceived
    ) -> None:
        self.deliveries.append(event.delivery_id)
        self._add_received(event.quantities)

    def _on_ReservationMade(self, event: facts.ReservationMade) -> None:  # noqa: N802
        for line_id, quantity in event.quantities.items():
            line = self.lines[line_id]
            self.lines[line_id] = replace(line, reserved=line.reserved + quantity)
        self.reservations[event.reservation_id] = Reservation(
            organization_id=event.organization_id,
            reserved_by=event.reserved_by,
            mode=event.mode,
            quantities=event.quantities,
            reserved_at=event.reserved_at,
            expires_at=event.expires_at,
        )

    def _on_ReservationStarted(self, event: facts.ReservationStarted) -> None:  # noqa: N802
        self.reservations[event.reservation_id] = replace(
            self.reservations[event.reservation_id],
            state=ReservationState.IN_DELIVERY,
            delivery_id=event.delivery_id,
        )

    def _on_ReservationReceived(self, event: facts.ReservationReceived) -> None:  # noqa: N802
        self._free(event.reservation_id, ReservationState.RECEIVED)
        self._add_received(event.quantities)
        reservation = self.reservations[event.reservation_id]
        self.reservations[event.reservation_id] = replace(reservation, received=event.quantities)

    def _on_ReservationRefused(self, event: facts.ReservationRefused) -> None:  # noqa: N802
        self._free(event.reservation_id, ReservationState.REFUSED)

    def _on_ReservationCancelled(self, event: facts.ReservationCancelled) -> None:  # noqa: N802
        self._free(event.reservation_id, ReservationState.CANCELLED)

    def _on_ReservationExpired(self, event: facts.ReservationExpired) -> None:  # noqa: N802
        self._free(event.reservation_id, ReservationState.EXPIRED)

    def _add_received(self, quantities: Mapping[LineId, int]) -> None:
        for line_id, quantity in quantities.items():
            line = self.lines[line_id]
            self.lines[line_id] = replace(line, received=line.received + quantity)

    def _free(self, reservation_id: ReservationId, state: ReservationState) -> None:
        """End a reservation: what it covered is not reserved any more."""
        reservation = self.reservations[reservation_id]
        for line_id, quantity in reservation.quantities.items():
            line = self.lines[line_id]
            self.lines[line_id] = replace(line, reserved=line.reserved - quantity)
        self.reservations[reservation_id] = replace(reservation, state=state)


def line_of(need: Need, position: int, before: Line | None = None) -> Line:
    """The line of a need, keeping what was reserved and received of it."""
    return Line(
        line_id=need.line_id,
        position=position,
        name=need.name,
        unit=need.unit,
        needed=need.needed,
        category=need.category,
        gtin=need.gtin,
        reserved=before.reserved if before else 0,
        received=before.received if before else 0,
    )


def need_of(line: Line) -> Need:
    """The need behind a line."""
    return Need(
        line_id=line.line_id,
        name=line.name,
        unit=line.unit,
        needed=line.needed,
        category=line.category,
        gtin=line.gtin,
    )
