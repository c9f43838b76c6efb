"""What callers send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, Protocol, TypeVar
from uuid import UUID

from chassis.kernel import Invalid
from chassis.wire import Body, Count, CountOrZero, Reason, TemperatureDc, WindowIn
from pydantic import BeforeValidator, Field, StrictBool

from deliveries.domain import Dropped, LineId
from deliveries.domain.terms import LINES_MAX

Status = Literal[
    "planned", "open", "claimed", "in_transit", "rerouting", "delivered", "returned", "discarded", "cancelled", "expired", "failed",
]  # fmt: skip
Stage = Literal["pickup", "dropoff", "return"]
CustodyCode = Annotated[str, Field(pattern=r"^[0-9]{6}$", description="six digits, shown by who takes the goods")]


def _flag(value: object) -> object:
    """`true` or `false` and nothing like them."""
    if value not in ("true", "false"):
        raise ValueError("true or false is needed")
    return value


Flag = Annotated[bool, BeforeValidator(_flag)]


class PlannedLineIn(Body):
    """So much of a batch, in the batch's unit."""

    batch_id: UUID
    quantity: Count


class DeliveryIn(Body):
    """A new delivery."""

    receiving_place_id: UUID
    lines: Annotated[list[PlannedLineIn], Field(min_length=1, max_length=LINES_MAX)]
    dropoff_window: WindowIn | None = None
    request_id: UUID | None = None


class TakenIn(Body):
    """So much of a line."""

    line_id: UUID
    quantity: Count


class ClaimIn(Body):
    """What you take; without `lines` it is everything."""

    lines: Annotated[list[TakenIn], Field(min_length=1, max_length=LINES_MAX)] | None = None


class ReasonIn(Body):
    """Why."""

    reason: Reason


class PickedIn(Body):
    """What left of a line."""

    line_id: UUID
    picked: CountOrZero


class DroppedIn(Body):
    """What the receiver took and refused of a line."""

    line_id: UUID
    delivered: CountOrZero
    rejected: CountOrZero = 0


class LostLineIn(Body):
    """What is gone of a line."""

    line_id: UUID
    quantity: Count


PickedLines = Annotated[list[PickedIn], Field(min_length=1, max_length=LINES_MAX)]
DroppedLines = Annotated[list[DroppedIn], Field(min_length=1, max_length=LINES_MAX)]


class PickupIn(Body):
    """The volunteer's code, and what is handed over of every line."""

    code: CustodyCode
    lines: PickedLines
    temperature_dc: TemperatureDc | None = None


class DropoffIn(Body):
    """The receiver's code, and what became of everything in hand."""

    code: CustodyCode
    lines: DroppedLines
    temperature_dc: TemperatureDc | None = None
    reason: Reason = "rejected"


class ReturnIn(Body):
    """The provider's code, and whether the goods can still be offered."""

    code: CustodyCode
    usable: StrictBool = True


class RerouteIn(Body):
    """Where to instead."""

    place_id: UUID


class LostIn(Body):
    """What is gone, and why."""

    lines: Annotated[list[LostLineIn], Field(min_length=1, max_length=LINES_MAX)]
    reason: Reason


class ReassignIn(Body):
    """Who carries it from now on, and why."""

    volunteer_id: UUID
    reason: Reason


class OverridePickupIn(Body):
    """A pickup without a code."""

    stage: Literal["pickup"]
    lines: PickedLines
    temperature_dc: TemperatureDc | None = None
    reason: Reason


class OverrideDropoffIn(Body):
    """A drop-off without a code."""

    stage: Literal["dropoff"]
    lines: DroppedLines
    temperature_dc: TemperatureDc | None = None
    reason: Reason


class OverrideReturnIn(Body):
    """A return without a code."""

    stage: Literal["return"]
    usable: StrictBool = True
    reason: Reason


OverrideIn = Annotated[OverridePickupIn | OverrideDropoffIn | OverrideReturnIn, Field(discriminator="stage")]


class _OfLine(Protocol):
    @property
    def line_id(self) -> UUID: ...


L = TypeVar("L", bound=_OfLine)
V = TypeVar("V")


def by_line(lines: Sequence[L], value: Callable[[L], V]) -> dict[LineId, V]:
    """The lines' values by line; a line named twice cannot be meant."""
    found = {LineId(line.line_id): value(line) for line in lines}
    if len(found) < len(lines):
        raise Invalid("a line is named once", pointer="/lines")
    return found


def taken_of(body: ClaimIn | None) -> dict[LineId, int] | None:
    """What is taken, by line; None when it is everything."""
    return None if body is None or body.lines is None else by_line(body.lines, lambda line: line.quantity)


def picked_of(lines: Sequence[PickedIn]) -> dict[LineId, int]:
    """What left, by line."""
    return by_line(lines, lambda line: line.picked)


def dropped_of(lines: Sequence[DroppedIn]) -> dict[LineId, Dropped]:
    """What was taken and refused, by line."""
    return by_line(lines, lambda line: Dropped(delivered=line.delivered, rejected=line.rejected))


def lost_of(lines: Sequence[LostLineIn]) -> dict[LineId, int]:
    """What is gone, by line."""
    return by_line(lines, lambda line: line.quantity)
