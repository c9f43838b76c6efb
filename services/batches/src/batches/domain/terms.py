"""The words of supply: ids, kinds, states, temperature bands, and the small values a batch is made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType
from uuid import UUID

BatchId = NewType("BatchId", UUID)
DeliveryId = NewType("DeliveryId", UUID)
HoldId = NewType("HoldId", UUID)  # the id of the delivery line the hold is for
OrganizationId = NewType("OrganizationId", UUID)
PlaceId = NewType("PlaceId", UUID)
UserId = NewType("UserId", UUID)

NIL = UUID(int=0)
QUANTITY_MAX = 1_000_000_000  # a thousand tonnes in grams; sums stay far inside 64 bits
TEMPERATURE_DC_MIN, TEMPERATURE_DC_MAX = -2_000, 2_000  # outside, the thermometer or the unit is wrong


class Kind(StrEnum):
    """What sort of goods, and so which rules on shelf life."""

    FOOD = "food"
    MEDICINE = "medicine"
    AID = "aid"


class Category(StrEnum):
    """What receivers accept or stop."""

    PREPARED = "prepared"
    PRODUCE = "produce"
    DAIRY = "dairy"
    BAKERY = "bakery"
    MEAT_FISH = "meat_fish"
    DRY = "dry"
    BEVERAGE = "beverage"
    BABY = "baby"
    HYGIENE = "hygiene"
    CLEANING = "cleaning"
    CLOTHING = "clothing"
    BEDDING = "bedding"
    PET = "pet"
    MEDICINE = "medicine"
    PACKAGING = "packaging"
    OTHER = "other"


class Unit(StrEnum):
    """The base unit quantities are counted in."""

    PORTION = "portion"
    GRAM = "g"
    MILLILITRE = "ml"
    UNIT = "unit"


class Storage(StrEnum):
    """How the goods must be kept."""

    AMBIENT = "ambient"
    CHILLED = "chilled"
    FROZEN = "frozen"
    HOT = "hot"


class Severity(StrEnum):
    """How dangerous a recalled batch is."""

    LOW = "low"
    HIGH = "high"
    CRITICAL = "critical"


class Stage(StrEnum):
    """Where a temperature was read."""

    STORAGE = "storage"
    PICKUP = "pickup"
    TRANSIT = "transit"
    DROPOFF = "dropoff"


class Status(StrEnum):
    """Where a batch is in its life."""

    PRODUCING = "producing"
    READY = "ready"
    DEPLETED = "depleted"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    RECALLED = "recalled"


class HoldState(StrEnum):
    """Where the goods set aside for one delivery line are."""

    REJECTED = "rejected"
    HELD = "held"
    RELEASED = "released"
    IN_TRANSIT = "in_transit"
    SETTLED = "settled"


class Rejection(StrEnum):
    """Why a hold was not granted."""

    INSUFFICIENT = "insufficient"
    NOT_READY = "not-ready"
    EXPIRED = "expired"
    RECALLED = "recalled"


# A batch that is closed or expired can still be recalled: those who received it have to be told.
ALLOWED: dict[Status, list[str]] = {
    Status.PRODUCING: ["ready", "adjust", "cancel", "recall", "temperatures"],
    Status.READY: ["adjust", "cancel", "recall", "temperatures"],
    Status.DEPLETED: ["adjust", "cancel", "recall", "temperatures"],
    Status.CLOSED: ["recall"],
    Status.CANCELLED: [],
    Status.EXPIRED: ["recall"],
    Status.RECALLED: [],
}

# Frozen: -12 °C or colder on receipt (Portaria CVS 5/2013, São Paulo). Hot: 60 °C or more (ANVISA RDC 216/2004).
# Chilled: not freezing, and at most the 8 °C that end the cold chain of medicines (ANVISA RDC 430/2020).
BANDS_DC: dict[Storage, tuple[int, int] | None] = {
    Storage.AMBIENT: None,
    Storage.CHILLED: (0, 80),
    Storage.FROZEN: (TEMPERATURE_DC_MIN, -120),
    Storage.HOT: (600, TEMPERATURE_DC_MAX),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What the batch is of."""

    name: str
    category: Category
    gtin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PickupWindow:
    """Half-open: from `from_at` until just before `to_at`."""

    from_at: datetime
    to_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Who took goods at a door, and where."""

    organization_id: OrganizationId
    place_id: PlaceId


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """So much reached this receiver."""

    receiver: Receiver
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What is set aside for one delivery line; the numbers are totals so far, `drops` who has what was delivered."""

    delivery_id: DeliveryId
    quantity: int
    state: HoldState
    picked: int = 0
    delivered: int = 0
    returned: int = 0
    lost: int = 0
    drops: tuple[Drop, ...] = ()

    @property
    def held(self) -> int:
        """Set aside and not picked up yet."""
        return self.quantity if self.state is HoldState.HELD else 0

    @property
    def in_transit(self) -> int:
        """Picked up and not yet accounted for."""
        return self.picked - self.delivered - self.returned - self.lost


# What a batch has before its first event.
NO_ORGANIZATION = OrganizationId(NIL)
NO_PLACE = PlaceId(NIL)
NO_PRODUCT = Product(name="", category=Category.OTHER)
