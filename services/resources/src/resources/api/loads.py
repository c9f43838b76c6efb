"""The public routes of catalogue loads and products: parse, one call, shape. How loads come in is in `intake`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

import msgspec
from chassis.access import Principal
from chassis.kernel import Invalid
from chassis.pagination import Page, PageAsked
from chassis.routing import IfMatch, Now, OfRuntime, Tx, api_router, require, set_etag
from contracts.values import Category, Cnpj, Gtin, LoadMode
from fastapi import Query, Response
from fastapi.responses import StreamingResponse

from resources import domain, queries, usecases
from resources.api.load_shapes import CancelIn, LoadOut, LoadStatus, ProductOut, ProductStatus, load_of, product_of
from resources.api.shapes import Flag

router = api_router("resources")

REJECTS_AT_ONCE = 1000
PRICE_CENTS_MAX = 10**9
Reader = Annotated[Principal, require("catalogue:read")]
Writer = Annotated[Principal, require("catalogue:write")]
Price = Annotated[int, Query(ge=0, le=PRICE_CENTS_MAX)]


@router.get("/v1/catalogue-loads", operation_id="list_catalogue_loads")
async def list_catalogue_loads(
    tx: Tx,
    paging: PageAsked,
    principal: Reader,
    now: Now,
    cnpj: Cnpj | None = None,
    mode: Annotated[list[LoadMode], Query(max_length=2)] = [],  # noqa: B006 - FastAPI copies defaults
    status: Annotated[list[LoadStatus], Query(max_length=10)] = [],  # noqa: B006
) -> Page[LoadOut]:
    """Your organizations' loads, newest first."""
    before = UUID(paging.position[0]) if paging.position else None
    wanted = queries.LoadFilter(cnpj, mode, status)
    rows = await queries.loads(tx, principal, wanted, limit=paging.limit, before=before)
    shown = [load_of(row["state"], row["moved"], now=now) for row in rows]
    return paging.page(shown, [[str(each.id)] for each in shown])


@router.get("/v1/catalogue-loads/{load_id}", operation_id="get_catalogue_load")
async def get_catalogue_load(load_id: UUID, tx: Tx, principal: Reader, now: Now, response: Response) -> LoadOut:
    """One load: how far it came and how long it will take, what it did, or why it did not."""
    found = await queries.load(tx, principal, load_id)
    set_etag(response, found["state"]["version"])
    return load_of(found["state"], found["moved"], now=now)


@router.get(
    "/v1/catalogue-loads/{load_id}/rejects",
    operation_id="list_catalogue_rejects",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
async def list_catalogue_rejects(load_id: UUID, tx: Tx, principal: Reader, runtime: OfRuntime) -> StreamingResponse:
    """Every row that was refused, a line each: `{row, pointer, code, detail, raw}`."""
    await queries.load(tx, principal, load_id)
    headers = {"Content-Disposition": f'attachment; filename="rejects-{load_id}.ndjson"'}
    return StreamingResponse(_rejects(runtime.database, load_id), media_type="application/x-ndjson", headers=headers)


async def _rejects(database: Any, load_id: UUID) -> AsyncIterator[bytes]:
    after = 0
    while rows := await queries.rejects(database.reading(), load_id, after=after, limit=REJECTS_AT_ONCE):
        after = rows[-1]["row"]
        yield b"".join(msgspec.json.encode(dict(row)) + b"\n" for row in rows)


@router.post("/v1/catalogue-loads/{load_id}/confirm", operation_id="confirm_catalogue_load")
async def confirm_catalogue_load(
    load_id: UUID, tx: Tx, principal: Writer, now: Now, response: Response, if_match: IfMatch
) -> LoadOut:
    """What the load takes away is meant (managers and keys)."""
    load = await usecases.confirm_load(tx, principal, load_id, now=now, if_match=if_match)
    return await _shown(tx, load, response, now)


@router.post("/v1/catalogue-loads/{load_id}/cancel", operation_id="cancel_catalogue_load")
async def cancel_catalogue_load(
    load_id: UUID, body: CancelIn, tx: Tx, principal: Writer, now: Now, response: Response, if_match: IfMatch
) -> LoadOut:
    """Call the load off before anything of it is applied (managers and keys)."""
    load = await usecases.cancel_load(tx, principal, load_id, reason=body.reason, now=now, if_match=if_match)
    return await _shown(tx, load, response, now)


@router.post("/v1/catalogue-loads/{load_id}/retry", operation_id="retry_catalogue_load")
async def retry_catalogue_load(
    load_id: UUID, tx: Tx, principal: Writer, now: Now, response: Response, if_match: IfMatch
) -> LoadOut:
    """Try the chunks that failed once more (managers and keys); refused once a newer load had its turn."""
    load = await usecases.retry_load(tx, principal, load_id, now=now, if_match=if_match)
    return await _shown(tx, load, response, now)


async def _shown(tx: Tx, load: domain.CatalogueLoad, response: Response, now: Now) -> LoadOut:
    set_etag(response, load.version)
    return load_of(usecases.state_of(load), await queries.moved(tx, load.id), now=now)


@router.get("/v1/products", operation_id="list_products")
async def list_products(
    tx: Tx,
    paging: PageAsked,
    principal: Reader,
    cnpj: Cnpj | None = None,
    category: Annotated[list[Category], Query(max_length=16)] = [],  # noqa: B006
    gtin: Gtin | None = None,
    q: Annotated[
        str | None, Query(min_length=3, max_length=100, description="words of the name, accents aside")
    ] = None,
    price_min: Price | None = None,
    price_max: Price | None = None,
    in_stock: Flag | None = None,
    status: ProductStatus = "active",
) -> Page[ProductOut]:
    """Products of your companies' catalogues."""
    if price_min is not None and price_max is not None and price_min > price_max:
        raise Invalid("price_min is above price_max", pointer="query:price_min")
    stocked = None if in_stock is None else in_stock == "true"
    wanted = queries.ProductFilter(cnpj, category, gtin, q, price_min, price_max, stocked, status == "active")
    after = (paging.position[0], paging.position[1]) if paging.position else None
    rows = await queries.products(tx, principal, wanted, limit=paging.limit, after=after)
    return paging.page([product_of(row) for row in rows], [[row["cnpj"], row["key"]] for row in rows])
