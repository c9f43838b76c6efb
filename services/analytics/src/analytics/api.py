"""The public routes of analytics: parse, one call, shape."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from chassis.access import Principal
from chassis.database import Row
from chassis.pagination import Page, PageAsked
from chassis.routing import Admin, Now, Tx, api_router, require
from chassis.wire import UtcMoment, View
from contracts.values import Category, Unit
from fastapi import Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from analytics import queries
from analytics.domain import GroupBy, Interval, Metric, Period, day_of

router = api_router("analytics")

Reader = Annotated[Principal, require("analytics:read")]
TYPES_MAX = 20  # more types than this in one filter are better asked for by prefix
EXPORT_COLUMNS = ("day", "ibge_city", "category", "unit", *queries.QUANTITIES)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def _day(value: Any) -> Any:
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError("a date such as 2026-03-10 is needed")
    return date.fromisoformat(value)


Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
TypeFilter = Annotated[str, StringConstraints(max_length=120, pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*)?$")]


async def _period(
    now: Now,
    first: Annotated[Day | None, Query(alias="from", description="first day (UTC)")] = None,
    last: Annotated[Day | None, Query(alias="to", description="last day (UTC), included; today unless given")] = None,
) -> Period:
    return Period.of(first, last, today=day_of(now))


PeriodAsked = Annotated[Period, Depends(_period)]


class BatchCounts(View):
    """How many batches reached each milestone in the period."""

    created: int
    ready: int
    closed: int
    cancelled: int
    expired: int
    recalled: int


class DeliveryCounts(View):
    """How many deliveries reached each milestone in the period; rates are shares between 0 and 1, null without a basis.

    On time means fetched within the pickup windows; the no-show rate is of the deliveries claimed in the period.
    """

    planned: int
    opened: int
    claimed: int
    picked_up: int
    completed: int
    cancelled: int
    expired: int
    failed: int
    returned: int
    discarded: int
    no_show: int
    on_time_rate: float | None
    no_show_rate: float | None


class QuantityOut(View):
    """Goods in one unit."""

    unit: Unit
    offered: int
    rescued: int
    delivered: int
    lost: int


class NeedOut(View):
    """Needs opened in the period, in one unit, as they are covered now."""

    unit: Unit
    needed: int
    reserved: int
    received: int


class CategoryOut(View):
    """Goods and needs of one category in one unit."""

    category: Category
    unit: Unit
    offered: int
    rescued: int
    delivered: int
    lost: int
    needed: int
    reserved: int
    received: int


class TimeToClaim(View):
    """From open to first claimed, in seconds; null when nothing was claimed."""

    mean: float | None
    p50: float | None


class PeriodView(View):
    """An answer about a period, of one organization or (null) of the platform."""

    from_: date = Field(serialization_alias="from")
    to: date
    organization_id: UUID | None


class DashboardOut(PeriodView):
    """What a period came to; `as_of` is the time of the newest event counted."""

    batches: BatchCounts
    quantities: list[QuantityOut]
    deliveries: DeliveryCounts
    needs: list[NeedOut]
    time_to_claim_s: TimeToClaim
    by_category: list[CategoryOut]
    as_of: UtcMoment | None


class PointOut(View):
    """A value in the interval that begins on `day`."""

    day: date
    value: int | float | None


class SeriesOut(View):
    """One line of the chart."""

    unit: Unit | None
    group: str | None
    points: list[PointOut]


class TimeseriesOut(PeriodView):
    """A metric over time; `omitted` counts smaller series that are left out."""

    metric: Metric
    interval: Interval
    group_by: GroupBy | None
    series: list[SeriesOut]
    omitted: int


class AuditEventOut(View):
    """What happened: who, what, when."""

    event_id: UUID
    occurred_at: UtcMoment
    type: str
    subject: UUID
    version: int
    actor_id: str | None
    organization_id: UUID | None
    parties: list[UUID]
    correlation_id: str
    data: dict[str, Any]


class EventsCounted(View):
    """Distinct events taken in since the beginning."""

    total: int
    by_type: dict[str, int]


@router.get("/v1/analytics/dashboard", operation_id="get_dashboard")
async def get_dashboard(
    tx: Tx, principal: Reader, period: PeriodAsked, organization_id: UUID | None = None
) -> DashboardOut:
    """Totals of a period: of one of your organizations, or of the whole platform."""
    found = await queries.dashboard(tx, principal, period, organization_id)
    return DashboardOut(
        from_=period.first,
        to=period.last,
        organization_id=organization_id,
        batches=BatchCounts(**found.batches),
        quantities=[QuantityOut(**row) for row in found.by_unit(queries.QUANTITIES)],
        deliveries=DeliveryCounts(**found.deliveries),
        needs=[NeedOut(**row) for row in found.by_unit(queries.NEEDED)],
        time_to_claim_s=TimeToClaim(**found.time_to_claim_s),
        by_category=[CategoryOut(**row) for row in found.by_category],
        as_of=found.as_of,
    )


@router.get("/v1/analytics/timeseries", operation_id="get_timeseries")
async def get_timeseries(
    tx: Tx,
    principal: Reader,
    period: PeriodAsked,
    metric: Metric,
    group_by: GroupBy | None = None,
    interval: Interval = "day",
    organization_id: UUID | None = None,
) -> TimeseriesOut:
    """A metric by day, week or month: one series per unit and group."""
    series, omitted = await queries.timeseries(
        tx, principal, period, organization_id, metric=metric, group_by=group_by, interval=interval
    )
    days = period.buckets(interval)
    return TimeseriesOut(
        from_=period.first,
        to=period.last,
        organization_id=organization_id,
        metric=metric,
        interval=interval,
        group_by=group_by,
        series=[_series(each, days) for each in series],
        omitted=omitted,
    )


def _series(series: queries.Series, days: list[date]) -> SeriesOut:
    points = [PointOut(day=day, value=value) for day, value in zip(days, series.values, strict=True)]
    return SeriesOut.model_validate({"unit": series.unit, "group": series.group, "points": points})


@router.get(
    "/v1/analytics/export",
    operation_id="export_analytics",
    response_class=StreamingResponse,
    responses={200: {"description": "CSV", "content": {"text/csv": {"schema": {"type": "string"}}}}},
)
async def export_analytics(
    tx: Tx, principal: Reader, period: PeriodAsked, organization_id: UUID | None = None
) -> StreamingResponse:
    """The daily table as CSV: a row per day, city, category and unit."""
    days = await queries.export_days(tx, principal, period, organization_id)
    name = f"vouajudar-{period.first}-{period.last}.csv"
    return StreamingResponse(
        _csv(queries.export(tx, days, organization_id)),
        media_type="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


async def _csv(pages: AsyncIterator[list[Row]]) -> AsyncIterator[str]:
    yield ",".join(EXPORT_COLUMNS) + "\r\n"
    async for rows in pages:
        text = io.StringIO()
        csv.writer(text).writerows([row[name] for name in EXPORT_COLUMNS] for row in rows)
        yield text.getvalue()


@router.get("/v1/audit-events", operation_id="list_audit_events")
async def list_audit_events(
    tx: Tx,
    paging: PageAsked,
    principal: Reader,
    actor_id: UUID | None = None,
    subject: UUID | None = None,
    type: Annotated[list[TypeFilter], Query(max_length=TYPES_MAX)] = [],  # noqa: A002, B006 - the wire's name; FastAPI copies
    from_at: Annotated[UtcMoment | None, Query(alias="from")] = None,
    to_at: Annotated[UtcMoment | None, Query(alias="to")] = None,
) -> Page[AuditEventOut]:
    """What happened, newest first: everything for admins, else what concerns your organizations."""
    wanted = queries.AuditFilter(actor_id, subject, type, from_at, to_at)
    before = (datetime.fromisoformat(paging.position[0]), UUID(paging.position[1])) if paging.position else None
    rows = await queries.audit_events(tx, principal, wanted, limit=paging.limit, before=before)
    return paging.page(
        [AuditEventOut.model_validate(dict(row)) for row in rows],
        [[row["occurred_at"].isoformat(), row["event_id"]] for row in rows],
    )


@router.get("/v1/audit-events/counts", operation_id="count_audit_events")
async def count_audit_events(tx: Tx, admin: Admin) -> EventsCounted:
    """How many distinct events of each type were taken in (admins only)."""
    counted = await queries.events_counted(tx)
    return EventsCounted(total=sum(counted.values()), by_type=counted)


@router.get("/v1/timeline/{subject}", operation_id="get_timeline")
async def get_timeline(subject: UUID, tx: Tx, paging: PageAsked, principal: Reader) -> Page[AuditEventOut]:
    """What happened to one thing, oldest first, as far as it concerns your organizations."""
    after = (int(paging.position[0]), UUID(paging.position[1])) if paging.position else None
    rows = await queries.timeline(tx, principal, subject, limit=paging.limit, after=after)
    return paging.page(
        [AuditEventOut.model_validate(dict(row)) for row in rows], [[row["version"], row["event_id"]] for row in rows]
    )
