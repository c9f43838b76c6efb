"""What is measured and how it is added up: pure definitions, told the time, knowing nothing of storage.

Days are UTC dates. Quantities are whole numbers in their own unit and are never added across units.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any, Literal, get_args
from uuid import UUID

from chassis.kernel import Invalid

POINTS_MAX = 366  # a year by day, leap years included: what a chart can show
SERIES_MAX = 50  # more lines than this nobody can tell apart
PERIOD_DAYS = 30  # what is shown when no dates are given
PERIOD_DAYS_MAX = 3_660  # ten years: bounds what one dashboard or export adds up
DAY_MIN, DAY_MAX = date(1970, 1, 1), date(9998, 12, 31)

Interval = Literal["day", "week", "month"]
GroupBy = Literal["unit", "category", "city", "organization"]
QuantityMetric = Literal["offered", "rescued", "delivered", "lost"]
NeedMetric = Literal["needed", "reserved", "received"]
BatchMetric = Literal[
    "batches_created", "batches_ready", "batches_closed", "batches_cancelled", "batches_expired", "batches_recalled",
]  # fmt: skip
DeliveryMetric = Literal[
    "deliveries_planned", "deliveries_opened", "deliveries_claimed", "deliveries_picked_up", "deliveries_completed",
    "deliveries_cancelled", "deliveries_expired", "deliveries_failed", "deliveries_returned", "deliveries_discarded",
    "deliveries_no_show",
]  # fmt: skip
ClaimMetric = Literal["time_to_claim_s"]
Metric = QuantityMetric | NeedMetric | BatchMetric | DeliveryMetric | ClaimMetric


class PeriodInvalid(Invalid):
    """`from` is after `to`, or out of the calendar."""

    slug = "period-invalid"


class PeriodTooLong(Invalid):
    """More days or points than one answer holds."""

    slug = "period-too-long"


class GroupNotPossible(Invalid):
    """The metric is not known by this."""

    slug = "group-not-possible"


class Source(StrEnum):
    """Where a metric is counted."""

    QUANTITIES = "quantities"
    NEEDS = "needs"
    BATCHES = "batches"
    DELIVERIES = "deliveries"
    CLAIMS = "claims"


class Role(StrEnum):
    """As what an organization takes part: each thing has one giver, so the givers' sum is the platform's total."""

    GIVER = "giver"
    RECEIVER = "receiver"


SOURCES: dict[str, Source] = {
    name: source
    for source, names in (
        (Source.QUANTITIES, QuantityMetric),
        (Source.NEEDS, NeedMetric),
        (Source.BATCHES, BatchMetric),
        (Source.DELIVERIES, DeliveryMetric),
        (Source.CLAIMS, ClaimMetric),
    )
    for name in get_args(names)
}
GROUPS: dict[Source, frozenset[str]] = {
    Source.QUANTITIES: frozenset({"unit", "category", "city", "organization"}),
    Source.NEEDS: frozenset({"unit", "category", "city", "organization"}),
    Source.BATCHES: frozenset({"unit", "category", "city", "organization"}),
    Source.DELIVERIES: frozenset({"city"}),  # a delivery may be of several categories, units and givers
    Source.CLAIMS: frozenset({"city"}),
}


def source_of(metric: str, group_by: str | None) -> Source:
    """Where the metric is counted; raises `GroupNotPossible` when it is not known by `group_by`."""
    source = SOURCES[metric]
    if group_by is not None and group_by not in GROUPS[source]:
        possible = ", ".join(sorted(GROUPS[source]))
        raise GroupNotPossible(f"{metric} can be grouped by {possible}", pointer="query:group_by")
    return source


def day_of(moment: datetime) -> date:
    """The UTC date of a moment: 23:59:59.999999 belongs to the day that ends, 00:00 to the one that begins."""
    return moment.astimezone(UTC).date()


@dataclass(frozen=True, slots=True)
class Period:
    """Whole UTC days, both ends included."""

    first: date
    last: date

    @classmethod
    def of(cls, first: date | None, last: date | None, *, today: date) -> Period:
        """The period asked for: up to today unless told otherwise, 30 days long unless told otherwise."""
        if last is None:
            last = today if first is None else max(today, first)
        if first is None:
            first = max(DAY_MIN, last - timedelta(days=PERIOD_DAYS - 1))
        if not DAY_MIN <= first <= last <= DAY_MAX:
            raise PeriodInvalid(
                f"from may not be after to, and both lie in {DAY_MIN} to {DAY_MAX}", pointer="query:from"
            )
        if (last - first).days >= PERIOD_DAYS_MAX:
            raise PeriodTooLong(f"at most {PERIOD_DAYS_MAX} days", pointer="query:from")
        return cls(first, last)

    @property
    def from_at(self) -> datetime:
        """The first moment inside."""
        return datetime.combine(self.first, time(), UTC)

    @property
    def to_at(self) -> datetime:
        """The first moment after."""
        return datetime.combine(self.last + timedelta(days=1), time(), UTC)

    def buckets(self, interval: Interval) -> list[date]:
        """The first days of the days, ISO weeks or months that the period touches; at most `POINTS_MAX`."""
        found, day = [], bucket_of(self.first, interval)
        while day <= self.last:
            found.append(day)
            if len(found) > POINTS_MAX:
                raise PeriodTooLong(f"at most {POINTS_MAX} points; take a longer interval", pointer="query:from")
            day = _next(day, interval)
        return found


def bucket_of(day: date, interval: Interval) -> date:
    """The first day of the day's interval; weeks start on Monday."""
    if interval == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if interval == "month" else day


