"""The words of needs: ids, states, and the small values a request is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType
from uuid import UUID

BatchId = NewType("BatchId", UUID)
DeliveryId = NewType("DeliveryId", UUID)
LineId = NewType("LineId", UUID)
MatchId = NewType("MatchId", UUID)
OrganizationId = NewType("OrganizationId", UUID)
PlaceId = NewType("PlaceId", UUID)
RequestId = NewType("RequestId", UUID)
ReservationId = NewType("ReservationId", UUID)
UserId = NewType("UserId", UUID)

Kind = tuple[str, str, str | None]  # category, unit, GTIN

NIL = UUID(int=0)
NO_BATCH = BatchId(NIL)
NO_LINE = LineId(NIL)
NO_ORGANIZATION = OrganizationId(NIL)
NO_PLACE = PlaceId(NIL)
NO_REQUEST = RequestId(NIL)
LINES_MAX = 100  # a request is a list people read
QUANTITY_MAX = 1_000_000_000  # a thousand tonnes in grams; sums stay far inside 64 bits
RESERVATIONS_MAX = 500  # ever made for one request, ended ones included: it is loaded whole for every command
RESERVATION_LIFETIME = timedelta(hours=48)  # a promise that is not on its way by then is nobody's any more


class Urgency(StrEnum):
    """How soon it matters."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    EMERGENCY = "emergency"


class Mode(StrEnum):
    """Who brings what is reserved."""

    DONOR_DELIVERS = "donor_delivers"
    VOLUNTEER_PICKUP = "volunteer_pickup"
    PARTNER = "partner"


class Status(StrEnum):
    """Where a request is in its life; coverage is derived per line and never a status."""

    OPEN = "open"
    FULFILLED = "fulfilled"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class ReservationState(StrEnum):
    """Where a reservation is in its life."""

    RESERVED = "reserved"
    IN_DELIVERY = "in_delivery"
    RECEIVED = "received"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class MatchStatus(StrEnum):
    """Where a match is in its life; a match that was accepted is a reservation, and may still be withdrawn with its batch."""

    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class ReasonWord(StrEnum):
    """What speaks for a match."""

    NEED = "need"
    DISTANCE = "distance"
    CAPACITY = "capacity"
    TIME = "time"
    FAIRNESS = "fairness"


ALLOWED: dict[Status, list[str]] = {
    Status.OPEN: ["change", "reserve", "close", "cancel"],
    Status.FULFILLED: [],
    Status.CLOSED: [],
    Status.CANCELLED: [],
    Status.EXPIRED: [],
}
RESERVATION_ALLOWED: dict[ReservationState, list[str]] = {
    ReservationState.RESERVED: ["start", "cancel"],
    ReservationState.IN_DELIVERY: ["receive", "refuse", "cancel"],
    ReservationState.RECEIVED: [],
    ReservationState.REFUSED: [],
    ReservationState.CANCELLED: [],
    ReservationState.EXPIRED: [],
}


MATCH_ALLOWED: dict[MatchStatus, list[str]] = {
    MatchStatus.PROPOSED: ["accept", "decline"],
    MatchStatus.ACCEPTED: [],
    MatchStatus.DECLINED: [],
    MatchStatus.EXPIRED: [],
    MatchStatus.WITHDRAWN: [],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Goods:
    """An amount of some category, as deliveries tell it; of which product where its batch is known."""

    category: str
    unit: str
    quantity: int
    gtin: str | None = None

    @property
    def kind(self) -> Kind:
        """What amounts of can be added up."""
        return self.category, self.unit, self.gtin


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One thing asked for, by category or by GTIN."""

    line_id: LineId
    name: str
    unit: str
    needed: int
    category: str | None = None
    gtin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A need, and what is promised and arrived of it: `reserved + received` never exceeds `needed`.

    `position` is where people put it: stored state keeps no order of its own.
    """

    line_id: LineId
    position: int
    name: str
    unit: str
    needed: int
    category: str | None = None
    gtin: str | None = None
    reserved: int = 0
    received: int = 0

    @property
    def uncovered(self) -> int:
        """What can still be reserved."""
        return self.needed - self.reserved - self.received

    def rank_of(self, kind: Kind) -> int | None:
        """Whether goods of a kind are what is asked for: the product itself first, then any of its category.

        A product of a category is taken on trust, last, when nobody knows which product the goods are.
        """
        category, unit, gtin = kind
        if unit != self.unit:
            return None
        if self.gtin is None:
            return 1 if category == self.category else None
        if gtin is None:
            return 2 if category == self.category else None
        return 0 if gtin == self.gtin else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Somebody's promise to bring part of a request; nobody of the donor's made it when the receiver accepted a match."""

    organization_id: OrganizationId
    reserved_by: UserId | None
    mode: Mode
    quantities: dict[LineId, int]
    reserved_at: datetime
    expires_at: datetime
    state: ReservationState = ReservationState.RESERVED
    received: dict[LineId, int] = field(default_factory=dict)
    delivery_id: DeliveryId | None = None

    @property
    def allowed(self) -> list[str]:
        """The commands a person may give now."""
        return RESERVATION_ALLOWED[self.state]

    @property
    def active(self) -> bool:
        """It still counts as reserved."""
        return self.state in (ReservationState.RESERVED, ReservationState.IN_DELIVERY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """What speaks for a match, between 0 and 1, how much it weighs, and the facts it comes from."""

    word: ReasonWord
    value: float
    weight: float
    facts: dict[str, int | str]
