"""What can be done with requests and reservations: load, decide, save. Callers' rights are checked here, once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from chassis import timers
from chassis.access import Directory, Place, Principal
from chassis.database import Transaction
from chassis.kernel import Conflict, Forbidden, Invalid, NotFound, new_id
from chassis.telemetry import log

from resources import queries
from resources.domain import (
    DeliveryId,
    Goods,
    LineId,
    LineNotFound,
    Mode,
    Need,
    OrganizationId,
    PlaceId,
    RequestId,
    RequestNotFound,
    ReservationId,
    ReservationMade,
    ReservationNotFound,
    ResourceRequest,
    ResourceRequestChanged,
    ResourceRequestOpened,
    Status,
    Urgency,
    UserId,
)
from resources.repository import REQUESTS

EXPIRE_REQUEST = "expire-request"
EXPIRE_RESERVATION = "expire-reservation"
GIVING_KINDS = frozenset({"donor", "provider"})


class PlaceNotFound(NotFound):
    """No such place, or not for this caller."""

    slug = "place-not-found"


class PlaceNotForReceiving(Conflict):
    """Goods cannot be brought to this place."""

    slug = "place-not-for-receiving"


class OrganizationNotVerified(Conflict):
    """Only verified organizations open requests and reserve."""

    slug = "organization-not-verified"


class NotYourOrganization(Forbidden):
    """The caller does not act for this organization."""

    slug = "not-your-organization"


class NotADonor(Forbidden):
    """Donors and providers reserve."""

    slug = "not-a-donor"


class NotYourRequest(Forbidden):
    """The caller sees the request but may not do this to it."""

    slug = "not-your-request"


class NotYourReservation(Forbidden):
    """The caller sees the reservation but may not do this to it."""

    slug = "not-your-reservation"


class Wanted(TypedDict):
    """What a place says it needs; `line_id` names a line that the request has."""

    line_id: UUID | None
    name: str
    unit: str
    needed: int
    category: str | None
    gtin: str | None


# -- requests ----------------------------------------------------------------------------------------------------------


async def open_request(
    tx: Transaction,
    directory: Directory,
    principal: Principal,
    *,
    place_id: UUID,
    title: str,
    urgency: Urgency,
    needed_by_at: datetime | None,
    lines: Sequence[Wanted],
    now: datetime,
) -> ResourceRequest:
    """Say what a place of the caller's verified organization needs."""
    place = await _own_receiving_place(directory, principal, place_id)
    opened = ResourceRequest.open(
        RequestId(new_id()),
        organization_id=OrganizationId(place.organization_id),
        place_id=PlaceId(place.id),
        title=title,
        urgency=urgency,
        needed_by_at=needed_by_at,
        lines=[_need(line) for line in lines],
        opened_by=UserId(principal.id),
        now=now,
    )
    _save(tx, opened, now=now)
    return opened


async def change(
    tx: Transaction,
    directory: Directory,
    principal: Principal,
    request_id: UUID,
    *,
    title: str | None,
    urgency: Urgency | None,
    needed_by_at: datetime | None,
    lines: Sequence[Wanted] | None,
    now: datetime,
    if_match: int | None,
) -> ResourceRequest:
    """Replace what is told; given lines are all lines from now on."""
    request = await _own(tx, directory, principal, request_id, if_match)
    unknown = [line["line_id"] for line in lines or () if line["line_id"] not in {None, *request.lines}]
    if unknown:
        raise LineNotFound(line_id=unknown[0])
    needs = None if lines is None else [_need(line) for line in lines]
    request.change(now=now, title=title, urgency=urgency, needed_by_at=needed_by_at, lines=needs)
    _save(tx, request, now=now)
    return request


async def close(
    tx: Transaction,
    directory: Directory,
    principal: Principal,
    request_id: UUID,
    *,
    reason: str | None,
    now: datetime,
    if_match: int | None,
) -> ResourceRequest:
    """Enough has come."""
    request = await _own(tx, directory, principal, request_id, if_match)
    request.close(reason=reason)
    _save(tx, request, now=now)
    return request


