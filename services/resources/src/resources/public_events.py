"""What the events of requests, matches and catalogue loads tell the other services."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import UUID

from chassis.outbox import Announcement
from contracts.envelope import Event
from contracts.events import resources as public

from resources.domain import (
    CatalogueLoad,
    CatalogueLoadApplied,
    CatalogueLoadAwaitingConfirmation,
    CatalogueLoadCancelled,
    CatalogueLoadFailed,
    CatalogueLoadReady,
    CatalogueLoadReceived,
    CatalogueLoadRejected,
    Match,
    OrganizationId,
    ReservationId,
    ResourceRequest,
    ResourceRequestDeliveryReceived,
)

UNNAMED_CATEGORY = "other"  # a line that names only a product


def announce(request: ResourceRequest, event: Any) -> Announcement:
    """The public event of a domain event: the request as the command left it, and what only this event knows."""
    kind: type[Event] = getattr(public, type(event).__name__)
    reservation_id: ReservationId | None = getattr(event, "reservation_id", None)
    return Announcement(
        kind.model_validate(_snapshot(request) | _specifics(request, event)),
        organization_id=request.organization_id,
        parties=_donors(request, reservation_id),
    )


def _donors(request: ResourceRequest, reservation_id: ReservationId | None) -> tuple[OrganizationId, ...]:
    if reservation_id is not None:
        return (request.reservations[reservation_id].organization_id,)
    return tuple(each.organization_id for each in request.reservations.values() if each.active)


def _snapshot(request: ResourceRequest) -> dict[str, Any]:
    return {
        "request_id": request.id,
        "organization_id": request.organization_id,
        "place_id": request.place_id,
        "status": request.status.value,
        "urgency": request.urgency.value,
        "needed_by_at": request.needed_by_at,
        "lines": [
            {
                "line_id": line.line_id,
                "category": line.category or UNNAMED_CATEGORY,
                "gtin": line.gtin,
                "unit": line.unit,
                "needed": line.needed,
                "reserved": line.reserved,
                "received": line.received,
            }
            for line in request.listed
        ],
    }


def _specifics(request: ResourceRequest, event: Any) -> dict[str, Any]:
    if isinstance(event, ResourceRequestDeliveryReceived):
        return {"delivery_id": event.delivery_id, "received_lines": _lines(event.quantities)}
    if not hasattr(event, "reservation_id"):
        return {}
    reservation = request.reservations[event.reservation_id]
    return {
        "reservation_id": event.reservation_id,
        "donor_organization_id": reservation.organization_id,
        "mode": reservation.mode.value,
        "reserved_lines": _lines(reservation.quantities),
    }


def _lines(quantities: dict[Any, int]) -> list[dict[str, Any]]:
    return [{"line_id": line_id, "quantity": quantity} for line_id, quantity in sorted(quantities.items())]


def announce_match(match: Match, event: Any) -> Announcement:
    """The public event of a match: the match as it is now, owned by who needs the goods, with who has them as a party."""
    kind: type[Event] = getattr(public, type(event).__name__)
    told = {
        "match_id": match.id,
        "status": match.status.value,
        "batch_id": match.batch_id,
        "request_id": match.request_id,
        "line_id": match.line_id,
        "organization_id": match.organization_id,
        "provider_organization_id": match.provider_id,
        "place_id": match.place_id,
        "pickup_place_id": match.pickup_place_id,
        "category": match.category,
        "gtin": match.gtin,
        "product_name": match.product_name,
        "unit": match.unit,
        "quantity": match.quantity,
        "score": match.score,
        "reasons": [{"word": r.word.value, "value": r.value, "weight": r.weight} for r in match.reasons],
        "expires_at": match.expires_at,
        "reservation_id": match.reservation_id,
        "reason": match.reason,
    }
    parties = (match.provider_id,)
    return Announcement(kind.model_validate(told), organization_id=match.organization_id, parties=parties)


def announce_load(load: CatalogueLoad, event: Any) -> Announcement | None:
    """The public event of a load, owned by who sent it; steps that only workers and history care for stay inside."""
    told = {
        "catalogue_load_id": load.id,
        "organization_id": load.organization_id,
        "cnpj": load.cnpj,
        "mode": load.mode.value,
        "status": load.status.value,
        **_of_load(load, event),
    }
    kind = _TOLD_OF_LOADS.get(type(event))
    return None if kind is None else Announcement(kind.model_validate(told), organization_id=load.organization_id)


_TOLD_OF_LOADS: dict[type, type[Event]] = {
    CatalogueLoadReceived: public.CatalogueLoadReceived,
    CatalogueLoadReady: public.CatalogueLoadReady,
    CatalogueLoadAwaitingConfirmation: public.CatalogueLoadAwaitingConfirmation,
    CatalogueLoadApplied: public.CatalogueLoadApplied,
    CatalogueLoadRejected: public.CatalogueLoadFailed,
    CatalogueLoadFailed: public.CatalogueLoadFailed,
    CatalogueLoadCancelled: public.CatalogueLoadCancelled,
}


def _of_load(load: CatalogueLoad, event: Any) -> dict[str, Any]:
    match event:
        case CatalogueLoadReceived(payload=payload):
            return {"size_bytes": payload.size_bytes}
        case CatalogueLoadReady(survey=survey):
            return asdict(survey)
        case CatalogueLoadAwaitingConfirmation(survey=survey, confirm_by=confirm_by):
            return {**asdict(survey), "confirm_by": confirm_by}
        case CatalogueLoadApplied(outcome=outcome, applied_at=applied_at):
            rejected = 0 if load.survey is None else load.survey.rejected
            seconds = (applied_at - (load.received_at or applied_at)).total_seconds()
            return {**asdict(outcome), "rejected": rejected, "duration_s": seconds}
        case CatalogueLoadRejected(reason=reason, row=row, offset=offset):
            return {"reason": reason, "row": row, "offset": offset}
        case CatalogueLoadFailed(reason=reason) | CatalogueLoadCancelled(reason=reason):
            return {"reason": reason}
    return {}


def chunk_stored(chunk_id: UUID, *, load_id: UUID, number: int, rows: int) -> Announcement:
    """A part of a load waits to be applied; nobody owns it, so partners hear of the load alone."""
    return Announcement(
        public.CatalogueChunkStored(catalogue_chunk_id=chunk_id, catalogue_load_id=load_id, number=number, rows=rows)
    )


def products_changed(
    chunk_id: UUID, *, load_id: UUID, number: int, cnpj: str, inserted: int, updated: int, unchanged: int
) -> Announcement:
    """A part of a load changed products."""
    return Announcement(
        public.ProductsChanged(
            catalogue_chunk_id=chunk_id,
            catalogue_load_id=load_id,
            number=number,
            rows=inserted + updated + unchanged,
            cnpj=cnpj,
            inserted=inserted,
            updated=updated,
            unchanged=unchanged,
        )
    )
