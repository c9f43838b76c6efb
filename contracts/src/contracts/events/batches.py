"""Facts that batches publishes: supply and its conserved ledger. Every event carries the batch as it is after it."""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import Field

from contracts.envelope import Event, Moment
from contracts.values import Amount, Category, Kind, Quantities, Severity, Storage, TemperatureStage, Unit, Window

BatchStatus = Literal["producing", "ready", "depleted", "closed", "cancelled", "expired", "recalled"]


class _BatchEvent(Event, abstract=True):
    producer: ClassVar[str] = "batches"
    aggregate: ClassVar[str] = "batch"
    batch_id: UUID
    organization_id: UUID
    place_id: UUID
    status: BatchStatus
    kind: Kind
    category: Category
    product_name: str = Field(max_length=200)
    gtin: str | None = None
    unit: Unit
    storage: Storage
    use_by_at: Moment | None = None
    pickup_window: Window
    quantities: Quantities


class BatchCreated(_BatchEvent):
    """A provider announced a batch that is still being made."""


class BatchReady(_BatchEvent):
    """The batch can be held."""


class BatchAdjusted(_BatchEvent):
    """The provider corrected the total."""

    reason: str = Field(max_length=500)


class _HoldEvent(_BatchEvent, abstract=True):
    hold_id: UUID
    delivery_id: UUID
    quantity: Amount


class BatchHeld(_HoldEvent):
    """`quantity` is kept for one delivery line; `hold_id` is the line's id."""


class BatchHoldRejected(_HoldEvent):
    """The hold was refused and nothing is kept."""

    reason: Literal["insufficient", "not-ready", "expired", "recalled"]


class BatchHoldReleased(_HoldEvent):
    """A hold ended without pickup; the quantity is available again, or lost when the batch is over."""


class BatchHoldSplit(_HoldEvent):
    """`quantity` of a hold is kept for a line of another delivery from now on."""

    sibling_hold_id: UUID
    sibling_delivery_id: UUID


class BatchPickedUp(_HoldEvent):
    """`quantity` left with the volunteer; a shortfall of the hold went back."""


class BatchDelivered(_HoldEvent):
    """`quantity` was handed over to the receiver."""


class BatchReturned(_HoldEvent):
    """`quantity` came back to the provider; unusable goods count as lost."""

    usable: bool


class BatchLost(_HoldEvent):
    """`quantity` was lost or discarded on the road."""


class BatchDepleted(_BatchEvent):
    """Nothing is available any more."""


class BatchReplenished(_BatchEvent):
    """Something is available again."""


class BatchExpired(_BatchEvent):
    """`use_by_at` passed; what was available is lost."""


class BatchCancelled(_BatchEvent):
    """The provider withdrew the batch."""

    reason: str = Field(max_length=500)


class BatchRecalled(_BatchEvent):
    """The goods are unsafe: nothing more may be handed over."""

    severity: Severity
    reason: str = Field(max_length=500)


class BatchClosed(_BatchEvent):
    """Everything of the batch has found its end."""


class TemperatureRecorded(_BatchEvent):
    """A reading, in tenths of a degree Celsius."""

    temperature_dc: int = Field(ge=-1000, le=2000)
    stage: TemperatureStage
    in_band: bool
