"""The coverage: per line what is needed, promised and arrived, moved by facts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from chassis.kernel import Aggregate

from resources.domain import facts
from resources.domain.match import Match
from resources.domain.terms import (
    ALLOWED,
    NO_ORGANIZATION,
    NO_PLACE,
    DeliveryId,
    Goods,
    Kind,
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
    handed_over: dict[DeliveryId, tuple[Goods, ...]] = field(default_factory=dict)

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
        """Goods dealt out to the lines that ask for them and have room, and what is left over."""
        left = added_up(goods)
        taken: dict[LineId, int] = {}
        fitting = [
            (rank, line.position, line.line_id, kind)
            for line in self.lines.values()
            for kind in left
            if (rank := line.rank_of(kind)) is not None
        ]
        for _, _, line_id, kind in sorted(fitting, key=lambda fit: fit[:2]):
            quantity = min(room.get(line_id, 0) - taken.get(line_id, 0), left[kind])
            if quantity > 0:
                taken[line_id] = taken.get(line_id, 0) + quantity
                left[kind] -= quantity
        return taken, goods_of(left)

    def crowded_out(self, proposals: Sequence[Match]) -> list[Match]:
        """Proposals that it has no room for any more, or that are not what it asks for; the first ones keep their room."""
        is_open = self.status is Status.OPEN
        room = {line.line_id: line.uncovered for line in self.lines.values()} if is_open else {}
        out = []
        for match in proposals:
            line = self.lines.get(match.line_id)
            fits = line is not None and line.rank_of((match.category, match.unit, match.gtin)) is not None
            if fits and match.quantity <= room.get(match.line_id, 0):
                room[match.line_id] -= match.quantity
            else:
                out.append(match)
        return out

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
        if event.delivery_id not in self.deliveries:
            self.deliveries.append(event.delivery_id)
        if event.totals:
            self.handed_over[event.delivery_id] = event.totals
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


def added_up(goods: Sequence[Goods]) -> dict[Kind, int]:
    """The quantity of each kind."""
    sums: dict[Kind, int] = {}
    for each in goods:
        sums[each.kind] = sums.get(each.kind, 0) + each.quantity
    return sums


def goods_of(sums: Mapping[Kind, int]) -> list[Goods]:
    """Those kinds of which there is something."""
    return [
        Goods(category=category, unit=unit, quantity=quantity, gtin=gtin)
        for (category, unit, gtin), quantity in sums.items()
        if quantity > 0
    ]


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
