"""The words of logistics: ids, states, temperature bands, and the small values a delivery is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType
from uuid import UUID

BatchId = NewType("BatchId", UUID)
DeliveryId = NewType("DeliveryId", UUID)
LineId = NewType("LineId", UUID)
OrganizationId = NewType("OrganizationId", UUID)
PlaceId = NewType("PlaceId", UUID)
RequestId = NewType("RequestId", UUID)
UserId = NewType("UserId", UUID)

NIL = UUID(int=0)
NO_ORGANIZATION = OrganizationId(NIL)
NO_PLACE = PlaceId(NIL)
LINES_MAX = 50  # what one vehicle carries and one person counts at a door
CONFIRM_AHEAD = timedelta(hours=2)  # a claim made earlier than this before the pickup has to be confirmed
CONFIRM_UNTIL = timedelta(minutes=60)  # before the pickup
SPLITS_MAX = 64  # parts that one plan may end in, less one: enough for bicycles, and nobody crumbles a delivery
WAITING_MAX = 20  # who comes later has hardly a chance
CLAIM_SPAN_MIN = timedelta(hours=1)  # a claim keeps its volunteer busy at least this long


class Status(StrEnum):
    """Where a delivery is in its life."""

    PLANNED = "planned"
    OPEN = "open"
    CLAIMED = "claimed"
    IN_TRANSIT = "in_transit"
    REROUTING = "rerouting"
    DELIVERED = "delivered"
    RETURNED = "returned"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FAILED = "failed"


class HoldState(StrEnum):
    """What batches answered about a line."""

    PENDING = "pending"
    GRANTED = "granted"
    REJECTED = "rejected"


class Storage(StrEnum):
    """How the goods must be kept."""

    AMBIENT = "ambient"
    CHILLED = "chilled"
    FROZEN = "frozen"
    HOT = "hot"


class Handshake(StrEnum):
    """Where custody changes hands by code."""

    PICKUP = "pickup"
    DROPOFF = "dropoff"
    RETURN = "return"


class Spoilage(StrEnum):
    """Why goods may not be handed over any more."""

    EXPIRED = "expired"
    RECALLED = "recalled"


# The one table from a state to the commands a person may give in it.
ALLOWED: dict[Status, list[str]] = {
    Status.PLANNED: ["cancel"],
    Status.OPEN: ["claim", "waiting-list", "cancel", "reassign"],
    Status.CLAIMED: ["pickup", "release", "confirm", "no-show", "fail", "waiting-list", "cancel", "reassign"],
    Status.IN_TRANSIT: ["dropoff", "refuse", "lost"],
    Status.REROUTING: ["reroute", "return", "discard", "lost"],
    Status.DELIVERED: [],
    Status.RETURNED: [],
    Status.DISCARDED: [],
    Status.CANCELLED: [],
    Status.EXPIRED: [],
    Status.FAILED: [],
}
TERMINAL = frozenset(status for status, commands in ALLOWED.items() if not commands)

# Frozen: -12 °C or colder on receipt (Portaria CVS 5/2013, São Paulo). Hot: 60 °C or more (ANVISA RDC 216/2004).
# Chilled: not freezing, and at most the 8 °C that end the cold chain of medicines (ANVISA RDC 430/2020).
BANDS_DC: dict[Storage, tuple[int, int] | None] = {
    Storage.AMBIENT: None,
    Storage.CHILLED: (0, 80),
    Storage.FROZEN: (-2_000, -120),
    Storage.HOT: (600, 2_000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Half-open: from `from_at` until just before `to_at`."""

    from_at: datetime
    to_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLine:
    """What is to be carried from one batch."""

    line_id: LineId
    batch_id: BatchId
    provider_id: OrganizationId
    pickup_place_id: PlaceId
    product_name: str
    category: str
    storage: Storage
    unit: str
    quantity: int
    use_by_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A planned line and what became of it; the numbers are totals so far."""

    line_id: LineId
    batch_id: BatchId
    provider_id: OrganizationId
    product_name: str
    category: str
    storage: Storage
    unit: str
    planned: int
    use_by_at: datetime | None = None
    hold: HoldState = HoldState.PENDING
    picked: int = 0
    delivered: int = 0
    rejected: int = 0
    returned: int = 0
    discarded: int = 0
    lost: int = 0

    @property
    def in_hand(self) -> int:
        """Picked up and not yet accounted for."""
        return self.picked - self.delivered - self.returned - self.discarded - self.lost


@dataclass(frozen=True, slots=True, kw_only=True)
class LineTotals:
    """What became of a line so far, as events tell it."""

    line_id: LineId
    batch_id: BatchId
    planned: int
    picked: int
    delivered: int
    rejected: int
    returned: int
    discarded: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a volunteer takes of the lines named, and the ids under which the rest goes on: one for every line there is."""

    taken: Mapping[LineId, int]
    sibling_id: DeliveryId
    sibling_line_ids: Mapping[LineId, LineId]


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedLine:
    """So much of a line goes on as a line of the sibling."""

    line_id: LineId
    sibling_line_id: LineId
    batch_id: BatchId
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What a receiver took and refused of a line."""

    delivered: int
    rejected: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoShow:
    """One reporter's word that a volunteer did not come; the volunteer may contest it."""

    volunteer_id: UserId
    reported_by: UserId
    reported_at: datetime
    contested_reason: str | None = None
