"""The request: what a place needs, with reservations inside so that they never exceed it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from chassis.kernel import Invalid, InvalidTransition

from resources.domain import facts, guards, refusals
from resources.domain.coverage import Coverage, added_up, goods_of, need_of
from resources.domain.terms import (
    RESERVATION_LIFETIME,
    RESERVATIONS_MAX,
    DeliveryId,
    Goods,
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
class ResourceRequest(Coverage):
    """For every line, active reservations and what was received together never exceed what is needed.

    When a request ends, promises not yet on their way end with it; those on their way can still be received.
    """

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
        needed_by_at: datetime | None,
        lines: Collection[Need],
        opened_by: UserId,
        now: datetime,
    ) -> Self:
        """A new request; everything in it can be reserved at once."""
        guards.check_needs(lines)
        guards.check_ahead(needed_by_at, now=now)
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
        guards.check_ahead(needed_by_at, now=now)
        if lines is not None:
            guards.check_needs(lines)
            self._require_keeps_commitments(lines)
        self.record(
            facts.ResourceRequestChanged(
                title=self.title if title is None else title,
                urgency=urgency or self.urgency,
                needed_by_at=needed_by_at or self.needed_by_at,
                lines=tuple(need_of(line) for line in self.listed) if lines is None else tuple(lines),
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
        reserved_by: UserId | None,
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
        if organization_id == self.organization_id:
            raise refusals.OwnRequest
        if len(self.reservations) >= RESERVATIONS_MAX:
            raise refusals.TooManyReservations
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
        self,
        reservation_id: ReservationId,
        *,
        received_by: UserId,
        now: datetime,
        quantities: Mapping[LineId, int] | None = None,
    ) -> None:
        """The promise arrived: all of it, or the quantities told; a line not named did not arrive."""
        reservation = self._reservation(reservation_id, "receive")
        guards.require_another(reservation, received_by)
        arrived = reservation.quantities if quantities is None else quantities
        guards.require_within(reservation, arrived)
        self._record_reception(reservation_id, arrived, now=now)
        self._fulfil_if_satisfied()

    def receive_delivery(
        self,
        delivery_id: DeliveryId,
        *,
        brought_by: Collection[OrganizationId],
        goods: Sequence[Goods],
        now: datetime,
    ) -> None:
        """A delivery made for the request handed goods over, also after its end; `goods` is all of it so far.

        What is more than was counted before counts first for the givers' promises that go with it, then for what nobody
        promised, never beyond what is needed; the rest is kept as excess. Nothing more records nothing.
        """
        rest: Sequence[Goods] = self._more_of(delivery_id, goods)
        if not rest:
            return
        for reservation_id, promised in self._brought(delivery_id, brought_by).items():
            arrived, rest = self.share(rest, promised)
            if arrived:
                self._set_out(reservation_id, delivery_id)
                self._record_reception(reservation_id, arrived, now=now)
        added, excess = self.share(rest, {line.line_id: line.uncovered for line in self.lines.values()})
        self.record(
            facts.ResourceRequestDeliveryReceived(
                delivery_id=delivery_id,
                quantities=added,
                excess=tuple(excess),
                received_at=now,
                totals=tuple(goods_of(added_up(goods))),
            )
        )
        self._fulfil_if_satisfied()

    def plan_delivery(
        self, delivery_id: DeliveryId, *, brought_by: Collection[OrganizationId], goods: Sequence[Goods]
    ) -> None:
        """A delivery was made for the request: the givers' promises that volunteers carry go with it, as far as its goods do."""
        rest = goods
        for reservation_id, promised in self._brought(delivery_id, brought_by).items():
            carried, rest = self.share(rest, promised)
            if carried:
                self._set_out(reservation_id, delivery_id)

    def lose_delivery(self, delivery_id: DeliveryId, *, reason: str) -> None:
        """A delivery ended, or went elsewhere: what was promised with it and did not arrive is needed again."""
        for reservation_id, each in list(self.reservations.items()):
            if each.delivery_id == delivery_id and each.state is ReservationState.IN_DELIVERY:
                self.record(facts.ReservationCancelled(reservation_id=reservation_id, reason=reason))

    def refuse(self, reservation_id: ReservationId, *, refused_by: UserId, reason: str) -> None:
        """The receiver does not take what arrived."""
        guards.require_another(self._reservation(reservation_id, "refuse"), refused_by)
        self.record(facts.ReservationRefused(reservation_id=reservation_id, reason=reason))

    def cancel_reservation(self, reservation_id: ReservationId, *, reason: str) -> None:
        """The promise is taken back; what it covered is needed again."""
        self._reservation(reservation_id, "cancel")
        self.record(facts.ReservationCancelled(reservation_id=reservation_id, reason=reason))

    def expire_reservation(self, reservation_id: ReservationId, *, now: datetime, in_sight: bool = True) -> None:
        """A timer ends a promise that is not on its way after 48 hours; otherwise it records nothing.

        One that set out with a delivery of which nothing was ever heard (not `in_sight`) is not on its way.
        """
        reservation = self._known(reservation_id)
        waits = reservation.state is ReservationState.RESERVED
        strays = reservation.state is ReservationState.IN_DELIVERY and not in_sight
        if (waits or strays) and reservation.expires_at <= now:
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
            guards.check_quantity(quantity)
            if line_id not in self.lines:
                raise refusals.LineNotFound(line_id=line_id)
            if quantity > self.lines[line_id].uncovered:
                raise refusals.NeedExceeded(line_id=line_id, uncovered=self.lines[line_id].uncovered)

    def _require_keeps_commitments(self, needs: Collection[Need]) -> None:
        by_id = {need.line_id: need for need in needs}
        for line in self.lines.values():
            committed, need = line.reserved + line.received, by_id.get(line.line_id)
            if committed and (need is None or need.needed < committed or guards.kind_of(need) != guards.kind_of(line)):
                raise refusals.NeedCommitted(line_id=line.line_id, committed=committed)

    def _brought(
        self, delivery_id: DeliveryId, brought_by: Collection[OrganizationId]
    ) -> dict[ReservationId, dict[LineId, int]]:
        """The givers' promises that set out with the delivery, then those that may still go with it."""
        given = {key: each for key, each in self.reservations.items() if each.organization_id in brought_by}
        with_it = {
            key: each.quantities
            for key, each in given.items()
            if each.delivery_id == delivery_id and each.state is ReservationState.IN_DELIVERY
        }
        waiting = {
            key: each.quantities
            for key, each in given.items()
            if each.mode is Mode.VOLUNTEER_PICKUP and each.state is ReservationState.RESERVED
        }
        return with_it | waiting

    def _more_of(self, delivery_id: DeliveryId, goods: Sequence[Goods]) -> list[Goods]:
        """What a delivery has handed over beyond what was counted before."""
        before = self.handed_over.get(delivery_id)
        if before is None and delivery_id in self.deliveries:
            return []  # counted whole before totals were kept
        counted = added_up(before or ())
        return goods_of({kind: total - counted.get(kind, 0) for kind, total in added_up(goods).items()})

    def _set_out(self, reservation_id: ReservationId, delivery_id: DeliveryId) -> None:
        if self.reservations[reservation_id].state is ReservationState.RESERVED:
            self.record(facts.ReservationStarted(reservation_id=reservation_id, delivery_id=delivery_id))

    def _record_reception(self, reservation_id: ReservationId, arrived: Mapping[LineId, int], *, now: datetime) -> None:
        self.record(facts.ReservationReceived(reservation_id=reservation_id, quantities=dict(arrived), received_at=now))

    def _fulfil_if_satisfied(self) -> None:
        if self.status is Status.OPEN and self.satisfied:
            self.record(facts.ResourceRequestFulfilled())

    def _drop_promises(self, reason: str) -> None:
        for reservation_id, reservation in list(self.reservations.items()):
            if reservation.state is ReservationState.RESERVED:
                self.record(facts.ReservationCancelled(reservation_id=reservation_id, reason=reason))