def _next(day: date, interval: Interval) -> date:
    if interval == "month":
        return (day + timedelta(days=31)).replace(day=1)
    return day + timedelta(days=7 if interval == "week" else 1)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One event as the audit trail keeps it."""

    event_id: UUID
    occurred_at: datetime
    type: str
    subject: UUID
    version: int
    actor_id: str | None
    organization_id: UUID | None
    parties: Sequence[UUID]
    correlation_id: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NeedLine:
    """A line of a request's snapshot."""

    line_id: UUID
    category: str
    unit: str
    needed: int
    reserved: int
    received: int


@dataclass(frozen=True, slots=True)
class Movement:
    """What one event adds to one row of the daily table."""

    day: date
    organization_id: UUID
    role: Role
    place_id: UUID
    category: str
    unit: str
    offered: int = 0
    rescued: int = 0
    delivered: int = 0

    @property
    def key(self) -> tuple[date, UUID, Role, UUID, str, str]:
        """The row it belongs to."""
        return self.day, self.organization_id, self.role, self.place_id, self.category, self.unit


@dataclass(frozen=True, slots=True)
class Carried:
    """A quantity of one giver's goods that a delivery carries."""

    organization_id: UUID
    category: str
    unit: str
    quantity: int


def rescued(at: datetime, *, place_id: UUID, receiver_id: UUID, lines: Iterable[Carried]) -> list[Movement]:
    """What was fetched, counted at the place of pickup."""
    return add_up(replace(part, rescued=quantity) for part, quantity in _shares(at, place_id, receiver_id, lines))


def delivered(at: datetime, *, place_id: UUID, receiver_id: UUID, lines: Iterable[Carried]) -> list[Movement]:
    """What was handed over, counted at the receiving place."""
    return add_up(replace(part, delivered=quantity) for part, quantity in _shares(at, place_id, receiver_id, lines))


def _shares(
    at: datetime, place_id: UUID, receiver_id: UUID, lines: Iterable[Carried]
) -> Iterable[tuple[Movement, int]]:
    """Each line for its giver, and for the receiver when that is somebody else."""
    for line in lines:
        if not line.quantity:
            continue
        given = Movement(day_of(at), line.organization_id, Role.GIVER, place_id, line.category, line.unit)
        yield given, line.quantity
        if receiver_id != line.organization_id:
            yield replace(given, organization_id=receiver_id, role=Role.RECEIVER), line.quantity


def add_up(movements: Iterable[Movement]) -> list[Movement]:
    """One movement per row, in a fixed order."""
    rows: dict[tuple[date, UUID, Role, UUID, str, str], Movement] = {}
    for each in movements:
        sofar = rows.get(each.key)
        rows[each.key] = each if sofar is None else _plus(sofar, each)
    return [rows[key] for key in sorted(rows)]


def _plus(one: Movement, other: Movement) -> Movement:
    return replace(
        one,
        offered=one.offered + other.offered,
        rescued=one.rescued + other.rescued,
        delivered=one.delivered + other.delivered,
    )


def share(part: int, whole: int) -> float | None:
    """A rate between 0 and 1 to four places, or None when there is nothing to take it of."""
    return round(part / whole, 4) if whole else None


def largest(totals: Collection[tuple[int | float, int]]) -> list[int]:
    """The indexes of the `SERIES_MAX` series with the largest totals, in their given order."""
    kept = sorted(totals, key=lambda entry: (-entry[0], entry[1]))[:SERIES_MAX]
    return sorted(index for _, index in kept)
