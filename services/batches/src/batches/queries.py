"""Batches as callers see them, by plain select."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from chassis.access import Principal
from chassis.database import Prepared, Row, Transaction, prepare
from chassis.geo import EARTH_RADIUS_M, bounding_box
from sqlalchemy import UUID as UUID_
from sqlalchemy import ColumnElement, Integer, Select, Text, and_, any_, bindparam, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION

from batches.domain import BatchNotFound
from batches.tables import BATCHES, ORGANIZATIONS, PLACES

_B, _P = BATCHES.c, PLACES.c
_SHOWN = [column for column in BATCHES.columns if column.name != "state"]
_VISIBLE_ONE = f"""SELECT {", ".join(f"b.{column.name}" for column in _SHOWN)} FROM batches b
WHERE b.id = $1 AND (b.organization_id = ANY($2::uuid[]) OR $3 OR (b.status = 'ready' AND EXISTS (
    SELECT 1 FROM access_organizations o WHERE o.organization_id = b.organization_id AND o.status = 'verified')))"""


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
    prepared, values = statement(principal, wanted, limit=limit, before=before)
    return await tx.fetch(prepared, **values)


def statement(
    principal: Principal, wanted: Filter, *, limit: int, before: UUID | None
) -> tuple[Prepared, dict[str, Any]]:
    """The statement of `many`, and its values by name."""
    values: dict[str, Any] = {"limit": limit + 1}
    if not principal.is_coordinator:
        values["own"] = list(principal.memberships)
    if wanted.status:
        values["status"] = list(wanted.status)
    if wanted.category:
        values["category"] = list(wanted.category)
    if wanted.organization_id is not None:
        values["organization_id"] = wanted.organization_id
    if before is not None:
        values["before"] = before
    if wanted.near is not None:
        values |= _around(*wanted.near, wanted.radius_m)
    return _list(frozenset(values)), values


def _around(lat: float, lon: float, radius_m: int) -> dict[str, float]:
    lat_min, lat_max, lon_min, lon_max = bounding_box(lat, lon, radius_m)
    box = {"lat_min": lat_min, "lat_max": lat_max, "lon_min": lon_min, "lon_max": lon_max}
    return {"lat": lat, "lon": lon, "radius_m": float(radius_m), **box}


@cache
def _list(given: frozenset[str]) -> Prepared:
    """The statement for one combination of filters; there are few, and each is compiled once."""
    query = select(*_SHOWN).order_by(_B.id.desc()).limit(bindparam("limit", type_=Integer))
    if "own" in given:
        query = query.where(_visible())
    for name, column in {"status": _B.status, "category": _B.category}.items():
        if name in given:
            query = query.where(column == any_(bindparam(name, type_=ARRAY(Text))))
    if "organization_id" in given:
        query = query.where(_B.organization_id == bindparam("organization_id", type_=UUID_))
    if "before" in given:
        query = query.where(_B.id < bindparam("before", type_=UUID_))
    return prepare(_near(query) if "lat" in given else query)


def _visible() -> ColumnElement[bool]:
    verified = select(ORGANIZATIONS.c.organization_id).where(
        ORGANIZATIONS.c.organization_id == _B.organization_id, ORGANIZATIONS.c.status == "verified"
    )
    own = _B.organization_id == any_(bindparam("own", type_=ARRAY(UUID_)))
    return or_(own, and_(_B.status == "ready", verified.exists()))


def _near(query: Select[Any]) -> Select[Any]:
    at = {name: bindparam(name, type_=DOUBLE_PRECISION) for name in _around(0, 0, 1)}
    half: ColumnElement[float] = func.power(func.sin(func.radians(_P.lat - at["lat"]) / 2), 2)
    cosines = func.cos(func.radians(at["lat"])) * func.cos(func.radians(_P.lat))
    half += cosines * func.power(func.sin(func.radians(_P.lon - at["lon"]) / 2), 2)
    distance_m = 2 * EARTH_RADIUS_M * func.asin(func.least(1, func.sqrt(half)))
    return query.join(PLACES, _P.place_id == _B.place_id).where(
        _P.lat.between(at["lat_min"], at["lat_max"]),
        _P.lon.between(at["lon_min"], at["lon_max"]),
        distance_m <= at["radius_m"],
    )
