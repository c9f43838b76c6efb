"""The public routes of reservations: parse, one call, shape."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from chassis.access import Principal
from chassis.pagination import Page, PageAsked
from chassis.routing import IfMatch, Now, OfDirectory, Tx, api_router, require
from fastapi import Query, Response

from resources import domain, queries, usecases
from resources.api.shapes import (
    ReasonIn,
    ReceiveIn,
    ReservationIn,
    ReservationOut,
    ReservationStatus,
    StartIn,
    quantities_of,
    reservation_of,
)

router = api_router("resources")

Reader = Annotated[Principal, require("requests:read")]
Writer = Annotated[Principal, require("requests:write")]


@router.post("/v1/resource-requests/{request_id}/reservations", status_code=201, operation_id="reserve")
async def reserve(
    request_id: UUID,
    body: ReservationIn,
    tx: Tx,
    directory: OfDirectory,
    principal: Writer,
    now: Now,
    response: Response,
    if_match: IfMatch,
) -> ReservationOut:
    """Promise a part of what is open, for 48 hours."""
    request, reservation_id = await usecases.reserve(
        tx,
        directory,
        principal,
        request_id,
        organization_id=body.organization_id,
        mode=domain.Mode(body.mode),
        quantities=quantities_of(body.lines),
        now=now,
        if_match=if_match,
    )
    response.headers["Location"] = f"/v1/reservations/{reservation_id}"
    return reservation_of(request, reservation_id)


@router.get("/v1/reservations", operation_id="list_reservations")
async def list_reservations(
    tx: Tx,
    paging: PageAsked,
    principal: Reader,
    status: Annotated[list[ReservationStatus], Query(max_length=6)] = [],  # noqa: B006
    request_id: UUID | None = None,
    organization_id: UUID | None = None,
) -> Page[ReservationOut]:
    """Reservations that your organizations made or were promised, newest first."""
    wanted = queries.ReservationFilter(status, request_id, organization_id)
    before = UUID(paging.position[0]) if paging.position else None
    rows = await queries.reservations(tx, principal, wanted, limit=paging.limit, before=before)
    items = [ReservationOut.model_validate(dict(row)) for row in rows]
    return paging.page(items, [[row["id"]] for row in rows])


@router.get("/v1/reservations/{reservation_id}", operation_id="get_reservation")
async def get_reservation(reservation_id: UUID, tx: Tx, principal: Reader) -> ReservationOut:
    """One reservation (parties only)."""
    return ReservationOut.model_validate(dict(await queries.reservation(tx, principal, reservation_id)))


@router.post("/v1/reservations/{reservation_id}/start", operation_id="start_reservation")
async def start_reservation(
    reservation_id: UUID, tx: Tx, principal: Writer, now: Now, body: StartIn = StartIn()
) -> ReservationOut:
    """Say that it is on its way (donor); from now on it does not expire."""
    request = await usecases.start(tx, principal, reservation_id, delivery_id=body.delivery_id, now=now)
    return reservation_of(request, reservation_id)


@router.post("/v1/reservations/{reservation_id}/receive", operation_id="receive_reservation")
async def receive_reservation(
    reservation_id: UUID, tx: Tx, principal: Writer, now: Now, body: ReceiveIn = ReceiveIn()
) -> ReservationOut:
    """Say what arrived (receiver); the rest is needed again."""
    quantities = None if body.lines is None else quantities_of(body.lines)
    request = await usecases.receive(tx, principal, reservation_id, quantities=quantities, now=now)
    return reservation_of(request, reservation_id)


@router.post("/v1/reservations/{reservation_id}/refuse", operation_id="refuse_reservation")
async def refuse_reservation(
    reservation_id: UUID, body: ReasonIn, tx: Tx, principal: Writer, now: Now
) -> ReservationOut:
    """Do not take what arrived (receiver); all of it is needed again."""
    request = await usecases.refuse(tx, principal, reservation_id, reason=body.reason, now=now)
    return reservation_of(request, reservation_id)


@router.post("/v1/reservations/{reservation_id}/cancel", operation_id="cancel_reservation")
async def cancel_reservation(
    reservation_id: UUID, body: ReasonIn, tx: Tx, principal: Writer, now: Now
) -> ReservationOut:
    """Take the promise back (donor) or let the donor off (receiver); what it covered is needed again."""
    request = await usecases.cancel_reservation(tx, principal, reservation_id, reason=body.reason, now=now)
    return reservation_of(request, reservation_id)
