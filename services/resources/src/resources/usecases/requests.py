"""What can be done with requests: load, decide, save."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from chassis.access import Directory, Principal
from chassis.database import Transaction
from chassis.kernel import new_id
from chassis.telemetry import log

from resources.domain import (
    DeliveryId,
    Goods,
    LineId,
    LineNotFound,
    Need,
    OrganizationId,
    PlaceId,
    RequestId,
    ResourceRequest,
    Urgency,
    UserId,
)
from resources.repository import REQUESTS
from resources.usecases.rights import own, own_receiving_place
from resources.usecases.saving import save


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
    save(tx, opened, now=now)
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
    needs = None if lines is None else [_need(line) for line in lines]
    request.change(now=now, title=title, urgency=urgency, needed_by_at=needed_by_at, lines=needs)
    save(tx, request, now=now)
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
    save(tx, request, now=now)
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
    save(tx, request, now=now)
    return request


async def history(
    tx: Transaction, directory: Directory, principal: Principal, request_id: UUID
) -> list[dict[str, Any]]:
    """The stored events, for the requester; they name every donor."""
    await own(tx, directory, principal, request_id, None)
    return await REQUESTS.history(tx, request_id)


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
    save(tx, request, now=now)


async def expire_request(tx: Transaction, *, request_id: UUID, now: datetime) -> None:
    """A request's time came; checked again against the request as it is now."""
    request = await REQUESTS.get(tx, request_id)
    request.expire(now=now)
    save(tx, request, now=now)


def _need(line: Wanted) -> Need:
    return Need(
        line_id=LineId(line["line_id"] or new_id()),
        name=line["name"],
        unit=line["unit"],
        needed=line["needed"],
        category=line["category"],
        gtin=line["gtin"],
    )
