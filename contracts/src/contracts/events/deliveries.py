"""Facts that deliveries publishes: logistics and custody. Every event carries the delivery as it is after it."""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import Field

from contracts.envelope import Event, Moment
from contracts.values import Amount, Category, Unit, Value

DeliveryStatus = Literal[
    "planned", "open", "claimed", "in_transit", "rerouting", "delivered", "returned", "discarded", "cancelled", "expired", "failed",
]  # fmt: skip


class DeliveryLine(Value):
    """One batch's part of a delivery, in the batch's unit; the line's id is the hold's id."""

    line_id: UUID
    batch_id: UUID
    organization_id: UUID
    category: Category
    product_name: str = Field(max_length=200)
    unit: Unit
    planned: Amount
    picked: Amount = 0
    delivered: Amount = 0
    rejected: Amount = 0
    returned: Amount = 0
    discarded: Amount = 0
    lost: Amount = 0


class MovedLine(Value):
    """So much of a line goes on as a line of another delivery; the goods stay held."""

    line_id: UUID
    sibling_line_id: UUID
    batch_id: UUID
    quantity: Amount


class _DeliveryEvent(Event, abstract=True):
    producer: ClassVar[str] = "deliveries"
    aggregate: ClassVar[str] = "delivery"
    delivery_id: UUID
    status: DeliveryStatus
    provider_organization_ids: list[UUID]
    pickup_place_id: UUID
    receiving_organization_id: UUID
    receiving_place_id: UUID
    volunteer_id: UUID | None = None
    request_id: UUID | None = None
    opened_at: Moment | None = None
    claimed_at: Moment | None = None
    lines: list[DeliveryLine]


class DeliveryPlanned(_DeliveryEvent):
    """Goods shall go from a provider to a receiving place; batches decides on the holds."""


class DeliverySplit(_DeliveryEvent):
    """A volunteer takes a part of it; the rest goes on as the delivery `sibling_id`."""

    sibling_id: UUID
    moved: list[MovedLine]


class DeliverySplitOff(_DeliveryEvent):
    """It is the rest of the delivery `parent_id`; its goods are held already, no hold is asked for."""

    parent_id: UUID
    moved: list[MovedLine]


class DeliveryHoldGranted(_DeliveryEvent):
    """Batches set the goods of one line aside."""

    line_id: UUID


class DeliveryHoldRejected(_DeliveryEvent):
    """Batches could not set the goods of one line aside."""

    line_id: UUID
    reason: str = Field(max_length=500)


class DeliveryOpened(_DeliveryEvent):
    """Every hold was granted; volunteers may claim it."""


class DeliveryClaimed(_DeliveryEvent):
    """One volunteer took it on."""


class DeliveryClaimConfirmed(_DeliveryEvent):
    """The volunteer keeps a claim made well ahead."""


class ClaimReleased(_DeliveryEvent):
    """The claim ended before pickup; the delivery is open again."""

    previous_volunteer_id: UUID
    reason: str = Field(max_length=500)


class PickupConfirmed(_DeliveryEvent):
    """The goods changed hands from provider to volunteer, proven by code."""


class DropoffRefused(_DeliveryEvent):
    """The goods, or a part, cannot be handed over; they stay with the volunteer."""

    reason: str = Field(max_length=500)


class DeliveryRerouted(_DeliveryEvent):
    """The goods go on to another place."""


class DeliveryCompleted(_DeliveryEvent):
    """The goods changed hands from volunteer to receiver, proven by code."""


class DeliveryReturned(_DeliveryEvent):
    """What was not delivered is back with the provider."""

    usable: bool


class DeliveryDiscarded(_DeliveryEvent):
    """What was not delivered was thrown away."""

    reason: str = Field(max_length=500)


class DeliveryGoodsLost(_DeliveryEvent):
    """A part in hand was lost on the road."""

    reason: str = Field(max_length=500)


class DeliveryFailed(_DeliveryEvent):
    """There was nothing to collect."""

    reason: str = Field(max_length=500)


class DeliveryCancelled(_DeliveryEvent):
    """Called off before pickup; the holds are released."""

    reason: str = Field(max_length=500)


