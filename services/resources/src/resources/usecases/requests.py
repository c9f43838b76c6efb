"""What can be done with requests: load, decide, save."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from chassis.access import Directory, Principal
from chassis.database import Transaction
from chassis.kernel import new_id

from resources.domain import (
    LineId,
    LineNotFound,
    Need,
    OrganizationId,
    PlaceId,
    RequestId,
    ResourceRequest,
    Status,
    Urgency,
    UserId,
    cell_of,
)
from resources.repository import REQUESTS
from resources.usecases.rights import own, own_receiving_place, require_taken
from resources.usecases.saving import save, set_request_timer


class Wanted(TypedDict):
    """What a place says it needs; `line_id` names a line that the request has."""

    line_id: UUID | None
    name: str
    unit: str
    needed: int
    category: str | None
    gtin: str | None


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
    place = await own_receiving_place(directory, principal, place_id)
    require_taken(place, [(line["category"], line["gtin"]) for line in lines])
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
    await save(tx, opened, now=now, cell=cell_of(place.lat, place.lon))
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
    request = await own(tx, directory, principal, request_id, if_match)
    unknown = [line["line_id"] for line in lines or () if line["line_id"] not in {None, *request.lines}]
    if unknown:
        raise LineNotFound(line_id=unknown[0])
    place = await directory.place(request.place_id)
    if place is not None and lines is not None:
        require_taken(place, [(line["category"], line["gtin"]) for line in lines])
    needs = None if lines is None else [_need(line) for line in lines]
    request.change(now=now, title=title, urgency=urgency, needed_by_at=needed_by_at, lines=needs)
    await save(tx, request, now=now, cell=None if place is None else cell_of(place.lat, place.lon))
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
    request = await own(tx, directory, principal, request_id, if_match)
    request.close(reason=reason)
    await save(tx, request, now=now)
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
    request = await own(tx, directory, principal, request_id, if_match)
    request.cancel(reason=reason)
    await save(tx, request, now=now)
    return request


async def history(
    tx: Transaction, directory: Directory, principal: Principal, request_id: UUID
) -> list[dict[str, Any]]:
    """The stored events, for the requester; they name every donor."""
    await own(tx, directory, principal, request_id, None)
    return await REQUESTS.history(tx, request_id)


async def expire_request(tx: Transaction, *, request_id: UUID, now: datetime) -> None:
    """A request's time came; checked again against the request as it is now."""
    request = await REQUESTS.get(tx, request_id)
    request.expire(now=now)
    await save(tx, request, now=now)
    if request.status is Status.OPEN and request.needed_by_at is not None:  # early, or needed longer than it was
        set_request_timer(tx, request, due_at=request.needed_by_at)


def _need(line: Wanted) -> Need:
    return Need(
        line_id=LineId(line["line_id"] or new_id()),
        name=line["name"],
        unit=line["unit"],
        needed=line["needed"],
        category=line["category"],
        gtin=line["gtin"],
    )
