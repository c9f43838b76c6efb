"""Requests, reservations and matches as callers see them, by plain select."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chassis.access import Principal
from chassis.database import Row, Transaction
from chassis.geo import EARTH_RADIUS_M, bounding_box
from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from resources.domain import MatchNotFound, RequestNotFound, ReservationNotFound
from resources.tables import LINES, MATCHES, ORGANIZATIONS, PLACES, REQUESTS, RESERVATIONS

_R, _L, _V, _M, _P, _O = REQUESTS.c, LINES.c, RESERVATIONS.c, MATCHES.c, PLACES.c, ORGANIZATIONS.c
_LINE_FIELDS = ("line_id", "name", "category", "gtin", "unit", "needed", "reserved", "received")


@dataclass(frozen=True)
class Filter:
    """What a list of requests is narrowed to; `near` is (lat, lon) with `radius_m`."""

    status: Sequence[str] = ()
    category: Sequence[str] = ()
    organization_id: UUID | None = None
    near: tuple[float, float] | None = None
    radius_m: int = 10_000


@dataclass(frozen=True)
class ReservationFilter:
    """What a list of reservations is narrowed to; `organization_id` is either side's."""

    status: Sequence[str] = ()
    request_id: UUID | None = None
    organization_id: UUID | None = None


@dataclass(frozen=True)
class MatchFilter:
    """What a list of matches is narrowed to; `mine` leaves out what a coordinator sees of others."""

    batch_id: UUID | None = None
    request_id: UUID | None = None
    status: Sequence[str] = ()
    mine: bool = False


async def one(tx: Transaction, principal: Principal, request_id: UUID) -> Row:
    """A request that the caller may see, with its lines."""
    row = await tx.fetchrow(_requests(principal).where(_R.id == request_id))
    if row is None:
        raise RequestNotFound
    return row


async def many(tx: Transaction, principal: Principal, wanted: Filter, *, limit: int, before: UUID | None) -> list[Row]:
    """The newest requests first that the caller may see; one more than `limit` when there are more."""
    query = _requests(principal).order_by(_R.id.desc()).limit(limit + 1)
    if wanted.status:
        query = query.where(_R.status.in_(wanted.status))
    if wanted.category:
        query = query.where(select(_L.line_id).where(_L.request_id == _R.id, _L.category.in_(wanted.category)).exists())
    if wanted.organization_id is not None:
        query = query.where(_R.organization_id == wanted.organization_id)
    if before is not None:
        query = query.where(_R.id < before)
    return await tx.fetch(_near(query, wanted))


async def reservation(tx: Transaction, principal: Principal, reservation_id: UUID) -> Row:
    """A reservation that the caller is a party to."""
    row = await tx.fetchrow(_reservations(principal).where(_V.id == reservation_id))
    if row is None:
        raise ReservationNotFound
    return row


async def reservations(
    tx: Transaction, principal: Principal, wanted: ReservationFilter, *, limit: int, before: UUID | None
) -> list[Row]:
    """The caller's newest reservations first, given and taken; one more than `limit` when there are more."""
    query = _reservations(principal).order_by(_V.id.desc()).limit(limit + 1)
    if wanted.status:
        query = query.where(_V.status.in_(wanted.status))
    if wanted.request_id is not None:
        query = query.where(_V.request_id == wanted.request_id)
    if wanted.organization_id is not None:
        query = query.where(
            or_(_V.organization_id == wanted.organization_id, _V.donor_organization_id == wanted.organization_id)
        )
    if before is not None:
        query = query.where(_V.id < before)
    return await tx.fetch(query)


async def request_of(tx: Transaction, reservation_id: UUID) -> UUID:
    """The request that a reservation is of."""
    request_id: UUID | None = await tx.fetchval(select(_V.request_id).where(_V.id == reservation_id))
    if request_id is None:
        raise ReservationNotFound
    return request_id


async def match(tx: Transaction, principal: Principal, match_id: UUID) -> Row:
    """A match of which the caller's organization is a side."""
    row = await tx.fetchrow(_matches(principal, mine=False).where(_M.id == match_id))
    if row is None:
        raise MatchNotFound
    return row


async def matches(
    tx: Transaction, principal: Principal, wanted: MatchFilter, *, limit: int, before: UUID | None
) -> list[Row]:
    """The newest matches first that the caller may see; one more than `limit` when there are more."""
    query = _matches(principal, mine=wanted.mine).order_by(_M.id.desc()).limit(limit + 1)
    if wanted.batch_id is not None:
        query = query.where(_M.batch_id == wanted.batch_id)
    if wanted.request_id is not None:
        query = query.where(_M.request_id == wanted.request_id)
    if wanted.status:
        query = query.where(_M.status.in_(wanted.status))
    if before is not None:
        query = query.where(_M.id < before)
    return await tx.fetch(query)


async def organization(tx: Transaction, organization_id: UUID) -> tuple[str | None, frozenset[str]]:
    """How an organization stands and of which kinds it is; (None, none) when it is not known (yet)."""
    row = await tx.fetchrow(select(_O.status, _O.kinds).where(_O.organization_id == organization_id))
    return (None, frozenset()) if row is None else (row["status"], frozenset(row["kinds"] or ()))


async def directory_version(tx: Transaction, organization_id: UUID) -> int:
    """Which of an organization's events the directory has come to; 0 when it knows none."""
    version: int | None = await tx.fetchval(select(_O.version).where(_O.organization_id == organization_id))
    return version or 0


def _requests(principal: Principal) -> Select[Any]:
    pairs = [item for name in _LINE_FIELDS for item in (name, _L[name])]
    line = func.jsonb_build_object(*pairs, "open", _L.needed - _L.reserved - _L.received)
    lines = select(func.jsonb_agg(aggregate_order_by(line, _L.position))).where(_L.request_id == _R.id)
    columns = [column for column in REQUESTS.c if column.name != "state"]
    query = select(*columns, lines.scalar_subquery().label("lines"))
    return query if principal.is_coordinator else query.where(_visible(principal))


def _visible(principal: Principal) -> ColumnElement[bool]:
    mine = list(principal.memberships)
    verified = select(_O.organization_id).where(_O.organization_id == _R.organization_id, _O.status == "verified")
    given = select(_V.id).where(_V.request_id == _R.id, _V.donor_organization_id.in_(mine))
    return or_(_R.organization_id.in_(mine), and_(_R.status == "open", verified.exists()), given.exists())


def _reservations(principal: Principal) -> Select[Any]:
    query, mine = select(RESERVATIONS), list(principal.memberships)
    if principal.is_coordinator:
        return query
    return query.where(or_(_V.organization_id.in_(mine), _V.donor_organization_id.in_(mine)))


def _matches(principal: Principal, *, mine: bool) -> Select[Any]:
    query, sides = select(_M.id, _M.state), list(principal.memberships)
    if principal.is_coordinator and not mine:
        return query
    return query.where(or_(_M.organization_id.in_(sides), _M.provider_organization_id.in_(sides)))


def _near(query: Select[Any], wanted: Filter) -> Select[Any]:
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
    return query.join(PLACES, _P.place_id == _R.place_id).where(
        _P.lat.between(lat_min, lat_max), _P.lon.between(lon_min, lon_max), distance_m <= wanted.radius_m
    )
