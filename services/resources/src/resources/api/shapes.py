"""What goes in and out of the routes of resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from chassis.database import Row
from chassis.kernel import Invalid
from chassis.routing import set_etag
from chassis.wire import Body, Count, CountOrZero, Name, Reason, UtcMoment, View
from contracts.values import Category, Gtin, ReservationMode, Unit, Urgency
from fastapi import Response
from pydantic import Field

from resources import domain, usecases

Status = Literal["open", "fulfilled", "closed", "cancelled", "expired"]
ReservationStatus = Literal["reserved", "in_delivery", "received", "refused", "cancelled", "expired"]
MatchStatus = Literal["proposed", "accepted", "declined", "expired", "withdrawn"]
Flag = Literal["true", "false"]


class LineIn(Body):
    """One thing that is needed, named by category, by GTIN or by both."""

    category: Category | None = None
    gtin: Gtin | None = None
    name: Name
    unit: Unit
    needed: Count


class ChangedLineIn(LineIn):
    """A line as it shall be; with its `line_id` it keeps what was reserved and received of it."""

    line_id: UUID | None = None


class RequestIn(Body):
    """A new request."""

    place_id: UUID
    title: Name
    urgency: Urgency
    needed_by_at: UtcMoment | None = None
    lines: Annotated[list[LineIn], Field(min_length=1, max_length=domain.LINES_MAX)]


class ChangeIn(Body):
    """What shall be different; `lines`, when given, are all lines from now on."""

    title: Name | None = None
    urgency: Urgency | None = None
    needed_by_at: UtcMoment | None = None
    lines: Annotated[list[ChangedLineIn], Field(min_length=1, max_length=domain.LINES_MAX)] | None = None


class CloseIn(Body):
    """Why, if there is something to say."""

    reason: Reason | None = None


class ReasonIn(Body):
    """Why."""

    reason: Reason


class PromiseIn(Body):
    """A part of a line."""

    line_id: UUID
    quantity: Count


class ReservationIn(Body):
    """A promise; who acts for several organizations says for which one."""

    organization_id: UUID | None = None
    lines: Annotated[list[PromiseIn], Field(min_length=1, max_length=domain.LINES_MAX)]
    mode: ReservationMode


class StartIn(Body):
    """The delivery of this platform that brings it, if one does."""

    delivery_id: UUID | None = None


class ArrivedIn(Body):
    """How much of a line arrived."""

    line_id: UUID
    quantity: CountOrZero


class ReceiveIn(Body):
    """What arrived; without `lines` all that was promised, otherwise a line not named did not arrive."""

    lines: Annotated[list[ArrivedIn], Field(min_length=1, max_length=domain.LINES_MAX)] | None = None


class LineOut(View):
    """A line and its coverage: `needed = reserved + received + open`."""

    line_id: UUID
    category: Category | None
    gtin: str | None
    name: str
    unit: Unit
    needed: int
    reserved: int
    received: int
    open: int


class RequestOut(View):
    """A request."""

    id: UUID
    version: int
    organization_id: UUID
    place_id: UUID
    status: Status
    title: str
    urgency: Urgency
    needed_by_at: UtcMoment | None
    lines: list[LineOut]
    created_at: UtcMoment


class PromiseOut(View):
    """A promised part of a line, and what of it arrived."""

    line_id: UUID
    quantity: int
    received: int


class ReservationOut(View):
    """A reservation: `donor_organization_id` promised it to `organization_id`."""

    id: UUID
    request_id: UUID
    organization_id: UUID
    donor_organization_id: UUID
    status: ReservationStatus
    mode: ReservationMode
    lines: list[PromiseOut]
    delivery_id: UUID | None
    reserved_at: UtcMoment
    expires_at: UtcMoment


class MatchReasonOut(View):
    """What speaks for the match: between 0 and 1, how much it weighs, and the facts behind it."""

    word: Literal["need", "distance", "capacity", "time", "fairness"]
    value: float
    weight: float
    facts: dict[str, int | str]


class MatchOut(View):
    """A part of a batch of `provider_organization_id` that could serve a line of a request of `organization_id`."""

    id: UUID
    version: int
    status: MatchStatus
    allowed: list[str]
    batch_id: UUID
    request_id: UUID
    line_id: UUID
    organization_id: UUID
    provider_organization_id: UUID
    place_id: UUID
    pickup_place_id: UUID
    category: Category
    gtin: str | None
    product_name: str
    unit: Unit
    quantity: int
    score: float
    reasons: list[MatchReasonOut]
    proposed_at: UtcMoment
    expires_at: UtcMoment
    reservation_id: UUID | None
    reason: str | None


def match_of(state: Mapping[str, Any]) -> MatchOut:
    """A match, from its state."""
    allowed = domain.MATCH_ALLOWED[domain.MatchStatus(state["status"])]
    return MatchOut.model_validate({**state, "provider_organization_id": state["provider_id"], "allowed": allowed})


def request_of_row(row: Row) -> RequestOut:
    """A request as a query found it."""
    return RequestOut.model_validate(dict(row))


def request_of(request: domain.ResourceRequest, response: Response) -> RequestOut:
    """A request as a command left it; the answer names its version."""
    set_etag(response, request.version)
    plain = ("id", "version", "organization_id", "place_id", "status", "title", "urgency", "needed_by_at")
    return RequestOut.model_validate(
        {
            **{name: getattr(request, name) for name in plain},
            "lines": [line_of(line) for line in request.listed],
            "created_at": request.opened_at,
        }
    )


def line_of(line: domain.Line) -> LineOut:
    """A line with its coverage."""
    plain = ("line_id", "category", "gtin", "name", "unit", "needed", "reserved", "received")
    return LineOut.model_validate({**{name: getattr(line, name) for name in plain}, "open": line.uncovered})


def reservation_of(request: domain.ResourceRequest, reservation_id: UUID) -> ReservationOut:
    """A reservation as a command left it."""
    known = request.reservations[domain.ReservationId(reservation_id)]
    return ReservationOut(
        id=reservation_id,
        request_id=request.id,
        organization_id=request.organization_id,
        donor_organization_id=known.organization_id,
        status=known.state.value,
        mode=known.mode.value,
        lines=[
            PromiseOut(line_id=line_id, quantity=quantity, received=known.received.get(line_id, 0))
            for line_id, quantity in sorted(known.quantities.items())
        ],
        delivery_id=known.delivery_id,
        reserved_at=known.reserved_at,
        expires_at=known.expires_at,
    )


def wanted_of(line: LineIn) -> usecases.Wanted:
    """What a line asks for."""
    return {
        "line_id": getattr(line, "line_id", None),
        "name": line.name,
        "unit": line.unit,
        "needed": line.needed,
        "category": line.category,
        "gtin": line.gtin,
    }


def quantities_of(lines: Sequence[PromiseIn | ArrivedIn]) -> dict[UUID, int]:
    """Quantity by line; a line named twice is invalid."""
    quantities = {line.line_id: line.quantity for line in lines}
    if len(quantities) < len(lines):
        raise Invalid("a line is named once", pointer="/lines")
    return quantities
