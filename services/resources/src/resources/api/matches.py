"""The public routes of matches: parse, one call, shape."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from chassis.access import Principal
from chassis.pagination import Page, PageAsked
from chassis.routing import IfMatch, Now, OfDirectory, Tx, api_router, require, set_etag
from fastapi import Query, Response

from resources import domain, queries, usecases
from resources.api.shapes import Flag, MatchOut, MatchStatus, ReasonIn, match_of

router = api_router("resources")

Reader = Annotated[Principal, require("requests:read")]
Writer = Annotated[Principal, require("requests:write")]


@router.get("/v1/matches", operation_id="list_matches")
async def list_matches(
    tx: Tx,
    paging: PageAsked,
    principal: Reader,
    batch_id: UUID | None = None,
    request_id: UUID | None = None,
    status: Annotated[list[MatchStatus], Query(max_length=5)] = [],  # noqa: B006 - FastAPI copies defaults
    mine: Annotated[Flag, Query(description="of one's own organizations only; coordinators see others' too")] = "false",
) -> Page[MatchOut]:
    """What was proposed to your organizations or of their batches, newest first, with the reasons."""
    wanted = queries.MatchFilter(batch_id, request_id, status, mine == "true")
    before = UUID(paging.position[0]) if paging.position else None
    rows = await queries.matches(tx, principal, wanted, limit=paging.limit, before=before)
    return paging.page([match_of(row["state"]) for row in rows], [[row["id"]] for row in rows])


@router.get("/v1/matches/{match_id}", operation_id="get_match")
async def get_match(match_id: UUID, tx: Tx, principal: Reader, response: Response) -> MatchOut:
    """One match with its reasons (both sides only)."""
    state = (await queries.match(tx, principal, match_id))["state"]
    set_etag(response, state["version"])
    return match_of(state)


@router.post("/v1/matches/{match_id}/accept", operation_id="accept_match")
async def accept_match(
    match_id: UUID,
    tx: Tx,
    directory: OfDirectory,
    principal: Writer,
    now: Now,
    response: Response,
    if_match: IfMatch,
) -> MatchOut:
    """Take it (receiver or provider): the quantity is reserved for 48 hours; plan the delivery with its `request_id`."""
    match = await usecases.accept(tx, directory, principal, match_id, now=now, if_match=if_match)
    return _shown(match, response)


@router.post("/v1/matches/{match_id}/decline", operation_id="decline_match")
async def decline_match(
    match_id: UUID, body: ReasonIn, tx: Tx, principal: Writer, now: Now, response: Response, if_match: IfMatch
) -> MatchOut:
    """Leave it (receiver or provider): the batch is proposed to the next need."""
    match = await usecases.decline(tx, principal, match_id, reason=body.reason, now=now, if_match=if_match)
    return _shown(match, response)


def _shown(match: domain.Match, response: Response) -> MatchOut:
    set_etag(response, match.version)
    return match_of(msgspec.to_builtins(match))
