"""Facts that resources publishes: needs and reservations. Every request event carries the request as it is after it."""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

from contracts.envelope import Event, Moment
from contracts.values import Amount, Category, ReservationMode, Unit, Urgency, Value

RequestStatus = Literal["open", "fulfilled", "closed", "cancelled", "expired"]


class RequestLine(Value):
    """What is needed, in the line's unit; `needed >= reserved + received`."""

    line_id: UUID
    category: Category
    gtin: str | None = None
    unit: Unit
    needed: Amount
    reserved: Amount = 0
    received: Amount = 0


class ReservedLine(Value):
    """A part of a line that somebody promised."""

    line_id: UUID
    quantity: Amount


class _ResourceRequestEvent(Event, abstract=True):
    producer: ClassVar[str] = "resources"
    aggregate: ClassVar[str] = "resource_request"
    request_id: UUID
    organization_id: UUID
    place_id: UUID
    status: RequestStatus
    urgency: Urgency
    needed_by_at: Moment | None = None
    lines: list[RequestLine]


class ResourceRequestOpened(_ResourceRequestEvent):
    """A receiver asked for goods."""


class ResourceRequestChanged(_ResourceRequestEvent):
    """The receiver changed what is needed."""


class ResourceRequestFulfilled(_ResourceRequestEvent):
    """Everything asked for was received."""


class ResourceRequestClosed(_ResourceRequestEvent):
    """The receiver ended the request."""


class ResourceRequestCancelled(_ResourceRequestEvent):
    """The request was called off; its reservations are cancelled."""


class ResourceRequestExpired(_ResourceRequestEvent):
    """`needed_by_at` passed."""


class ResourceRequestDeliveryReceived(_ResourceRequestEvent):
    """A delivery made for the request arrived; `received_lines` is what it added that nobody had promised."""

    delivery_id: UUID
    received_lines: list[ReservedLine]


class _ReservationEvent(_ResourceRequestEvent, abstract=True):
    reservation_id: UUID
    donor_organization_id: UUID
    mode: ReservationMode
    reserved_lines: list[ReservedLine]


class ReservationMade(_ReservationEvent):
    """A donor promised a part of the need."""


class ReservationStarted(_ReservationEvent):
    """The promised goods are on their way."""


class ReservationReceived(_ReservationEvent):
    """The promised goods arrived."""


class ReservationRefused(_ReservationEvent):
    """The goods arrived and were not accepted; the need is open again."""


class ReservationCancelled(_ReservationEvent):
    """The promise was withdrawn; the need is open again."""


class ReservationExpired(_ReservationEvent):
    """Nothing came within the time allowed; the need is open again."""
