"""What can have happened to a batch. Every event carries all that folding it needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from chassis.kernel import Upcasters

from batches.domain.terms import (
    DeliveryId,
    HoldId,
    Kind,
    OrganizationId,
    PickupWindow,
    PlaceId,
    Product,
    Receiver,
    Rejection,
    Severity,
    Stage,
    Storage,
    Unit,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCreated:
    """A provider announced a batch."""

    organization_id: OrganizationId
    place_id: PlaceId
    kind: Kind
    product: Product
    unit: Unit
    quantity: int
    storage: Storage
    pickup_window: PickupWindow
    lot_code: str | None
    use_by_at: datetime | None
    est_ready_at: datetime | None
    handling_notes: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReady:
    """The batch can be held; `quantity` is what really came out."""

    quantity: int
    use_by_at: datetime | None
    temperature_dc: int | None
    ready_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAdjusted:
    """The total was corrected; the difference is in what is available."""

    quantity: int
    previous_quantity: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHeld:
    """Part of the batch was set aside for a delivery line."""

    hold_id: HoldId
    delivery_id: DeliveryId
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHoldRejected:
    """A hold was asked for and not granted."""

    hold_id: HoldId
    delivery_id: DeliveryId
    quantity: int
    reason: Rejection


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHoldReleased:
    """A hold ended before pickup: `restocked` is available again, `lost` is not (expired or recalled)."""

    hold_id: HoldId
    delivery_id: DeliveryId
    restocked: int
    lost: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHoldSplit:
    """Part of a hold is for another delivery's line from now on."""

    hold_id: HoldId
    delivery_id: DeliveryId
    sibling_hold_id: HoldId
    sibling_delivery_id: DeliveryId
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPickedUp:
    """A hold was handed over; the shortfall is `restocked`, or `lost` when expired or recalled."""

    hold_id: HoldId
    delivery_id: DeliveryId
    picked: int
    restocked: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDelivered:
    """This much more of a hold reached a receiver, who is not known of the oldest ones."""

    stored_revision: ClassVar[int] = 2

    hold_id: HoldId
    delivery_id: DeliveryId
    quantity: int
    receiver: Receiver | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReturned:
    """This much more of a hold came back: `restocked` is usable, `lost` is not."""

    hold_id: HoldId
    delivery_id: DeliveryId
    restocked: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLost:
    """This much more of a hold was lost or discarded on the road."""

    hold_id: HoldId
    delivery_id: DeliveryId
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDepleted:
    """Nothing is available any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReplenished:
    """Something is available again."""

    available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchClosed:
    """Nothing is available, held or on the road."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchExpired:
    """The use-by time passed; what was available is lost."""

    lost: int
    expired_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCancelled:
    """The provider took the offer back; the goods stay with the provider."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecalled:
    """The batch is dangerous; what was available is lost, `delivery_ids` are those that ever held any of it."""

    severity: Severity
    reason: str
    lost: int
    delivery_ids: tuple[DeliveryId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureRecorded:
    """Somebody read a thermometer."""

    temperature_dc: int
    stage: Stage
    in_band: bool
    recorded_at: datetime


EVENTS: dict[str, type] = {
    event.__name__: event
    for event in (
        BatchCreated,
        BatchReady,
        BatchAdjusted,
        BatchHeld,
        BatchHoldRejected,
        BatchHoldReleased,
        BatchHoldSplit,
        BatchPickedUp,
        BatchDelivered,
        BatchReturned,
        BatchLost,
        BatchDepleted,
        BatchReplenished,
        BatchClosed,
        BatchExpired,
        BatchCancelled,
        BatchRecalled,
        TemperatureRecorded,
    )
}

UPCASTERS: Upcasters = {
    ("BatchDelivered", 1): lambda data: {**data, "receiver": None},
}
