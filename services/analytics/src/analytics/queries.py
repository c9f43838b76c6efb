"""Dashboards, series, exports and the audit trail as callers see them, by plain select."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, cast
from uuid import UUID

from chassis.access import Principal
from chassis.database import Row, Transaction
from chassis.kernel import Forbidden, NotFound
from sqlalchemy import Select, func, or_, select, tuple_
from sqlalchemy.sql import ColumnElement

from analytics.domain import GroupBy, Interval, Period, Source, largest, share, source_of
from analytics.tables import AUDIT_EVENTS

QUANTITIES = ("offered", "rescued", "delivered", "lost")
NEEDED = ("needed", "reserved", "received")
BATCH_MILESTONES = ("created", "ready", "closed", "cancelled", "expired", "recalled")
DELIVERY_MILESTONES = (
    "planned", "opened", "claimed", "picked_up", "completed", "cancelled", "expired", "failed", "returned", "discarded",
    "no_show",
)  # fmt: skip
_A = AUDIT_EVENTS.c

# $1 and $2 are the period's moments, half-open. A row is looked at when anything about it happened inside.
_BATCHES = f"""SELECT
    {", ".join(f"count(*) FILTER (WHERE {name}_at >= $1 AND {name}_at < $2) AS {name}" for name in BATCH_MILESTONES)}
FROM batches_seen WHERE last_at >= $1 AND first_at < $2"""

# On time: fetched before the pickup windows of all its batches ended. After a partial delivery the rest may be returned
# or discarded; such a delivery counts as completed only.
_DELIVERIES = f"""SELECT
    {
    ", ".join(
        f"count(*) FILTER (WHERE {name}_at >= $1 AND {name}_at < $2) AS {name}"
        for name in DELIVERY_MILESTONES
        if name not in ("returned", "discarded")
    )
},
    count(*) FILTER (WHERE returned_at >= $1 AND returned_at < $2 AND completed_at IS NULL) AS returned,
    count(*) FILTER (WHERE discarded_at >= $1 AND discarded_at < $2 AND completed_at IS NULL) AS discarded,
    count(*) FILTER (WHERE claimed_at >= $1 AND claimed_at < $2 AND no_show_at IS NOT NULL) AS no_show_claims,
    count(pickup_to) AS timed, count(*) FILTER (WHERE picked_up_at < pickup_to) AS on_time,
    avg(wait_s)::float8 AS claim_mean, percentile_cont(0.5) WITHIN GROUP (ORDER BY wait_s) AS claim_p50
FROM (SELECT *,
        CASE WHEN claimed_at >= $1 AND claimed_at < $2 AND claimed_at >= opened_at
            THEN extract(epoch FROM claimed_at - opened_at)::float8 END AS wait_s,
        CASE WHEN picked_up_at >= $1 AND picked_up_at < $2
            THEN (SELECT min(b.pickup_to) FROM batches_seen b WHERE b.batch_id = ANY(s.batch_ids)) END AS pickup_to
    FROM deliveries_seen s WHERE last_at >= $1 AND first_at < $2{{scope}}) AS d"""

# $1 and $2 are the period's days, both included.
_CATEGORIES = """SELECT category, unit, sum(offered)::bigint AS offered, sum(rescued)::bigint AS rescued,
    sum(delivered)::bigint AS delivered, sum(lost)::bigint AS lost, sum(needed)::bigint AS needed,
    sum(reserved)::bigint AS reserved, sum(received)::bigint AS received
FROM (
    SELECT category, unit, offered, rescued, delivered, lost, 0 AS needed, 0 AS reserved, 0 AS received
    FROM daily WHERE day BETWEEN $1 AND $2 AND {daily_scope}
    UNION ALL
    SELECT category, unit, 0, 0, 0, 0, needed, reserved, received
    FROM needs WHERE opened_at >= $3 AND opened_at < $4{needs_scope}) AS x