class DeliveryExpired(_DeliveryEvent):
    """Not enough safe time was left; the holds are released."""


class VolunteerNoShow(_DeliveryEvent):
    """A party reported that the volunteer did not come."""

    reporter_id: UUID


class VolunteerNoShowContested(_DeliveryEvent):
    """The volunteer says otherwise."""

    reason: str = Field(max_length=500)


class WaitingListJoined(_DeliveryEvent):
    """Somebody would carry it if it were open again."""

    waiting_id: UUID


class WaitingListLeft(_DeliveryEvent):
    """Somebody waits for it no longer."""

    waiting_id: UUID


class WaitingVolunteerCalled(_DeliveryEvent):
    """It is open again, and the first who waited is told."""

    waiting_id: UUID


class Goods(Value):
    """What a delivery brings, as people are told of it."""

    category: Category
    product_name: str = Field(max_length=200)
    unit: Unit
    quantity: Amount


class _FollowUpEvent(Event, abstract=True):
    """Something said to people because a delivery waits for one of them; it changes nothing about the delivery."""

    producer: ClassVar[str] = "deliveries"
    aggregate: ClassVar[str] = "follow_up"
    follow_up_id: UUID
    delivery_id: UUID
    provider_organization_ids: list[UUID]
    pickup_place_id: UUID
    receiving_organization_id: UUID
    receiving_place_id: UUID
    volunteer_id: UUID | None = None
    goods: list[Goods]


class DeliveryOffered(_FollowUpEvent):
    """These volunteers, within this distance of the pickup, are asked whether they take it on."""

    ring: int = Field(ge=1)
    radius_m: int = Field(ge=1)
    volunteer_ids: list[UUID]


class DeliveryUnclaimed(_FollowUpEvent):
    """Nobody of all who were asked took it on, or there was nobody to ask."""

    offered: int = Field(ge=0)


class PickupReminded(_FollowUpEvent):
    """The volunteer is reminded of the pickup; with `confirm_by` the claim ends then unless it is confirmed."""

    pickup_from: Moment
    confirm_by: Moment | None = None


class PickupDelayed(_FollowUpEvent):
    """The goods should have been picked up by `due_at`; at `release_at` the claim ends by itself."""

    due_at: Moment
    release_at: Moment


class DropoffDelayed(_FollowUpEvent):
    """The goods should have arrived by `due_at`; `times` counts how often this was said."""

    due_at: Moment
    times: int = Field(ge=1)


class RerouteAsked(_FollowUpEvent):
    """The volunteer is asked by `decide_by` where the refused goods go: to one of these places, back, or away."""

    decide_by: Moment
    place_ids: list[UUID]


class RerouteDelayed(_FollowUpEvent):
    """The volunteer should have decided by `decide_by`; `times` counts how often this was said."""

    decide_by: Moment
    times: int = Field(ge=1)


TaskStage = Literal["planned", "open", "claimed", "in_transit", "rerouting"]
TaskRole = Literal["provider_member", "receiver_member", "volunteer", "coordinator"]


class TaskTemplatesChanged(Event):
    """An organization says anew which tasks its deliveries bring with them."""

    producer: ClassVar[str] = "deliveries"
    aggregate: ClassVar[str] = "task_templates"
    organization_id: UUID
    stages: list[TaskStage]
    count: int = Field(ge=0)


class _TaskEvent(Event, abstract=True):
    producer: ClassVar[str] = "deliveries"
    aggregate: ClassVar[str] = "task"
    task_id: UUID
    delivery_id: UUID
    stage: TaskStage
    title: str = Field(max_length=200)
    role: TaskRole
    organization_id: UUID
    assigned_organization_ids: list[UUID]
    volunteer_id: UUID | None = None
    place_id: UUID
    due_at: Moment


class TaskCreated(_TaskEvent):
    """Somebody of the side named by `role` has something to do."""


class TaskCompleted(_TaskEvent):
    """It is done."""

    completed_by: UUID


class TaskExpired(_TaskEvent):
    """Its due time passed."""


class TaskClosed(_TaskEvent):
    """It need not be done any more: the delivery went on."""
