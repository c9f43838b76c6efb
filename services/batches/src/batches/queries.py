"""Batches as callers see them, by plain select."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from chassis.access import Principal
from chassis.database import Row, Transaction
from chassis.geo import EARTH_RADIUS_M, bounding_box
from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from batches.domain import BatchNotFound
from batches.tables import BATCHES, ORGANIZATIONS, PLACES

_B, _P = BATCHES.c, PLACES.c
_VISIBLE_ONE = """SELECT b.* FROM batches b WHERE b.id = $1 AND (b.organization_id = ANY($2::uuid[]) OR $3 OR (b.status = 'ready'
    AND EXISTS (SELECT 1 FROM access_organizations o WHERE o.organization_id = b.organization_id AND o.status = 'verified')))"""


@dataclass(frozen=True)
class Filter:
    """What a list is narrowed to; `near` is (lat, lon) with `radius_m`."""

    status: Sequence[str] = ()
    category: Sequence[str] = ()
    organization_id: UUID | None = None
    near: tuple[float, float] | None = None
    radius_m: int = 10_000


async def one(tx: Transaction, principal: Principal, batch_id: UUID) -> Row:
    """A batch that the caller may see."""
    row = await tx.fetchrow(_VISIBLE_ONE, batch_id, list(principal.memberships), principal.is_coordinator)
    if row is None:
        raise BatchNotFound
    return row


async def many(tx: Transaction, principal: Principal, wanted: Filter, *, limit: int, before: UUID | None) -> list[Row]:
    """The newest batches first that the caller may see; one more than `limit` when there are more."""
    query = select(BATCHES).order_by(_B.id.desc()).limit(limit + 1)
    if not principal.is_coordinator:
        query = query.where(_visible(principal))
    if wanted.status:
        query = query.where(_B.status.in_(wanted.status))
    if wanted.category:
        query = query.where(_B.category.in_(wanted.category))
    if wanted.organization_id is not None:
        query = query.where(_B.organization_id == wanted.organization_id)
    if before is not None:
        query = query.where(_B.id < before)
    return await tx.fetch(_near(query, wanted))


def _visible(principal: Principal):  # type: ignore[no-untyped-def]  # a SQL expression
    verified = select(ORGANIZATIONS.c.organization_id).where(
        ORGANIZATIONS.c.organization_id == _B.organization_id, ORGANIZATIONS.c.status == "verified"
    )
    return or_(_B.organization_id.in_(list(principal.memberships)), and_(_B.status == "ready", verified.exists()))


def _near(query: Select, wanted: Filter) -> Select:  # type: ignore[type-arg]
    if wanted.near is None:
        return query
    lat, lon = wanted.near
    lat_min, lat_max, lon_min, lon_max = bounding_box(lat, lon, wanted.radius_m)
    half: ColumnElement[float] = func.power(func.sin(func.radians(_P.lat - lat) / 2), 2)
    half += (
        func.cos(func.radians(lat))
        * func.cos(func.radians(_P.lat))
        * func.power(func.sin(func.radians(_P.lon - lon) / 2), 2)
    )
    distance_m = 2 * EARTH_RADIUS_M * func.asin(func.least(1, func.sqrt(half)))
    return query.join(PLACES, _P.place_id == _B.place_id).where(
        _P.lat.between(lat_min, lat_max), _P.lon.between(lon_min, lon_max), distance_m <= wanted.radius_m
    )