GROUP BY category, unit ORDER BY category, unit"""

_EXPORT_DAYS = "SELECT DISTINCT d.day FROM daily d WHERE d.day BETWEEN $1 AND $2 AND {scope} ORDER BY d.day"
_EXPORT_DAY = """SELECT d.day, p.ibge_city, d.category, d.unit, sum(d.offered)::bigint AS offered,
    sum(d.rescued)::bigint AS rescued, sum(d.delivered)::bigint AS delivered, sum(d.lost)::bigint AS lost
FROM daily d LEFT JOIN access_places p ON p.place_id = d.place_id WHERE d.day = $1 AND {scope}
GROUP BY d.day, p.ibge_city, d.category, d.unit
HAVING sum(d.offered + d.rescued + d.delivered + d.lost) > 0 ORDER BY p.ibge_city, d.category, d.unit"""


class OrganizationNotFound(NotFound):
    """No such organization, or not for this caller."""

    slug = "organization-not-found"


class TimelineNotFound(NotFound):
    """Nothing happened to this, or nothing that this caller may see."""

    slug = "timeline-not-found"


class CoordinatorOnly(Forbidden):
    """Organizations are compared by coordinators and admins only."""

    slug = "coordinator-only"


@dataclass(frozen=True)
class Dashboard:
    """What a period came to."""

    batches: dict[str, int]
    deliveries: dict[str, Any]
    time_to_claim_s: dict[str, float | None]
    by_category: list[dict[str, Any]]
    as_of: datetime | None

    def by_unit(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The categories added up, each unit for itself; a unit without anything is left out."""
        totals: dict[str, dict[str, Any]] = {}
        for row in self.by_category:
            entry = totals.setdefault(row["unit"], {"unit": row["unit"], **dict.fromkeys(names, 0)})
            for name in names:
                entry[name] += row[name]
        return [totals[unit] for unit in sorted(totals) if any(totals[unit][name] for name in names)]


@dataclass(frozen=True)
class Series:
    """One line of a chart, a value per bucket; `unit` and `group` are None where they mean nothing."""

    unit: str | None
    group: str | None
    values: list[int | float | None]


@dataclass(frozen=True)
class AuditFilter:
    """What the audit trail is narrowed to; `types` are whole types or prefixes ending in `.*`."""

    actor_id: UUID | None = None
    subject: UUID | None = None
    types: Sequence[str] = ()
    from_at: datetime | None = None
    to_at: datetime | None = None


def require_visible(principal: Principal, organization_id: UUID | None) -> None:
    """The platform's totals are for everybody, an organization's for its own people and keys and for coordinators."""
    if organization_id is None or principal.acts_for(organization_id) or principal.is_coordinator:
        return
    raise OrganizationNotFound


# -- dashboard ---------------------------------------------------------------------------------------------------------


async def dashboard(tx: Transaction, principal: Principal, period: Period, organization_id: UUID | None) -> Dashboard:
    """Everything about a period, of one organization or of the platform."""
    require_visible(principal, organization_id)
    moments, own = (period.from_at, period.to_at), () if organization_id is None else (organization_id,)
    batches = await tx.fetchrow(_BATCHES + (" AND organization_id = $3" if own else ""), *moments, *own)
    scope = " AND organizations @> ARRAY[$3::uuid]" if own else ""
    deliveries = cast("Row", await tx.fetchrow(_DELIVERIES.format(scope=scope), *moments, *own))
    categories = _CATEGORIES.format(
        daily_scope="organization_id = $5" if own else "role = 'giver'",
        needs_scope=" AND organization_id = $5" if own else "",
    )
    rows = await tx.fetch(categories, period.first, period.last, *moments, *own)
    return Dashboard(
        batches=dict(cast("Row", batches)),
        deliveries=_delivery_counts(deliveries),
        time_to_claim_s={"mean": _seconds(deliveries["claim_mean"]), "p50": _seconds(deliveries["claim_p50"])},
        by_category=[dict(row) for row in rows if any(row[name] for name in (*QUANTITIES, *NEEDED))],
        as_of=await tx.fetchval("SELECT max(occurred_at) FROM audit_events"),
    )