async def cancel(
    tx: Transaction,
    directory: Directory,
    principal: Principal,
    request_id: UUID,
    *,
    reason: str,
    now: datetime,
    if_match: int | None,
) -> ResourceRequest:
    """The request is void."""
    request = await _own(tx, directory, principal, request_id, if_match)
    request.cancel(reason=reason)
    _save(tx, request, now=now)
    return request


async def history(tx: Transaction, directory: Directory, principal: Principal, request_id: UUID) -> list[Any]:
    """The stored events, for the requester; they name every donor."""
    await _own(tx, directory, principal, request_id, None)
    return await REQUESTS.history(tx, request_id)


# -- reservations ------------------------------------------------------------------------------------------------------


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
) -> UUID:
    """Promise a part of a request for a donor or provider; returns the reservation's id."""
    request = await _seen(tx, directory, principal, request_id, if_match)
    donor_id = await _donor(tx, principal, organization_id)
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
    _save(tx, request, now=now)
    return reservation_id


async def start(
    tx: Transaction, principal: Principal, reservation_id: UUID, *, delivery_id: UUID | None, now: datetime
) -> ResourceRequest:
    """The promise is on its way; its donor says so."""
    request, known = await _reservation(tx, principal, reservation_id)
    _require(principal, request.reservations[known].organization_id, "only the donor may do this")
    request.start(known, delivery_id=None if delivery_id is None else DeliveryId(delivery_id))
    _save(tx, request, now=now)
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
    request, known = await _reservation(tx, principal, reservation_id)
    _require(principal, request.organization_id, "only the receiver may do this")
    arrived = None if quantities is None else {LineId(line_id): n for line_id, n in quantities.items()}
    request.receive(known, received_by=UserId(principal.id), now=now, quantities=arrived)
    _save(tx, request, now=now)
    return request


async def refuse(
    tx: Transaction, principal: Principal, reservation_id: UUID, *, reason: str, now: datetime
) -> ResourceRequest:
    """The receiver does not take what arrived."""
    request, known = await _reservation(tx, principal, reservation_id)
    _require(principal, request.organization_id, "only the receiver may do this")
    request.refuse(known, refused_by=UserId(principal.id), reason=reason)
    _save(tx, request, now=now)
    return request


async def cancel_reservation(
    tx: Transaction, principal: Principal, reservation_id: UUID, *, reason: str, now: datetime
) -> ResourceRequest:
    """The donor takes the promise back, or the receiver lets the donor off."""
    request, known = await _reservation(tx, principal, reservation_id)
    if not principal.acts_for(request.organization_id):
        _require(principal, request.reservations[known].organization_id, "only donor and receiver may do this")
    request.cancel_reservation(known, reason=reason)
    _save(tx, request, now=now)
    return request


# -- facts and timers --------------------------------------------------------------------------------------------------


async def receive_delivery(
    tx: Transaction,
    *,
    request_id: UUID,
    delivery_id: UUID,
    receiving_organization_id: UUID,
    brought_by: Collection[UUID],
    goods: Sequence[Goods],
    now: datetime,
) -> None:
    """A delivery made for a request arrived; one that names nobody's or another organization's request means nothing."""
    request = await REQUESTS.find(tx, request_id)
    if request is None or request.organization_id != receiving_organization_id:
        log.warning("delivery.of_no_request", delivery_id=str(delivery_id), request_id=str(request_id))
        return
    givers = [OrganizationId(each) for each in brought_by]
    request.receive_delivery(DeliveryId(delivery_id), brought_by=givers, goods=goods, now=now)
    _save(tx, request, now=now)


async def expire_request(tx: Transaction, *, request_id: UUID, now: datetime) -> None:
    """A request's time came; checked again against the request as it is now."""
    request = await REQUESTS.get(tx, request_id)
    request.expire(now=now)
    _save(tx, request, now=now)


async def expire_reservation(tx: Transaction, *, request_id: UUID, reservation_id: UUID, now: datetime) -> None:
    """A promise's 48 hours are over; checked again against the reservation as it is now."""
    request = await REQUESTS.get(tx, request_id)
    request.expire_reservation(ReservationId(reservation_id), now=now)
    _save(tx, request, now=now)


# -- what they share ---------------------------------------------------------------------------------------------------


