"""What can be done with reservations: load, decide, save."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from chassis.access import Directory, Principal
from chassis.database import Transaction
from chassis.kernel import Conflict, NotFound, new_id

from resources import repository
from resources.domain import DeliveryId, LineId, Mode, OrganizationId, ReservationId, ResourceRequest, UserId
from resources.repository import REQUESTS
from resources.usecases.deliveries import ENDS
from resources.usecases.rights import OrganizationNotVerified, donor_of, require_side, reservation_of_party, seen
from resources.usecases.saving import save, set_reservation_timer


class DeliveryNotFound(NotFound):
    """No such delivery, or none of the donor's."""

    slug = "delivery-not-found"


class DeliveryOver(Conflict):
    """The delivery has ended: it brings nothing more."""

    slug = "delivery-over"


class DeliveryElsewhere(Conflict):
    """The delivery goes to somebody else, or was made for another request."""

    slug = "delivery-elsewhere"


async def reserve(
    tx: Transaction,
    directory: Directory,
    principal: Principal,
    request_id: UUID,
    *,
    organization_id: UUID | None,
    mode: Mode,
    quantities: Mapping[UUID, int],
    now: datetime,
    if_match: int | None,
) -> tuple[ResourceRequest, ReservationId]:
    """Promise a part of a request for a donor or provider."""
    request = await seen(tx, directory, principal, request_id, if_match)
    donor_id = await donor_of(tx, principal, organization_id)
    if await directory.organization_status(request.organization_id) != "verified":
        raise OrganizationNotVerified("the organization in need is not verified now")
    reservation_id = ReservationId(new_id())
    request.reserve(
        reservation_id,
        organization_id=OrganizationId(donor_id),
        reserved_by=UserId(principal.id),
        mode=mode,
        quantities={LineId(line_id): quantity for line_id, quantity in quantities.items()},
        now=now,
    )
    await save(tx, request, now=now)
    return request, reservation_id


async def start(
    tx: Transaction, principal: Principal, reservation_id: UUID, *, delivery_id: UUID | None, now: datetime
) -> ResourceRequest:
    """The promise is on its way; its donor says so."""
    request, known = await reservation_of_party(tx, principal, reservation_id)
    donor_id = request.reservations[known].organization_id
    require_side(principal, donor_id, "only the donor may do this")
    if delivery_id is not None:
        await _require_brings(tx, delivery_id, request, donor_id)
    request.start(known, delivery_id=None if delivery_id is None else DeliveryId(delivery_id))
    await save(tx, request, now=now)
    return request


async def receive(
    tx: Transaction,
    principal: Principal,
    reservation_id: UUID,
    *,
    quantities: Mapping[UUID, int] | None,
    now: datetime,
) -> ResourceRequest:
    """The promise arrived: all of it, or the quantities told."""
    request, known = await reservation_of_party(tx, principal, reservation_id)
    require_side(principal, request.organization_id, "only the receiver may do this")
    arrived = None if quantities is None else {LineId(line_id): n for line_id, n in quantities.items()}
    request.receive(known, received_by=UserId(principal.id), now=now, quantities=arrived)
    await save(tx, request, now=now)
    return request


async def refuse(
    tx: Transaction, principal: Principal, reservation_id: UUID, *, reason: str, now: datetime
) -> ResourceRequest:
    """The receiver does not take what arrived."""
    request, known = await reservation_of_party(tx, principal, reservation_id)
    require_side(principal, request.organization_id, "only the receiver may do this")
    request.refuse(known, refused_by=UserId(principal.id), reason=reason)
    await save(tx, request, now=now)
    return request


async def cancel_reservation(
    tx: Transaction, principal: Principal, reservation_id: UUID, *, reason: str, now: datetime
) -> ResourceRequest:
    """The donor takes the promise back, or the receiver lets the donor off."""
    request, known = await reservation_of_party(tx, principal, reservation_id)
    if not principal.acts_for(request.organization_id):
        require_side(principal, request.reservations[known].organization_id, "only donor and receiver may do this")
    request.cancel_reservation(known, reason=reason)
    await save(tx, request, now=now)
    return request


async def expire_reservation(tx: Transaction, *, request_id: UUID, reservation_id: UUID, now: datetime) -> None:
    """A promise's 48 hours are over; checked again against the reservation as it is now."""
    request, known = await REQUESTS.get(tx, request_id), ReservationId(reservation_id)
    delivery_id = request.reservations[known].delivery_id
    in_sight = delivery_id is None or await repository.known_delivery(tx, delivery_id) is not None
    request.expire_reservation(known, now=now, in_sight=in_sight)
    await save(tx, request, now=now)
    reservation = request.reservations[known]
    if reservation.active and reservation.expires_at > now:
        set_reservation_timer(tx, request, known, due_at=reservation.expires_at)


async def _require_brings(
    tx: Transaction, delivery_id: UUID, request: ResourceRequest, donor_id: OrganizationId
) -> None:
    """As far as is known here, the delivery carries the donor's goods to the receiver, and goes on."""
    delivery = await repository.known_delivery(tx, delivery_id)
    if delivery is None:  # it may be so new that nothing was heard of it; what never is frees the promise after 48 h
        return
    if donor_id not in delivery.provider_ids:
        raise DeliveryNotFound
    if delivery.status in ENDS:
        raise DeliveryOver(delivery_status=delivery.status)
    elsewhere = delivery.receiving_organization_id != request.organization_id
    if elsewhere or delivery.request_id not in (None, request.id):
        raise DeliveryElsewhere