def _delivery_counts(row: Row) -> dict[str, Any]:
    counts: dict[str, Any] = {name: row[name] for name in DELIVERY_MILESTONES}
    counts["on_time_rate"] = share(row["on_time"], row["timed"])
    counts["no_show_rate"] = share(row["no_show_claims"], row["claimed"])
    return counts


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


# -- series ------------------------------------------------------------------------------------------------------------


async def timeseries(
    tx: Transaction, principal: Principal, period: Period, organization_id: UUID | None, *, metric: str,
    group_by: GroupBy | None, interval: Interval,
) -> tuple[list[Series], int]:  # fmt: skip
    """The largest series of a metric, one per unit and group, and how many smaller ones are left out."""
    require_visible(principal, organization_id)
    if group_by == "organization" and organization_id is None and not principal.is_coordinator:
        raise CoordinatorOnly("only coordinators compare organizations")
    source, buckets = source_of(metric, group_by), period.buckets(interval)
    span = (period.first, period.last) if source is Source.QUANTITIES else (period.from_at, period.to_at)
    own = () if organization_id is None else (organization_id,)
    rows = await tx.fetch(_series_sql(source, metric, group_by, interval, own=bool(own)), *span, *own)
    return _series(rows, buckets, empty=None if source is Source.CLAIMS else 0)


def _series(rows: Sequence[Row], buckets: Sequence[date], *, empty: int | None) -> tuple[list[Series], int]:
    found: dict[tuple[str, str], dict[date, Any]] = {}
    for row in rows:
        found.setdefault((row["unit"] or "", row["part"] or ""), {})[row["bucket"]] = row["value"]
    keys = sorted(found)
    kept = largest([(sum(found[key].values()), index) for index, key in enumerate(keys)])
    series = [
        Series(keys[n][0] or None, keys[n][1] or None, [found[keys[n]].get(bucket, empty) for bucket in buckets])
        for n in kept
    ]
    return series, len(keys) - len(series)


def _series_sql(source: Source, metric: str, group_by: GroupBy | None, interval: Interval, *, own: bool) -> str:
    table, day, value, condition = _measured(source, metric)
    unit = "t.unit" if source in (Source.QUANTITIES, Source.NEEDS) or group_by == "unit" else "NULL"
    part, join = _PARTS[group_by], ""
    if group_by == "city":
        place = "pickup_place_id" if table == "deliveries_seen" else "place_id"
        join = f" LEFT JOIN access_places p ON p.place_id = t.{place}"
    if own:
        condition += " AND " + (
            "t.organizations @> ARRAY[$3::uuid]" if table == "deliveries_seen" else "t.organization_id = $3"
        )
    elif source is Source.QUANTITIES:
        condition += " AND t.role = 'giver'"
    return (
        f"SELECT date_trunc('{interval}', {day})::date AS bucket, {unit} AS unit, {part} AS part, {value} AS value"
        f" FROM {table} t{join} WHERE {condition} GROUP BY 1, 2, 3 HAVING {value} > 0"
    )


_PARTS: dict[str | None, str] = {
    None: "NULL", "unit": "NULL", "category": "t.category", "city": "p.ibge_city", "organization": "t.organization_id::text",
}  # fmt: skip


def _measured(source: Source, metric: str) -> tuple[str, str, str, str]:
    """Where a metric is: table, time, value, and which rows count."""
    if source is Source.QUANTITIES:
        return "daily", "t.day::timestamp", f"sum(t.{metric})::bigint", "t.day BETWEEN $1 AND $2"
    if source is Source.NEEDS:
        return "needs", "t.day::timestamp", f"sum(t.{metric})::bigint", "t.opened_at >= $1 AND t.opened_at < $2"
    table = "batches_seen" if source is Source.BATCHES else "deliveries_seen"
    moment = "claimed_at" if source is Source.CLAIMS else f"{metric.partition('_')[2]}_at"
    value, condition = "count(*)", f"t.last_at >= $1 AND t.first_at < $2 AND t.{moment} >= $1 AND t.{moment} < $2"
    if source is Source.CLAIMS:
        value = "round(avg(extract(epoch FROM t.claimed_at - t.opened_at)), 3)::float8"
        condition += " AND t.claimed_at >= t.opened_at"
    if metric in ("deliveries_returned", "deliveries_discarded"):
        condition += " AND t.completed_at IS NULL"
    return table, f"t.{moment} AT TIME ZONE 'UTC'", value, condition


