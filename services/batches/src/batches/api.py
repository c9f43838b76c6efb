"""The public routes of batches: parse, one call, shape."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

from chassis.access import Principal
from chassis.database import Row
from chassis.pagination import Page, PageAsked
from chassis.routing import IfMatch, Now, OfDirectory, OfRuntime, Tx, api_router, require, set_etag
from chassis.wire import (
    Body,
    Count,
    Event,
    Name,
    Near,
    RadiusM,
    Reason,
    TemperatureDc,
    Text,
    UtcMoment,
    View,
    WindowIn,
    WindowOut,
    point_of,
)
from contracts.values import Category, Gtin, Kind, Severity, Storage, TemperatureStage, Unit
from fastapi import Query, Response
from pydantic import Field

from batches import domain, queries, usecases

router = api_router("batches")

Reader = Annotated[Principal, require("batches:read")]
Writer = Annotated[Principal, require("batches:write")]
Status = Literal["producing", "ready", "depleted", "closed", "cancelled", "expired", "recalled"]


class ProductIn(Body):
    """What the batch is of."""

    name: Name
    category: Category
    gtin: Gtin | None = None


class BatchIn(Body):
    """A new batch."""

    place_id: UUID
    kind: Kind
    product: ProductIn
    unit: Unit
    quantity: Count
    storage: Storage
    lot_code: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    use_by_at: UtcMoment | None = None
    pickup_window: WindowIn
    est_ready_at: UtcMoment | None = None
    handling_notes: Text | None = None


class ReadyIn(Body):
    """What is known when the goods are ready."""

    quantity: Count | None = None
    temperature_dc: TemperatureDc | None = None
    use_by_at: UtcMoment | None = None


class AdjustIn(Body):
    """A corrected total."""

    quantity: Count
    reason: Reason


class ReasonIn(Body):
    """Why."""

    reason: Reason


class RecallIn(Body):
    """How bad, and why."""

    severity: Severity
    reason: Reason


class TemperatureIn(Body):
    """A reading."""

    temperature_dc: TemperatureDc
    stage: TemperatureStage


class QuantitiesOut(View):
    """The ledger; `total` is the sum of the others."""

    total: int
    available: int
    held: int
    in_transit: int
    delivered: int
    lost: int


class ProductOut(View):
    """What the batch is of."""

    name: str
    category: Category
    gtin: str | None


class BatchOut(View):
    """A batch."""

    id: UUID
    version: int
    organization_id: UUID
    place_id: UUID
    status: Status
    kind: Kind
    product: ProductOut
    unit: Unit
    storage: Storage
    lot_code: str | None
    use_by_at: UtcMoment | None
    pickup_window: WindowOut
    est_ready_at: UtcMoment | None
    handling_notes: str | None
    quantities: QuantitiesOut
    temperature_dc: int | None
    temperature_alarm: bool = Field(description="the newest reading is out of the band of the storage")
    created_at: UtcMoment


class PartOut(View):
    """So much of a hold: at a place, or with a volunteer, or gone."""

    where: Literal["held", "in_transit", "delivered", "returned", "lost"]
    quantity: int
    organization_id: UUID | None
    place_id: UUID | None
    volunteer_id: UUID | None


class HolderOut(View):
    """A hold that was granted once, and where its goods are now; `receiving_*` is where the delivery goes."""

    hold_id: UUID
    delivery_id: UUID
    delivery_status: str | None
    receiving_organization_id: UUID | None
    receiving_place_id: UUID | None
    parts: list[PartOut]


def _of_row(row: Row) -> BatchOut:
    flat = dict(row)
    flat["product"] = {"name": flat["product_name"], "category": flat["category"], "gtin": flat["gtin"]}
    flat["pickup_window"] = {"from": flat["pickup_from"], "to": flat["pickup_to"]}
    flat["quantities"] = flat
    return BatchOut.model_validate(flat)


_PLAIN = (
    "id", "version", "organization_id", "place_id", "status", "kind", "unit", "storage", "lot_code", "use_by_at",
    "est_ready_at", "handling_notes", "temperature_dc", "temperature_alarm", "created_at",
)  # fmt: skip


def _of(batch: domain.Batch, response: Response) -> BatchOut:
    set_etag(response, batch.version)
    window = batch.pickup_window
    return BatchOut.model_validate(
        {
            **{name: getattr(batch, name) for name in _PLAIN},
            "product": ProductOut.model_validate(batch.product),
            "pickup_window": WindowOut.model_validate({"from": window.from_at, "to": window.to_at} if window else {}),
            "quantities": QuantitiesOut.model_validate(batch),
        }
    )


def _of_holder(holder: domain.Holder) -> HolderOut:
    delivery = holder.delivery
    to = delivery.receiver if delivery else None
    return HolderOut(
        hold_id=holder.hold_id,
        delivery_id=holder.delivery_id,
        delivery_status=delivery.status if delivery else None,
        receiving_organization_id=to.organization_id if to else None,
        receiving_place_id=to.place_id if to else None,
        parts=[
            PartOut(
                where=part.where.value,
                quantity=part.quantity,
                organization_id=part.at.organization_id if part.at else None,
                place_id=part.at.place_id if part.at else None,
                volunteer_id=part.volunteer_id,
            )
            for part in holder.parts
        ],
    )


@router.post("/v1/batches", status_code=201, operation_id="create_batch")
async def create_batch(
    body: BatchIn, tx: Tx, directory: OfDirectory, principal: Writer, now: Now, response: Response
) -> BatchOut:
    """Announce a batch at one of your pickup places."""
    new: usecases.NewBatch = {
        "kind": domain.Kind(body.kind),
        "product": domain.Product(
            name=body.product.name, category=domain.Category(body.product.category), gtin=body.product.gtin
        ),
        "unit": domain.Unit(body.unit),
        "quantity": body.quantity,
        "storage": domain.Storage(body.storage),
        "pickup_window": domain.PickupWindow(from_at=body.pickup_window.from_, to_at=body.pickup_window.to),
        "lot_code": body.lot_code,
        "use_by_at": body.use_by_at,
        "est_ready_at": body.est_ready_at,
        "handling_notes": body.handling_notes,
    }
    batch = await usecases.create(tx, directory, principal, place_id=body.place_id, batch=new, now=now)
    response.headers["Location"] = f"/v1/batches/{batch.id}"
    return _of(batch, response)


@router.get("/v1/batches", operation_id="list_batches")
async def list_batches(
    tx: Tx,
    paging: PageAsked,
    principal: Reader,
    status: Annotated[list[Status], Query(max_length=7)] = [],  # noqa: B006 - FastAPI copies defaults
    category: Annotated[list[Category], Query(max_length=16)] = [],  # noqa: B006
    organization_id: UUID | None = None,
    near: Near | None = None,
    radius_m: RadiusM = 10_000,
) -> Page[BatchOut]:
    """Batches you may see, newest first: everybody's ready ones and all of your organizations'."""
    wanted = queries.Filter(status, category, organization_id, point_of(near) if near else None, radius_m)
    before = UUID(paging.position[0]) if paging.position else None
    rows = await queries.many(tx, principal, wanted, limit=paging.limit, before=before)
    return paging.page([_of_row(row) for row in rows], [[row["id"]] for row in rows])


@router.get("/v1/batches/{batch_id}", operation_id="get_batch")
async def get_batch(
    batch_id: UUID, tx: Tx, principal: Reader, response: Response, at: UtcMoment | None = None
) -> BatchOut:
    """One batch; `at` shows it as it was (parties only)."""
    if at is not None:
        return _of(await usecases.as_of(tx, principal, batch_id, at), response)
    row = await queries.one(tx, principal, batch_id)
    set_etag(response, row["version"])
    return _of_row(row)


@router.get("/v1/batches/{batch_id}/history", operation_id="get_batch_history")
async def get_batch_history(batch_id: UUID, tx: Tx, principal: Reader) -> list[Event]:
    """Everything that happened to a batch, oldest first (parties only)."""
    return [Event.of(row) for row in await usecases.history(tx, principal, batch_id)]


@router.get("/v1/batches/{batch_id}/trace", operation_id="trace_batch")
async def trace_batch(batch_id: UUID, tx: Tx, paging: PageAsked, principal: Reader) -> Page[HolderOut]:
    """Everybody who ever held any of a batch, and where each part is now (the provider and coordinators)."""
    after = UUID(paging.position[0]) if paging.position else None
    holders = await usecases.trace(tx, principal, batch_id, limit=paging.limit, after=after)
    return paging.page([_of_holder(each) for each in holders], [[each.hold_id] for each in holders])


@router.post("/v1/batches/{batch_id}/ready", operation_id="ready_batch")
async def ready_batch(
    batch_id: UUID,
    body: ReadyIn,
    tx: Tx,
    principal: Writer,
    now: Now,
    runtime: OfRuntime,
    response: Response,
    if_match: IfMatch,
) -> BatchOut:
    """Offer the batch: from now on it can be held."""
    batch = await usecases.mark_ready(
        tx,
        principal,
        batch_id,
        quantity=body.quantity,
        temperature_dc=body.temperature_dc,
        use_by_at=body.use_by_at,
        min_handling=timedelta(seconds=runtime.settings.min_handling_s),
        now=now,
        if_match=if_match,
    )
    return _of(batch, response)


@router.post("/v1/batches/{batch_id}/adjust", operation_id="adjust_batch")
async def adjust_batch(
    batch_id: UUID, body: AdjustIn, tx: Tx, principal: Writer, now: Now, response: Response, if_match: IfMatch
) -> BatchOut:
    """Correct the total quantity."""
    batch = await usecases.adjust(
        tx, principal, batch_id, quantity=body.quantity, reason=body.reason, now=now, if_match=if_match
    )
    return _of(batch, response)


@router.post("/v1/batches/{batch_id}/cancel", operation_id="cancel_batch")
async def cancel_batch(
    batch_id: UUID, body: ReasonIn, tx: Tx, principal: Writer, now: Now, response: Response, if_match: IfMatch
) -> BatchOut:
    """Withdraw the batch while nothing of it is held or on the road."""
    return _of(await usecases.cancel(tx, principal, batch_id, reason=body.reason, now=now, if_match=if_match), response)


@router.post("/v1/batches/{batch_id}/recall", operation_id="recall_batch")
async def recall_batch(
    batch_id: UUID, body: RecallIn, tx: Tx, principal: Writer, now: Now, response: Response, if_match: IfMatch
) -> BatchOut:
    """Declare the goods unsafe; nothing of them is handed over from now on."""
    severity = domain.Severity(body.severity)
    batch = await usecases.recall(
        tx, principal, batch_id, severity=severity, reason=body.reason, now=now, if_match=if_match
    )
    return _of(batch, response)


@router.post("/v1/batches/{batch_id}/temperatures", operation_id="record_batch_temperature")
async def record_batch_temperature(
    batch_id: UUID, body: TemperatureIn, tx: Tx, principal: Writer, now: Now, response: Response, if_match: IfMatch
) -> BatchOut:
    """Keep a temperature reading."""
    stage = domain.Stage(body.stage)
    batch = await usecases.record_temperature(
        tx, principal, batch_id, temperature_dc=body.temperature_dc, stage=stage, now=now, if_match=if_match
    )
    return _of(batch, response)
