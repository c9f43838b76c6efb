"""Dashboards, series, exports and the audit trail as callers see them, by plain select."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, cast
from uuid import UUID

from chassis.access import Principal
from chassis.database import Row, Transaction
from chassis.kernel import Forbidden, NotFound
from sqlalchemy import BigInteger, ColumnElement, Select, Table, and_, func, literal, null, or_, select, tuple_
from sqlalchemy import cast as sql_cast

from analytics.domain import (
    GroupBy,
    Interval,
    Metric,
    Period,
    Role,
    Source,
    bucket_of,
    largest,
    share,
    source_of,
)
from analytics.tables import AUDIT_EVENTS, BATCHES_SEEN, DAILY, DELIVERIES_SEEN, NEEDS, PLACES

_A, _B, _D, _N, _Q, _P = AUDIT_EVENTS.c, BATCHES_SEEN.c, DELIVERIES_SEEN.c, NEEDS.c, DAILY.c, PLACES.c
QUANTITIES = ("offered", "rescued", "delivered", "lost")
NEEDED = ("needed", "reserved", "received")
BATCH_MILESTONES = ("created", "ready", "closed", "cancelled", "expired", "recalled")
DELIVERY_MILESTONES = (
    "planned", "opened", "claimed", "picked_up", "completed", "cancelled", "expired", "failed", "returned", "discarded",
    "no_show",
)  # fmt: skip
_ENDED_OTHERWISE = ("returned", "discarded")  # after a partial delivery the delivery counts as completed only


class OrganizationNotFound(NotFound):
    """No such organization, or not for this caller."""

    slug = "organization-not-found"


class TimelineNotFound(NotFound):
    """Nothing happened to this, or nothing that this caller may see."""

    slug = "timeline-not-found"


class PlatformOnly(Forbidden):
    """Only coordinators and admins compare organizations."""

    slug = "coordinator-only"


@dataclass(frozen=True)
class Dashboard:
    """What a period came to; rows are already added up by their own unit."""

    batches: dict[str, int]
    deliveries: dict[str, Any]
    time_to_claim_s: dict[str, float | None]
    by_category: list[dict[str, Any]]
    as_of: datetime | None

    def by_unit(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The categories added up per unit; units without anything are left out."""
        totals: dict[str, dict[str, Any]] = {}
        for row in self.by_category:
            entry = totals.setdefault(row["unit"], {"unit": row["unit"], **dict.fromkeys(names, 0)})
            for name in names:
                entry[name] += row[name]
        return [totals[unit] for unit in sorted(totals) if any(totals[unit][name] for name in names)]


@dataclass(frozen=True)
class Series:
    """One line of a chart: a value per bucket; `unit` and `group` are None where they mean nothing."""

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
    """Totals of the platform are for everybody; those of an organization for its own people and keys, and coordinators."""
    if organization_id is None or principal.acts_for(organization_id) or principal.is_coordinator:
        return
    raise OrganizationNotFound


# -- dashboard ---------------------------------------------------------------------------------------------------------


async def dashboard(tx: Transaction, period: Period, organization_id: UUID | None) -> Dashboard:
    """Everything about a period, of one organization or of the platform."""
    deliveries = await _deliveries(tx, period, organization_id)
    return Dashboard(
        batches=await _batches(tx, period, organization_id),
        deliveries=_delivery_counts(deliveries),
        time_to_claim_s={"mean": _seconds(deliveries["claim_mean"]), "p50": _seconds(deliveries["claim_p50"])},
        by_category=await _categories(tx, period, organization_id),
        as_of=await tx.fetchval(select(func.max(_A.occurred_at))),
    )


def _delivery_counts(row: Row) -> dict[str, Any]:
    counts: dict[str, Any] = {name: row[name] for name in DELIVERY_MILESTONES}
    counts["on_time_rate"] = share(row["on_time"], row["timed"])
    counts["no_show_rate"] = share(row["no_show_claims"], row["claimed"])
    return counts


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(float(value), 3)


async def _batches(tx: Transaction, period: Period, organization_id: UUID | None) -> dict[str, int]:
    counts = [func.count().filter(_within(_B[f"{name}_at"], period)).label(name) for name in BATCH_MILESTONES]
    query = select(*counts).where(_alive(_B, period))
    if organization_id is not None:
        query = query.where(_B.organization_id == organization_id)
    return dict(cast(Row, await tx.fetchrow(query)))


async def _deliveries(tx: Transaction, period: Period, organization_id: UUID | None) -> Row:
    claimed, picked_up = _within(_D.claimed_at, period), _within(_D.picked_up_at, period)
    windows = select(func.min(_B.pickup_to)).where(_B.batch_id == func.any(_D.batch_ids)).scalar_subquery()
    wait_s = func.extract("epoch", _D.claimed_at - _D.opened_at)
    timely = select(
        DELIVERIES_SEEN, wait_s.label("wait_s"), _case_of(picked_up, windows).label("pickup_to")
    ).where(_alive(_D, period))
    if organization_id is not None:
        timely = timely.where(_D.organizations.contains([organization_id]))
    d = timely.subquery("d")
    counted = claimed_of(d, period) & (d.c.wait_s >= 0)
    query = select(
        *(func.count().filter(_milestone(d, name, period)).label(name) for name in DELIVERY_MILESTONES),
        func.count().filter(claimed_of(d, period), d.c.no_show_at.is_not(None)).label("no_show_claims"),
        func.count().filter(d.c.pickup_to.is_not(None)).label("timed"),
        func.count().filter(d.c.picked_up_at < d.c.pickup_to).label("on_time"),
        func.avg(d.c.wait_s).filter(counted).label("claim_mean"),
        func.percentile_cont(0.5).within_group(d.c.wait_s).filter(counted).label("claim_p50"),
    )
    return cast(Row, await tx.fetchrow(query))