# -- export ------------------------------------------------------------------------------------------------------------


async def export_days(
    tx: Transaction, principal: Principal, period: Period, organization_id: UUID | None
) -> list[date]:
    """The days that have rows."""
    require_visible(principal, organization_id)
    scope, own = _daily_scope(organization_id, 3)
    rows = await tx.fetch(_EXPORT_DAYS.format(scope=scope), period.first, period.last, *own)
    return [row["day"] for row in rows]


async def export(tx: Transaction, days: Sequence[date], organization_id: UUID | None) -> AsyncIterator[list[Row]]:
    """The daily table day by day, so that no more than a day is in memory and no transaction waits for the reader."""
    scope, own = _daily_scope(organization_id, 2)
    for day in days:
        yield await tx.fetch(_EXPORT_DAY.format(scope=scope), day, *own)


def _daily_scope(organization_id: UUID | None, number: int) -> tuple[str, tuple[UUID, ...]]:
    if organization_id is None:
        return "d.role = 'giver'", ()
    return f"d.organization_id = ${number}", (organization_id,)


# -- audit trail -------------------------------------------------------------------------------------------------------


async def audit_events(
    tx: Transaction, principal: Principal, wanted: AuditFilter, *, limit: int, before: tuple[datetime, UUID] | None
) -> list[Row]:
    """The newest events first that the caller may see; one more than `limit` when there are more."""
    query = (
        _visible(select(AUDIT_EVENTS), principal).order_by(_A.occurred_at.desc(), _A.event_id.desc()).limit(limit + 1)
    )
    if wanted.actor_id is not None:
        query = query.where(_A.actor_id == str(wanted.actor_id))
    if wanted.subject is not None:
        query = query.where(_A.subject == wanted.subject)
    if wanted.types:
        query = query.where(or_(*(_of_type(kind) for kind in wanted.types)))
    if wanted.from_at is not None:
        query = query.where(_A.occurred_at >= wanted.from_at)
    if wanted.to_at is not None:
        query = query.where(_A.occurred_at < wanted.to_at)
    if before is not None:
        query = query.where(tuple_(_A.occurred_at, _A.event_id) < tuple_(*before))
    return await tx.fetch(query)


async def timeline(
    tx: Transaction, principal: Principal, subject: UUID, *, limit: int, after: tuple[int, UUID] | None
) -> list[Row]:
    """What happened to one thing, oldest first; one more than `limit` when there is more, `TimelineNotFound` for nothing."""
    query = _visible(select(AUDIT_EVENTS), principal).where(_A.subject == subject)
    query = query.order_by(_A.version, _A.event_id).limit(limit + 1)
    if after is not None:
        query = query.where(tuple_(_A.version, _A.event_id) > tuple_(*after))
    rows = await tx.fetch(query)
    if not rows and after is None:
        raise TimelineNotFound
    return rows


async def events_counted(tx: Transaction) -> dict[str, int]:
    """How many distinct events of each type were taken in: what the producers' event stores must agree with."""
    rows = await tx.fetch("SELECT type, count(*) AS events FROM audit_events GROUP BY type ORDER BY type")
    return {row["type"]: row["events"] for row in rows}


def _visible(query: Select[Any], principal: Principal) -> Select[Any]:
    """Admins see everything, everybody else what concerns their organizations."""
    return query if principal.is_admin else query.where(_A.parties.overlap(list(principal.memberships)))


def _of_type(kind: str) -> ColumnElement[bool]:
    return func.starts_with(_A.type, kind[:-1]) if kind.endswith(".*") else _A.type == kind
