"""What must hold before a need, a promise or an arrival is recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from chassis.kernel import Invalid

from resources.domain import refusals
from resources.domain.terms import LINES_MAX, QUANTITY_MAX, Line, LineId, Need, Reservation, UserId


def check_quantity(quantity: int) -> None:
    """A quantity is at least one and within what anybody can need."""
    if not 1 <= quantity <= QUANTITY_MAX:
        raise Invalid("quantity out of range", pointer="/lines")


def check_needs(lines: Collection[Need]) -> None:
    """One to a hundred lines, each once, each of a category or a GTIN, each of some quantity."""
    if not 1 <= len(lines) <= LINES_MAX:
        raise Invalid(f"a request has 1 to {LINES_MAX} lines", pointer="/lines")
    if len({line.line_id for line in lines}) < len(lines):
        raise Invalid("a line is named once", pointer="/lines")
    for line in lines:
        check_quantity(line.needed)
        if line.category is None and line.gtin is None:
            raise Invalid("a line names a category or a GTIN", pointer="/lines")


def check_ahead(needed_by_at: datetime | None, *, now: datetime) -> None:
    """What is needed by some time is needed in the future."""
    if needed_by_at is not None and needed_by_at <= now:
        raise Invalid("the time by which it is needed has passed", pointer="/needed_by_at")


def require_within(reservation: Reservation, arrived: Mapping[LineId, int]) -> None:
    """At most what was promised of every line, and something."""
    for line_id, quantity in arrived.items():
        if line_id not in reservation.quantities:
            raise refusals.LineNotFound(line_id=line_id)
        if not 0 <= quantity <= reservation.quantities[line_id]:
            raise refusals.ReceivedMoreThanReserved(line_id=line_id, reserved=reservation.quantities[line_id])
    if not any(arrived.values()):
        raise refusals.NothingReceived


def require_another(reservation: Reservation, person: UserId) -> None:
    """Whoever promised does not also take."""
    if person == reservation.reserved_by:
        raise refusals.SamePerson


def kind_of(need: Need | Line) -> tuple[str | None, str | None, str]:
    """What may not change once somebody promised it."""
    return need.category, need.gtin, need.unit
