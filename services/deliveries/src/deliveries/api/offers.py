"""Who was asked to carry a delivery, what a volunteer was asked, and where refused goods could go."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from chassis.pagination import Page, PageAsked
from chassis.routing import Now, Person, Tx, api_router
from chassis.wire import UtcMoment, View
from fastapi import Query

from deliveries import queries, usecases
from deliveries.api.routes import Reader
from deliveries.api.views import DeliveryOut, shaped

router = api_router("deliveries")

OfferStatus = Literal["offered", "taken", "withdrawn"]


class ReasonsOut(View):
    """Why this volunteer was asked: how far from the pickup, whether it fits, and how much they claimed within a day."""

    distance_m: int
    vehicle: str
    capacity_g: int
    weight_g: int
    claims_today: int


class OfferOut(View):
    """A volunteer was asked to carry a delivery, as one of a ring around the pickup."""

    id: UUID
    delivery_id: UUID
    volunteer_id: UUID
    status: OfferStatus
    ring: int
    radius_m: int
    offered_at: UtcMoment
    settled_at: UtcMoment | None
    reasons: ReasonsOut

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """From its row."""
        return cls.model_validate({**row, "reasons": dict(row), **more})


class OfferToYouOut(OfferOut):
    """An offer with its delivery, null when somebody else has it by now."""

    delivery: DeliveryOut | None


class PlaceNearOut(View):
    """A place that takes goods like these."""

    place_id: UUID
    organization_id: UUID
    distance_m: int


class WhereToOut(View):
    """Places that would take what was refused, the nearest first; none when it may only be returned or discarded."""

    decide_by: UtcMoment | None
    places: list[PlaceNearOut]


@router.get("/v1/deliveries/{delivery_id}/offers", operation_id="list_delivery_offers")
async def list_delivery_offers(delivery_id: UUID, tx: Tx, paging: PageAsked, principal: Reader) -> Page[OfferOut]:
    """Who was asked to carry it and why, the newest first (who planned it, coordinators)."""
    before = UUID(paging.position[0]) if paging.position else None
    rows = await usecases.offers(tx, principal, delivery_id, limit=paging.limit, before=before)
    return paging.page([OfferOut.of(row) for row in rows], [[row["id"]] for row in rows])


@router.get("/v1/deliveries/{delivery_id}/reroute-options", operation_id="list_reroute_options")
async def list_reroute_options(delivery_id: UUID, tx: Tx, principal: Reader) -> WhereToOut:
    """Where refused goods could go, while that is to be decided (parties only)."""
    return WhereToOut.model_validate(await usecases.where_to(tx, principal, delivery_id))


@router.get("/v1/offers", operation_id="list_offers")
async def list_offers(
    tx: Tx,
    paging: PageAsked,
    principal: Person,
    now: Now,
    status: Annotated[list[OfferStatus], Query(max_length=3)] = [],  # noqa: B006 - FastAPI copies defaults
    mine: Annotated[Literal["true"], Query(description="offers are shown to whom they were made")] = "true",
) -> Page[OfferToYouOut]:
    """What you were asked to carry, the newest first."""
    before = UUID(paging.position[0]) if paging.position else None
    found = await queries.offers_to(tx, principal, status=status, limit=paging.limit, before=before, now=now)
    shown = [OfferToYouOut.of(row, delivery=None if sight is None else shaped(sight)) for row, sight in found]
    return paging.page(shown, [[one.id] for one in shown])
