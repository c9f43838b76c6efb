"""What can have happened to a delivery. Every event carries all that folding it needs.

`lines` tell the totals so far of every line, so that whoever reads one event late or twice still gets it right.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from deliveries.domain.terms import (
    BatchId,
    DeliveryId,
    LineId,
    LineTotals,
    MovedLine,
    OrganizationId,
    PlaceId,
    PlannedLine,
    RequestId,
    Spoilage,
    UserId,
    Window,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPlanned:
    """Somebody planned to bring goods to a place; holds are asked for."""

    receiving_organization_id: OrganizationId
    receiving_place_id: PlaceId
    pickup_place_id: PlaceId
    lines: tuple[PlannedLine, ...]
    pickup_window: Window | None
    dropoff_window: Window | None
    request_id: RequestId | None
    planned_by: UserId
    planned_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySplit:
    """What a volunteer does not take goes on as the delivery `sibling_id`; so often may this one still be split."""

    sibling_id: DeliveryId
    moved: tuple[MovedLine, ...]
    splits_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySplitOff:
    """The rest of the delivery `parent_id`, as a delivery of its own; its goods are held already."""

    parent_id: DeliveryId
    moved: tuple[MovedLine, ...]
    splits_left: int
    receiving_organization_id: OrganizationId
    receiving_place_id: PlaceId
    pickup_place_id: PlaceId
    lines: tuple[PlannedLine, ...]
    pickup_window: Window | None
    dropoff_window: Window | None
    request_id: RequestId | None
    planned_by: UserId
    planned_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldGranted:
    """Batches set a line's goods aside."""

    line_id: LineId


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRejected:
    """Batches could not set a line's goods aside."""

    line_id: LineId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOpened:
    """Every hold is granted; a volunteer may claim."""

    opened_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryClaimed:
    """A volunteer took it on; `confirm_by` is None when the claim counts as confirmed."""

    volunteer_id: UserId
    claimed_at: datetime
    confirm_by: datetime | None
    assigned_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimConfirmed:
    """The volunteer said again that they will come."""

    volunteer_id: UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimReleased:
    """The delivery is open again."""

    volunteer_id: UserId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingListJoined:
    """Somebody would carry it if it were open again."""

    volunteer_id: UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingListLeft:
    """Somebody waits no longer."""

    volunteer_id: UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingVolunteerCalled:
    """It is open again; the first who waited is told, and waits no longer."""

    volunteer_id: UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class VolunteerNoShow:
    """Somebody reported that the volunteer did not come."""

    volunteer_id: UserId
    reported_by: UserId
    reported_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NoShowContested:
    """The volunteer says otherwise."""

    volunteer_id: UserId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PickupConfirmed:
    """The goods are in the volunteer's hands."""

    volunteer_id: UserId
    lines: tuple[LineTotals, ...]
    temperature_dc: int | None
    override_reason: str | None
    picked_up_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DropoffRefused:
    """The receiver did not take all of it; what was taken is in the totals."""

    lines: tuple[LineTotals, ...]
    reason: str
    refused_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryInterrupted:
    """A batch on the road expired or was recalled: what is in hand of it may not be handed over."""

    batch_id: BatchId
    cause: Spoilage


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRerouted:
    """The goods go to another place."""

    receiving_organization_id: OrganizationId
    receiving_place_id: PlaceId


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryGoodsLost:
    """Some of what was in hand is gone."""

    lines: tuple[LineTotals, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReturned:
    """What was in hand went back to the provider; ends the delivery unless part of it had been delivered."""

    lines: tuple[LineTotals, ...]
    usable: bool
    override_reason: str | None
    returned_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDiscarded:
    """What was in hand was thrown away or is gone; ends the delivery unless part of it had been delivered."""

    lines: tuple[LineTotals, ...]
    reason: str
    discarded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryCompleted:
    """Something reached a receiver and everything is accounted for."""

    volunteer_id: UserId
    receiving_place_id: PlaceId
    request_id: RequestId | None
    lines: tuple[LineTotals, ...]
    temperature_dc: int | None
    override_reason: str | None
    completed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFailed:
    """There was nothing to collect."""

    lines: tuple[LineTotals, ...]
    volunteer_id: UserId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryCancelled:
    """It will not happen; holds are to be released."""

    lines: tuple[LineTotals, ...]
    volunteer_id: UserId | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryExpired:
    """Not enough safe time was left; holds are to be released."""

    lines: tuple[LineTotals, ...]
    volunteer_id: UserId | None


EVENTS: dict[str, type] = {
    event.__name__: event
    for event in (
        DeliveryPlanned,
        DeliverySplit,
        DeliverySplitOff,
        HoldGranted,
        HoldRejected,
        DeliveryOpened,
        DeliveryClaimed,
        ClaimConfirmed,
        ClaimReleased,
        WaitingListJoined,
        WaitingListLeft,
        WaitingVolunteerCalled,
        VolunteerNoShow,
        NoShowContested,
        PickupConfirmed,
        DropoffRefused,
        DeliveryInterrupted,
        DeliveryRerouted,
        DeliveryGoodsLost,
        DeliveryReturned,
        DeliveryDiscarded,
        DeliveryCompleted,
        DeliveryFailed,
        DeliveryCancelled,
        DeliveryExpired,
    )
}
