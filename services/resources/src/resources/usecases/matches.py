"""What people do about matches: accept one, which reserves it, or decline it, which asks the next."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.access import Directory, Principal
from chassis.database import Transaction
from chassis.kernel import Conflict, Forbidden, new_id

from resources import repository
from resources.domain import Match, MatchNotFound, Mode, ReservationId, UserId
from resources.repository import MATCHES, REQUESTS
from resources.usecases.looking import look_again
from resources.usecases.rights import OrganizationNotVerified, require_taken
from resources.usecases.saving import save


class NotYourMatch(Forbidden):
    """The caller sees the match but is of neither side."""

    slug = "not-your-match"


class BatchGone(Conflict):
    """The goods are not there any more."""

    slug = "batch-gone"


async def accept(
    tx: Transaction, directory: Directory, principal: Principal, match_id: UUID, *, now: datetime, if_match: int | None
) -> Match:
    """One of both sides takes it: the quantity is reserved for the provider, to be fetched by a volunteer."""
    at = await repository.where(tx, match_id)
    request = await REQUESTS.get(tx, at["request_id"])
    match = await _of_party(tx, principal, match_id, if_match)
    reservation_id = ReservationId(new_id())
    match.accept(reservation_id, accepted_by=UserId(principal.id), now=now)
    await _require_possible(tx, directory, match)
    request.reserve(
        reservation_id,
        organization_id=match.provider_id,
        reserved_by=UserId(principal.id) if principal.acts_for(match.provider_id) else None,
        mode=Mode.VOLUNTEER_PICKUP,
        quantities={match.line_id: match.quantity},
        now=now,
    )
    await save(tx, request, now=now, accepted=match)
    return match


async def decline(
    tx: Transaction, principal: Principal, match_id: UUID, *, reason: str, now: datetime, if_match: int | None
) -> Match:
    """One of both sides does not want it; the batch looks for another need."""
    match = await _of_party(tx, principal, match_id, if_match)
    match.decline(reason=reason, declined_by=UserId(principal.id), now=now)
    repository.end(tx, match, now=now)
    look_again(tx, match.batch_id, because=f"{match.id}:declined", now=now)
    return match


async def _of_party(tx: Transaction, principal: Principal, match_id: UUID, if_match: int | None) -> Match:
    """A match of one of the caller's organizations, in the version that the caller knows; held when the transaction locks."""
    at = await repository.where(tx, match_id)
    if tx.locking:
        await repository.hold_lines(tx, [(at["request_id"], at["line_id"])])
    match = await MATCHES.get(tx, match_id)
    if not any(principal.acts_for(side) for side in (match.organization_id, match.provider_id)):
        if principal.is_coordinator:
            raise NotYourMatch("only the receiver and the provider answer")
        raise MatchNotFound
    match.expect_version(if_match)
    return match


async def _require_possible(tx: Transaction, directory: Directory, match: Match) -> None:
    """Both sides are verified, the goods are still there, and the place still takes them."""
    for side in (match.provider_id, match.organization_id):
        if await directory.organization_status(side) != "verified":
            raise OrganizationNotVerified
    supply = await repository.supply_of(tx, match.batch_id)
    if supply is None or supply.is_over or supply.free < 0:
        raise BatchGone
    place = await directory.place(match.place_id)
    if place is not None:
        require_taken(place, [(match.category, match.gtin)])