def _save(tx: Transaction, request: ResourceRequest, *, now: datetime) -> None:
    for event in request.pending:
        _set_timer(tx, request, event)
    REQUESTS.save(tx, request, now=now)


def _set_timer(tx: Transaction, request: ResourceRequest, event: Any) -> None:
    """A timer is never moved or taken back, since it may be firing: its key has its moment, and it checks the state."""
    match event:
        case ResourceRequestOpened(needed_by_at=due_at) | ResourceRequestChanged(needed_by_at=due_at):
            if due_at is not None:
                key = f"{EXPIRE_REQUEST}:{request.id}:{due_at.isoformat()}"
                payload = {"kind": EXPIRE_REQUEST, "request_id": str(request.id)}
                timers.schedule(tx, due_at=due_at, key=key, payload=payload)
        case ReservationMade():
            reservation_id = str(event.reservation_id)
            payload = {"kind": EXPIRE_RESERVATION, "request_id": str(request.id), "reservation_id": reservation_id}
            timers.schedule(tx, due_at=event.expires_at, key=f"{EXPIRE_RESERVATION}:{reservation_id}", payload=payload)


def _need(line: Wanted) -> Need:
    return Need(
        line_id=LineId(line["line_id"] or new_id()),
        name=line["name"],
        unit=line["unit"],
        needed=line["needed"],
        category=line["category"],
        gtin=line["gtin"],
    )


async def _own_receiving_place(directory: Directory, principal: Principal, place_id: UUID) -> Place:
    place = await directory.place(place_id)
    if place is None or not principal.acts_for(place.organization_id):
        raise PlaceNotFound
    if "receiving" not in place.roles:
        raise PlaceNotForReceiving
    if await directory.organization_status(place.organization_id) != "verified":
        raise OrganizationNotVerified
    return place


async def _donor(tx: Transaction, principal: Principal, organization_id: UUID | None) -> UUID:
    if organization_id is None:
        if len(principal.memberships) > 1:
            raise Invalid("say for which of your organizations", pointer="/organization_id")
        organization_id = next(iter(principal.memberships), None)
    if organization_id is None:
        raise NotADonor("only members of donors and providers reserve")
    if not principal.acts_for(organization_id):
        raise NotYourOrganization
    status, kinds = await queries.organization(tx, organization_id)
    if not GIVING_KINDS & kinds:
        raise NotADonor("only donors and providers reserve")
    if status != "verified":
        raise OrganizationNotVerified
    return organization_id


async def _seen(
    tx: Transaction, directory: Directory, principal: Principal, request_id: UUID, if_match: int | None
) -> ResourceRequest:
    request = await REQUESTS.get(tx, request_id)
    if not await _visible(directory, principal, request):
        raise RequestNotFound
    REQUESTS.require_version(request, if_match)
    return request


async def _visible(directory: Directory, principal: Principal, request: ResourceRequest) -> bool:
    parties = {request.organization_id, *(each.organization_id for each in request.reservations.values())}
    if principal.is_coordinator or not parties.isdisjoint(principal.memberships):
        return True
    return request.status is Status.OPEN and await directory.organization_status(request.organization_id) == "verified"


async def _own(
    tx: Transaction, directory: Directory, principal: Principal, request_id: UUID, if_match: int | None
) -> ResourceRequest:
    request = await _seen(tx, directory, principal, request_id, if_match)
    if not principal.acts_for(request.organization_id):
        raise NotYourRequest("only the receiver may do this")
    return request


async def _reservation(
    tx: Transaction, principal: Principal, reservation_id: UUID
) -> tuple[ResourceRequest, ReservationId]:
    request_id = await queries.request_of(tx, reservation_id)
    request, known = await REQUESTS.get(tx, request_id), ReservationId(reservation_id)
    parties = (request.organization_id, request.reservations[known].organization_id)
    if not principal.is_coordinator and not any(principal.acts_for(party) for party in parties):
        raise ReservationNotFound
    return request, known


def _require(principal: Principal, organization_id: UUID, otherwise: str) -> None:
    if not principal.acts_for(organization_id):
        raise NotYourReservation(otherwise)
