"""Who may do what to requests and reservations; every use case asks here, once."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from chassis.access import Directory, Place, Principal
from chassis.database import Transaction
from chassis.kernel import Conflict, Forbidden, Invalid, NotFound

from resources import queries
from resources.domain import RequestNotFound, ReservationId, ReservationNotFound, ResourceRequest, Status
from resources.repository import REQUESTS

GIVING_KINDS = frozenset({"donor", "provider"})


class PlaceNotFound(NotFound):
    """No such place, or not for this caller."""

    slug = "place-not-found"


class PlaceNotForReceiving(Conflict):
    """Goods cannot be brought to this place."""

    slug = "place-not-for-receiving"


class CategoryNotAccepted(Conflict):
    """The place does not take such goods in."""

    slug = "category-not-accepted"


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


async def own_receiving_place(directory: Directory, principal: Principal, place_id: UUID) -> Place:
    """A receiving place of a verified organization that the caller acts for."""
    place = await directory.place(place_id)
    if place is None or not principal.acts_for(place.organization_id):
        raise PlaceNotFound
    if "receiving" not in place.roles:
        raise PlaceNotForReceiving
    if await directory.organization_status(place.organization_id) != "verified":
        raise OrganizationNotVerified
    return place


async def place_of(tx: Transaction, place_id: UUID) -> Place | None:
    """A place as the directory has it now."""
    return await Directory(lambda: tx, ttl_s=0).place(place_id)


def require_taken(place: Place, goods: Iterable[tuple[str | None, str | None]]) -> None:
    """The place takes in goods of these (category, GTIN)s."""
    refused = [(category, gtin) for category, gtin in goods if not place.takes(category, gtin)]
    if refused:
        categories = sorted({category for category, _ in refused if category is not None})
        raise CategoryNotAccepted(
            categories=categories, gtins=sorted({gtin for _, gtin in refused if gtin is not None})
        )


async def donor_of(tx: Transaction, principal: Principal, organization_id: UUID | None) -> UUID:
    """The verified donor or provider that the caller gives for: the one told, or the only one there is."""
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


async def seen(
    tx: Transaction, directory: Directory, principal: Principal, request_id: UUID, if_match: int | None
) -> ResourceRequest:
    """A request that the caller may see, in the version that the caller knows."""
    request = await REQUESTS.get(tx, request_id)
    if not await _visible(directory, principal, request):
        raise RequestNotFound
    request.expect_version(if_match)
    return request


async def _visible(directory: Directory, principal: Principal, request: ResourceRequest) -> bool:
    parties = {request.organization_id, *(each.organization_id for each in request.reservations.values())}
    if principal.is_coordinator or not parties.isdisjoint(principal.memberships):
        return True
    return request.status is Status.OPEN and await directory.organization_status(request.organization_id) == "verified"


async def own(
    tx: Transaction, directory: Directory, principal: Principal, request_id: UUID, if_match: int | None
) -> ResourceRequest:
    """A request that the caller acts for."""
    request = await seen(tx, directory, principal, request_id, if_match)
    if not principal.acts_for(request.organization_id):
        raise NotYourRequest("only the receiver may do this")
    return request


async def reservation_of_party(
    tx: Transaction, principal: Principal, reservation_id: UUID
) -> tuple[ResourceRequest, ReservationId]:
    """A reservation that the caller is a party to or coordinates, with its request."""
    request_id = await queries.request_of(tx, reservation_id)
    request, known = await REQUESTS.get(tx, request_id), ReservationId(reservation_id)
    parties = (request.organization_id, request.reservations[known].organization_id)
    if not principal.is_coordinator and not any(principal.acts_for(party) for party in parties):
        raise ReservationNotFound
    return request, known


def require_side(principal: Principal, organization_id: UUID, otherwise: str) -> None:
    """The caller acts for this side of a reservation."""
    if not principal.acts_for(organization_id):
        raise NotYourReservation(otherwise)
