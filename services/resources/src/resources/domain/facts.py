"""What can have happened to a request, and to a match. Every event carries all that folding it needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from resources.domain.terms import (
    BatchId,
    DeliveryId,
    Goods,
    LineId,
    Mode,
    Need,
    OrganizationId,
    PlaceId,
    Reason,
    RequestId,
    ReservationId,
    Urgency,
    UserId,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequestOpened:
    """A place said what it needs."""

    organization_id: OrganizationId
    place_id: PlaceId
    title: str
    urgency: Urgency
    needed_by_at: datetime | None
    lines: tuple[Need, ...]
    opened_by: UserId
    opened_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequestChanged:
    """The request as it is now; lines that are not named are gone."""

    title: str
    urgency: Urgency
    needed_by_at: datetime | None
    lines: tuple[Need, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequestFulfilled:
    """Everything needed has been received."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequestClosed:
    """Enough: what is missing is not needed any more."""

    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequestCancelled:
    """The request was a mistake or is void."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequestExpired:
    """The time by which it was needed has passed."""

    expired_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequestDeliveryReceived:
    """A delivery made for the request handed goods over: what that added beyond promises, and what nobody needed.

    `totals` is what this delivery has handed over so far; facts from before they were kept have none.
    """

    stored_revision: ClassVar[int] = 2

    delivery_id: DeliveryId
    quantities: dict[LineId, int]
    excess: tuple[Goods, ...]
    received_at: datetime
    totals: tuple[Goods, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationMade:
    """Somebody promised part of it."""

    reservation_id: ReservationId
    organization_id: OrganizationId
    reserved_by: UserId | None
    mode: Mode
    quantities: dict[LineId, int]
    reserved_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationStarted:
    """It is on its way."""

    reservation_id: ReservationId
    delivery_id: DeliveryId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationReceived:
    """It arrived; what did not is needed again."""

    reservation_id: ReservationId
    quantities: dict[LineId, int]
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationRefused:
    """The receiver did not take it; all of it is needed again."""

    reservation_id: ReservationId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationCancelled:
    """The promise was taken back, or the request ended."""

    reservation_id: ReservationId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationExpired:
    """Nobody brought it in time."""

    reservation_id: ReservationId
    expired_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchProposed:
    """A part of a batch could serve a need, and why."""

    batch_id: BatchId
    request_id: RequestId
    line_id: LineId
    provider_id: OrganizationId
    organization_id: OrganizationId
    pickup_place_id: PlaceId
    place_id: PlaceId
    category: str
    gtin: str | None
    unit: str
    product_name: str
    quantity: int
    score: float
    reasons: tuple[Reason, ...]
    proposed_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchAccepted:
    """One of both sides wants it: it is a reservation now."""

    reservation_id: ReservationId
    accepted_by: UserId
    accepted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchDeclined:
    """One of both sides does not want it."""

    reason: str
    declined_by: UserId
    declined_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchExpired:
    """Nobody answered in time."""

    expired_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchWithdrawn:
    """The goods or the need are gone."""

    reason: str
    withdrawn_at: datetime


EVENTS: dict[str, type] = {
    event.__name__: event
    for event in (
        ResourceRequestOpened,
        ResourceRequestChanged,
        ResourceRequestFulfilled,
        ResourceRequestClosed,
        ResourceRequestCancelled,
        ResourceRequestExpired,
        ResourceRequestDeliveryReceived,
        ReservationMade,
        ReservationStarted,
        ReservationReceived,
        ReservationRefused,
        ReservationCancelled,
        ReservationExpired,
    )
}


def _goods_by_product(data: dict[str, Any]) -> dict[str, Any]:
    """A delivery counted whole and once, and nobody knew of which product its goods were."""
    return {**data, "excess": [{**goods, "gtin": None} for goods in data["excess"]], "totals": []}


UPCASTERS = {("ResourceRequestDeliveryReceived", 1): _goods_by_product}
MATCH_EVENTS: dict[str, type] = {
    event.__name__: event for event in (MatchProposed, MatchAccepted, MatchDeclined, MatchExpired, MatchWithdrawn)
}
