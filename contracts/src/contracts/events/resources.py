"""Facts that resources publishes: needs, reservations and matches. Every event carries its aggregate as it is after it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from contracts.envelope import Event, Moment
from contracts.values import Amount, Category, Cnpj, LoadMode, ReservationMode, Unit, Urgency, Value

RequestStatus = Literal["open", "fulfilled", "closed", "cancelled", "expired"]
LoadStatus = Literal[
    "received", "validating", "ready", "awaiting_confirmation", "applying", "applied", "applied_with_errors", "rejected",
    "failed", "cancelled",
]  # fmt: skip
MatchStatus = Literal["proposed", "accepted", "declined", "expired", "withdrawn"]
MatchReasonWord = Literal["need", "distance", "capacity", "time", "fairness"]
Rows = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


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


class MatchReason(Value):
    """What speaks for a match, between 0 and 1, and how much it weighs in the score."""

    word: MatchReasonWord
    value: Share
    weight: Share


class _MatchEvent(Event, abstract=True):
    """`organization_id` needs the goods, `provider_organization_id` has them; `reservation_id` once it was accepted."""

    producer: ClassVar[str] = "resources"
    aggregate: ClassVar[str] = "match"
    match_id: UUID
    status: MatchStatus
    batch_id: UUID
    request_id: UUID
    line_id: UUID
    organization_id: UUID
    provider_organization_id: UUID
    place_id: UUID
    pickup_place_id: UUID
    category: Category
    gtin: str | None = None
    product_name: str = Field(max_length=200)
    unit: Unit
    quantity: Amount
    score: Share
    reasons: list[MatchReason] = Field(max_length=10)
    expires_at: Moment
    reservation_id: UUID | None = None


class MatchProposed(_MatchEvent):
    """A part of a batch could serve a need; either side may accept or decline until `expires_at`."""


class MatchAccepted(_MatchEvent):
    """One of both sides wants it: the quantity is reserved."""

    reservation_id: UUID


class MatchDeclined(_MatchEvent):
    """One of both sides does not want it; the next need is asked."""

    reason: str = Field(max_length=500)


class MatchExpired(_MatchEvent):
    """Nobody answered in time; the next need is asked."""


class MatchWithdrawn(_MatchEvent):
    """The goods or the need are gone; what was reserved for it is free again."""

    reason: str = Field(max_length=500)


class _CatalogueLoadEvent(Event, abstract=True):
    """`organization_id` sent the load for the company `cnpj`."""

    producer: ClassVar[str] = "resources"
    aggregate: ClassVar[str] = "catalogue_load"
    catalogue_load_id: UUID
    organization_id: UUID
    cnpj: Cnpj
    mode: LoadMode
    status: LoadStatus


class CatalogueLoadReceived(_CatalogueLoadEvent):
    """A partner's catalogue arrived and is safe."""

    size_bytes: Rows


class _CatalogueLoadRead(_CatalogueLoadEvent, abstract=True):
    """`rows = accepted + duplicates + rejected`; `missing` of the `active` products are not in it."""

    rows: Rows
    accepted: Rows
    duplicates: Rows
    rejected: Rows
    active: Rows
    missing: Rows


class CatalogueLoadReady(_CatalogueLoadRead):
    """All of it was read; it is applied when its turn comes."""


class CatalogueLoadAwaitingConfirmation(_CatalogueLoadRead):
    """It would deactivate so much that a person has to confirm or cancel it, by `confirm_by`."""

    confirm_by: Moment


class CatalogueLoadApplied(_CatalogueLoadEvent):
    """The products are as the load says; `applied_with_errors` when chunks failed that can be retried."""

    inserted: Rows
    updated: Rows
    unchanged: Rows
    deactivated: Rows
    rejected: Rows
    failed_chunks: Rows
    duration_s: Annotated[float, Field(ge=0)]


class CatalogueLoadFailed(_CatalogueLoadEvent):
    """It cannot be read (`rejected`, at `row` or `offset`) or could not be finished (`failed`)."""

    reason: str = Field(max_length=500)
    row: Rows | None = None
    offset: Rows | None = None


class CatalogueLoadCancelled(_CatalogueLoadEvent):
    """It was called off before anything of it was applied."""

    reason: str = Field(max_length=500)


class _CatalogueChunkEvent(Event, abstract=True):
    """A part of a load; there are many, so they are nobody's in particular: partners hear of the load."""

    producer: ClassVar[str] = "resources"
    aggregate: ClassVar[str] = "catalogue_chunk"
    catalogue_chunk_id: UUID
    catalogue_load_id: UUID
    number: Rows
    rows: Rows


class CatalogueChunkStored(_CatalogueChunkEvent):
    """A part of a load whose turn has come waits to be applied."""


class ProductsChanged(_CatalogueChunkEvent):
    """A part of a load was applied: products of a company are other than before."""

    cnpj: Cnpj
    inserted: Rows
    updated: Rows
    unchanged: Rows
