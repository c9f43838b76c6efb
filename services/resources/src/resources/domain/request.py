"""The request: what a place needs, with reservations inside so that they never exceed it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from chassis.kernel import Aggregate, Invalid, InvalidTransition

from resources.domain import facts, refusals
from resources.domain.terms import (
    ALLOWED,
    LINES_MAX,
    NO_ORGANIZATION,
    NO_PLACE,
    QUANTITY_MAX,
    RESERVATION_LIFETIME,
    DeliveryId,
    Line,
    LineId,
    Mode,
    Need,
    OrganizationId,
    PlaceId,
    RequestId,
    Reservation,
    ReservationId,
    ReservationState,
    Status,
    Urgency,
    UserId,
)


@dataclass
class ResourceRequest(Aggregate):
    """For every line, active reservations and what was received together never exceed what is needed.

    When a request ends, promises not yet on their way end with it; those on their way can still be received.
    """

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

    # -- the request ---------------------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        request_id: RequestId,
        *,
        organization_id: OrganizationId,
        place_id: PlaceId,
        title: str,
        urgency: Urgency,
        needed_by_at: datetime,
        lines: Collection[Need],
        opened_by: UserId,
        now: datetime,
    ) -> Self:
        """A new request; everything in it can be reserved at once."""
        check_needs(lines)
        check_ahead(needed_by_at, now=now)
        request = cls(id=request_id)
        request.record(
            facts.ResourceRequestOpened(
                organization_id=organization_id,
                place_id=place_id,
                title=title,
                urgency=urgency,
                needed_by_at=needed_by_at,
                lines=tuple(lines),
                opened_by=opened_by,
                opened_at=now,
            )
        )
        return request

    def change(
        self,
        *,
        now: datetime,
        title: str | None = None,
        urgency: Urgency | None = None,
        needed_by_at: datetime | None = None,
        lines: Collection[Need] | None = None,
    ) -> None:
        """Replace what is told. Given `lines` are all lines from now on; what is reserved or received of one stays."""
        self._require("change")
        if needed_by_at is not None:
            check_ahead(needed_by_at, now=now)
        if lines is not None:
            check_needs(lines)
            self._require_keeps_commitments(lines)
        until = needed_by_at or self.needed_by_at
        if until is None:
            raise Invalid("say by when it is needed", pointer="/needed_by_at")
        self.record(
            facts.ResourceRequestChanged(
                title=self.title if title is None else title,
                urgency=urgency or self.urgency,
                needed_by_at=until,
                lines=tuple(need_of(line) for line in self.lines.values()) if lines is None else tuple(lines),
            )
        )
        self._fulfil_if_satisfied()

    def close(self, *, reason: str | None = None) -> None:
        """Enough has come: the rest is not needed."""
        self._require("close")
        self.record(facts.ResourceRequestClosed(reason=reason))
        self._drop_promises("request-closed")

    def cancel(self, *, reason: str) -> None:
        """The request is void."""
        self._require("cancel")
        self.record(facts.ResourceRequestCancelled(reason=reason))
        self._drop_promises("request-cancelled")

    def expire(self, *, now: datetime) -> None:
        """A timer ends an open request at its time; too early, or ended already, records nothing."""
        if self.status is Status.OPEN and self.past_needed_by(now):
            self.record(facts.ResourceRequestExpired(expired_at=now))
            self._drop_promises("request-expired")

    # -- reservations --------------------------------------------------------------------------------------------------

    def reserve(
        self,
        reservation_id: ReservationId,
        *,
        organization_id: OrganizationId,
        reserved_by: UserId,
        mode: Mode,
        quantities: Mapping[LineId, int],
        now: datetime,
    ) -> None:
        """Promise part of what is uncovered, for 48 hours; the same reservation twice is made once."""
        if reservation_id in self.reservations:
            return
        self._require("reserve")
        if self.past_needed_by(now):
            raise refusals.NeededByPassed(needed_by_at=self.needed_by_at)
        self._require_uncovered(quantities)
        self.record(
            facts.ReservationMade(
                reservation_id=reservation_id,
                organization_id=organization_id,
                reserved_by=reserved_by,
                mode=mode,
                quantities=dict(quantities),
                reserved_at=now,
                expires_at=now + RESERVATION_LIFETIME,
            )
        )

    def start(self, reservation_id: ReservationId, *, delivery_id: DeliveryId | None = None) -> None:
        """The promise is on its way, perhaps by a delivery of this platform; it does not expire any more."""
        self._reservation(reservation_id, "start")
        self.record(facts.ReservationStarted(reservation_id=reservation_id, delivery_id=delivery_id))

    def receive(
        self, reservation_id: ReservationId, *, now: datetime, quantities: Mapping[LineId, int] | None = None
    ) -> None:
        """The promise arrived: all of it, or the quantities told; a line not named did not arrive."""
        reservation = self._reservation(reservation_id, "receive")
        arrived = reservation.quantities if quantities is None else quantities
        require_within(reservation, arrived)
        self.record(facts.ReservationReceived(reservation_id=reservation_id, quantities=dict(arrived), received_at=now))
        self._fulfil_if_satisfied()

    def refuse(self, reservation_id: ReservationId, *, reason: str) -> None:
        """The receiver does not take what arrived."""
        self._reservation(reservation_id, "refuse")
        self.record(facts.ReservationRefused(reservation_id=reservation_id, reason=reason))

    def cancel_reservation(self, reservation_id: ReservationId, *, reason: str) -> None:
        """The promise is taken back; what it covered is needed again."""
        self._reservation(reservation_id, "cancel")
        self.record(facts.ReservationCancelled(reservation_id=reservation_id, reason=reason))

    def expire_reservation(self, reservation_id: ReservationId, *, now: datetime) -> None:
        """A timer ends a promise that is not on its way after 48 hours; otherwise it records nothing."""
        reservation = self._known(reservation_id)
        if reservation.state is ReservationState.RESERVED and reservation.expires_at <= now:
            self.record(facts.ReservationExpired(reservation_id=reservation_id, expired_at=now))

    # -- rules ---------------------------------------------------------------------------------------------------------

    def _require(self, command: str) -> None:
        if command not in self.allowed:
            raise InvalidTransition(status=self.status, allowed=self.allowed)

    def _known(self, reservation_id: ReservationId) -> Reservation:
        if reservation_id not in self.reservations:
            raise refusals.ReservationNotFound(reservation_id=reservation_id)
        return self.reservations[reservation_id]

    def _reservation(self, reservation_id: ReservationId, command: str) -> Reservation:
        reservation = self._known(reservation_id)
        if command not in reservation.allowed:
            raise InvalidTransition(status=reservation.state, allowed=reservation.allowed)
        return reservation

    def _require_uncovered(self, quantities: Mapping[LineId, int]) -> None:
        if not quantities:
            raise Invalid("a reservation names a line", pointer="/lines")
        for line_id, quantity in quantities.items():
            check_quantity(quantity)
            if line_id not in self.lines:
                raise refusals.LineNotFound(line_id=line_id)
            if quantity > self.lines[line_id].uncovered:
                raise refusals.NeedExceeded(line_id=line_id, uncovered=self.lines[line_id].uncovered)

    def _require_keeps_commitments(self, needs: Collection[Need]) -> None:
        by_id = {need.line_id: need for need in needs}
        for line in self.lines.values():
            committed, need = line.reserved + line.received, by_id.get(line.line_id)
            if committed and (need is None or need.needed < committed or kind_of(need) != kind_of(line)):
                raise refusals.NeedCommitted(line_id=line.line_id, committed=committed)

    def _fulfil_if_satisfied(self) -> None:
        if self.status is Status.OPEN and self.satisfied:
            self.record(facts.ResourceRequestFulfilled())

    def _drop_promises(self, reason: str) -> None:
        for reservation_id, reservation in list(self.reservations.items()):
            if reservation.state is ReservationState.RESERVED:
                self.record(facts.ReservationCancelled(reservation_id=reservation_id, reason=reason))

    # -- folding -------------------------------------------------------------------------------------------------------

    def _on_ResourceRequestOpened(self, event: facts.ResourceRequestOpened) -> None:  # noqa: N802
        self.organization_id, self.place_id = event.organization_id, event.place_id
        self.title, self.urgency, self.needed_by_at = event.title, event.urgency, event.needed_by_at
        self.opened_by, self.opened_at = event.opened_by, event.opened_at
        self.lines = {need.line_id: line_of(need) for need in event.lines}

    def _on_ResourceRequestChanged(self, event: facts.ResourceRequestChanged) -> None:  # noqa: N802
        self.title, self.urgency, self.needed_by_at = event.title, event.urgency, event.needed_by_at
        self.lines = {need.line_id: line_of(need, self.lines.get(need.line_id)) for need in event.lines}

    def _on_ResourceRequestFulfilled(self, _event: facts.ResourceRequestFulfilled) -> None:  # noqa: N802
        self.status = Status.FULFILLED

    def _on_ResourceRequestClosed(self, _event: facts.ResourceRequestClosed) -> None:  # noqa: N802
        self.status = Status.CLOSED

    def _on_ResourceRequestCancelled(self, _event: facts.ResourceRequestCancelled) -> None:  # noqa: N802
        self.status = Status.CANCELLED

    def _on_ResourceRequestExpired(self, _event: facts.ResourceRequestExpired) -> None:  # noqa: N802
        self.status = Status.EXPIRED

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
        for line_id, quantity in event.quantities.items():
            line = self.lines[line_id]
            self.lines[line_id] = replace(line, received=line.received + quantity)
        reservation = self.reservations[event.reservation_id]
        self.reservations[event.reservation_id] = replace(reservation, received=event.quantities)

    def _on_ReservationRefused(self, event: facts.ReservationRefused) -> None:  # noqa: N802
        self._free(event.reservation_id, ReservationState.REFUSED)

    def _on_ReservationCancelled(self, event: facts.ReservationCancelled) -> None:  # noqa: N802
        self._free(event.reservation_id, ReservationState.CANCELLED)

    def _on_ReservationExpired(self, event: facts.ReservationExpired) -> None:  # noqa: N802
        self._free(event.reservation_id, ReservationState.EXPIRED)

    def _free(self, reservation_id: ReservationId, state: ReservationState) -> None:
        """End a reservation: what it covered is not reserved any more."""
        reservation = self.reservations[reservation_id]
        for line_id, quantity in reservation.quantities.items():
            line = self.lines[line_id]
            self.lines[line_id] = replace(line, reserved=line.reserved - quantity)
        self.reservations[reservation_id] = replace(reservation, state=state)


def check_quantity(quantity: int) -> None:
    """A quantity is at least one and within what anybody can need."""
    if not 1 <= quantity <= QUANTITY_MAX:
        raise Invalid("quantity out of range", pointer="/lines")


def check_needs(lines: Collection[Need]) -> None:
    """One to a hundred lines, each once, each of a category or a GTIN, each of some quantity."""
    if not 1 <= len(lines) <= LINES_MAX:
        raise Invalid(f"a request has 1 to {LINES_MAX} lines", pointer="/lines")
    if len({line.line_id for line in lines}) < len(lines):
        raise Invalid("a line is named once", pointer="/lines")
    for line in lines:
        check_quantity(line.needed)
        if line.category is None and line.gtin is None:
            raise Invalid("a line names a category or a GTIN", pointer="/lines")


def check_ahead(needed_by_at: datetime, *, now: datetime) -> None:
    """What is needed is needed in the future."""
    if needed_by_at <= now:
        raise Invalid("the time by which it is needed has passed", pointer="/needed_by_at")


def require_within(reservation: Reservation, arrived: Mapping[LineId, int]) -> None:
    """At most what was promised of every line, and something."""
    for line_id, quantity in arrived.items():
        if line_id not in reservation.quantities:
            raise refusals.LineNotFound(line_id=line_id)
        if not 0 <= quantity <= reservation.quantities[line_id]:
            raise refusals.ReceivedMoreThanReserved(line_id=line_id, reserved=reservation.quantities[line_id])
    if not any(arrived.values()):
        raise refusals.NothingReceived


def kind_of(need: Need | Line) -> tuple[str | None, str | None, str]:
    """What may not change once somebody promised it."""
    return need.category, need.gtin, need.unit


def line_of(need: Need, before: Line | None = None) -> Line:
    """The line of a need, keeping what was reserved and received of it."""
    return Line(
        line_id=need.line_id,
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
