"""The public routes of requests: parse, one call, shape."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from chassis.access import Principal
from chassis.pagination import Page, PageAsked
from chassis.routing import IfMatch, Now, OfDirectory, Tx, api_router, require, set_etag
from chassis.wire import Event, Near, RadiusM, point_of
from contracts.values import Category
from fastapi import Query, Response

from resources import domain, queries, usecases
from resources.api.shapes import (
    ChangeIn,
    CloseIn,
    ReasonIn,
    RequestIn,
    RequestOut,
    Status,
    request_of,
    request_of_row,
    wanted_of,
)

router = api_router("resources")

Reader = Annotated[Principal, require("requests:read")]
Writer = Annotated[Principal, require("requests:write")]


@router.post("/v1/resource-requests", status_code=201, operation_id="open_resource_request")
async def open_resource_request(
    body: RequestIn, tx: Tx, directory: OfDirectory, principal: Writer, now: Now, response: Response
) -> RequestOut:
    """Ask for what one of your receiving places needs."""
    request = await usecases.open_request(
        tx,
        directory,
        principal,
        place_id=body.place_id,
        title=body.title,
        urgency=domain.Urgency(body.urgency),
        needed_by_at=body.needed_by_at,
        lines=[wanted_of(line) for line in body.lines],
        now=now,
    )
    response.headers["Location"] = f"/v1/resource-requests/{request.id}"
    return request_of(request, response)


@router.get("/v1/resource-requests", operation_id="list_resource_requests")
async def list_resource_requests(
    tx: Tx,
    paging: PageAsked,
    principal: Reader,
    status: Annotated[list[Status], Query(max_length=5)] = [],  # noqa: B006 - FastAPI copies defaults
    category: Annotated[list[Category], Query(max_length=16)] = [],  # noqa: B006
    organization_id: UUID | None = None,
    near: Near | None = None,
    radius_m: RadiusM = 10_000,
) -> Page[RequestOut]:
    """Requests you may see, newest first: everybody's open ones and all that your organizations are a party to."""
    wanted = queries.Filter(status, category, organization_id, point_of(near) if near else None, radius_m)
    before = UUID(paging.position[0]) if paging.position else None
    rows = await queries.many(tx, principal, wanted, limit=paging.limit, before=before)
    return paging.page([request_of_row(row) for row in rows], [[row["id"]] for row in rows])


@router.get("/v1/resource-requests/{request_id}", operation_id="get_resource_request")
async def get_resource_request(request_id: UUID, tx: Tx, principal: Reader, response: Response) -> RequestOut:
    """One request with the coverage of its lines."""
    row = await queries.one(tx, principal, request_id)
    set_etag(response, row["version"])
    return request_of_row(row)


@router.get("/v1/resource-requests/{request_id}/history", operation_id="get_resource_request_history")
async def get_resource_request_history(
    request_id: UUID, tx: Tx, directory: OfDirectory, principal: Reader
) -> list[Event]:
    """Everything that happened to a request, oldest first (its receiver only: it names every donor)."""
    return [Event.of(row) for row in await usecases.history(tx, directory, principal, request_id)]


@router.post("/v1/resource-requests/{request_id}/change", operation_id="change_resource_request")
async def change_resource_request(
    request_id: UUID,
    body: ChangeIn,
    tx: Tx,
    directory: OfDirectory,
    principal: Writer,
    now: Now,
    response: Response,
    if_match: IfMatch,
) -> RequestOut:
    """Change what is needed; what is reserved or received of a line stays."""
    request = await usecases.change(
        tx,
        directory,
        principal,
        request_id,
        title=body.title,
        urgency=None if body.urgency is None else domain.Urgency(body.urgency),
        needed_by_at=body.needed_by_at,
        lines=None if body.lines is None else [wanted_of(line) for line in body.lines],
        now=now,
        if_match=if_match,
    )
    return request_of(request, response)


@router.post("/v1/resource-requests/{request_id}/close", operation_id="close_resource_request")
async def close_resource_request(
    request_id: UUID,
    tx: Tx,
    directory: OfDirectory,
    principal: Writer,
    now: Now,
    response: Response,
    if_match: IfMatch,
    body: CloseIn = CloseIn(),
) -> RequestOut:
    """Say that enough has come; promises that are not on their way end."""
    request = await usecases.close(tx, directory, principal, request_id, reason=body.reason, now=now, if_match=if_match)
    return request_of(request, response)


@router.post("/v1/resource-requests/{request_id}/cancel", operation_id="cancel_resource_request")
async def cancel_resource_request(
    request_id: UUID,
    body: ReasonIn,
    tx: Tx,
    directory: OfDirectory,
    principal: Writer,
    now: Now,
    response: Response,
    if_match: IfMatch,
) -> RequestOut:
    """Call the request off; promises that are not on their way end."""
    request = await usecases.cancel(
        tx, directory, principal, request_id, reason=body.reason, now=now, if_match=if_match
    )
    return request_of(request, response)
