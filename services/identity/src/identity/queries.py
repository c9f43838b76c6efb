"""Identity as callers see it, by plain select."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from chassis.access import Principal
from chassis.database import Row, Transaction
from chassis.geo import EARTH_RADIUS_M, bounding_box
from sqlalchemy import ColumnElement, Select, exists, func, or_, select

from identity.domain import OrganizationNotFound, PlaceNotFound, UserNotFound
from identity.tables import API_KEYS, ORGANIZATIONS, PLACES

_O, _P, _K = ORGANIZATIONS.c, PLACES.c, API_KEYS.c

_ME = """SELECT u.id, u.locale, u.registered_at, u.state->'volunteer' AS volunteer, p.email, p.display_name
FROM users u JOIN users_private p ON p.user_id = u.id WHERE u.id = $1"""
_CONTACT = """SELECT p.user_id, p.email, p.display_name, u.locale FROM users_private p JOIN users u ON u.id = p.user_id
WHERE p.user_id = $1"""
_MEMBERS = """SELECT m.user_id, m.role, p.display_name FROM access_members m
LEFT JOIN users_private p ON p.user_id = m.user_id
WHERE m.organization_id = $1 AND m.role IS NOT NULL AND ($2::uuid IS NULL OR m.user_id > $2) ORDER BY m.user_id LIMIT $3"""


@dataclass(frozen=True)
class PlaceFilter:
    """What a list of places is narrowed to; `near` is (lat, lon) with `radius_m`."""

    role: str | None = None
    organization_id: UUID | None = None
    near: tuple[float, float] | None = None
    radius_m: int = 10_000


async def me(tx: Transaction, user_id: UUID) -> Row:
    """The person and who it is: id, locale, registered_at, volunteer, email, display_name."""
    return _found(await tx.fetchrow(_ME, user_id))


async def contact(tx: Transaction, user_id: UUID) -> Row:
    """How a person is reached: user_id, email, display_name, locale."""
    return _found(await tx.fetchrow(_CONTACT, user_id))


def _found(row: Row | None) -> Row:
    if row is None:
        raise UserNotFound
    return row


async def organization(tx: Transaction, principal: Principal, organization_id: UUID) -> Row:
    """An organization that the caller may see: a verified one, or one's own."""
    query = select(ORGANIZATIONS).where(_O.id == organization_id)
    if not principal.is_coordinator:
        query = query.where(or_(_O.status == "verified", _O.id.in_(list(principal.memberships))))
    row = await tx.fetchrow(query)
    if row is None:
        raise OrganizationNotFound
    return row


async def organizations(
    tx: Transaction, principal: Principal, *, status: Sequence[str], limit: int, before: UUID | None
) -> list[Row]:
    """The newest first: one's own, or everybody's for an admin; one more than `limit` when there are more."""
    query = select(ORGANIZATIONS).order_by(_O.id.desc()).limit(limit + 1)
    if not principal.is_admin:
        query = query.where(_O.id.in_(list(principal.memberships)))
    if status:
        query = query.where(_O.status.in_(status))
    if before is not None:
        query = query.where(_O.id < before)
    return await tx.fetch(query)


async def members(tx: Transaction, organization_id: UUID, *, limit: int, after: UUID | None) -> list[Row]:
    """Who acts for an organization; one more than `limit` when there are more."""
    return await tx.fetch(_MEMBERS, organization_id, after, limit + 1)


async def place(tx: Transaction, principal: Principal, place_id: UUID) -> Row:
    """A place that the caller may see: of a verified organization, or of one's own."""
    query = select(PLACES).where(_P.id == place_id)
    if not principal.is_coordinator:
        query = query.where(_visible(principal))
    row = await tx.fetchrow(query)
    if row is None:
        raise PlaceNotFound
    return row


async def places(
    tx: Transaction, principal: Principal, wanted: PlaceFilter, *, limit: int, before: UUID | None
) -> list[Row]:
    """The newest places first that the caller may see; one more than `limit` when there are more."""
    query = select(PLACES).order_by(_P.id.desc()).limit(limit + 1)
    if not principal.is_coordinator:
        query = query.where(_visible(principal))
    if wanted.role is not None:
        query = query.where(_P.roles.any(wanted.role))
    if wanted.organization_id is not None:
        query = query.where(_P.organization_id == wanted.organization_id)
    if before is not None:
        query = query.where(_P.id < before)
    return await tx.fetch(_near(query, wanted))


async def api_keys(
    tx: Transaction, managed: Sequence[UUID], *, organization_id: UUID | None, limit: int, before: UUID | None
) -> list[Row]:
    """The newest keys first of organizations that the caller manages; one more than `limit` when there are more."""
    query = select(API_KEYS).where(_K.organization_id.in_(managed)).order_by(_K.id.desc()).limit(limit + 1)
    if organization_id is not None:
        query = query.where(_K.organization_id == organization_id)
    if before is not None:
        query = query.where(_K.id < before)
    return await tx.fetch(query)


async def signing_keys(tx: Transaction) -> list[Row]:
    """Every public half, the newest first."""
    return await tx.fetch("SELECT jwk FROM signing_keys ORDER BY id DESC LIMIT 20")


def _visible(principal: Principal) -> ColumnElement[bool]:
    verified = exists().where(_O.id == _P.organization_id, _O.status == "verified")
    return or_(_P.organization_id.in_(list(principal.memberships)), verified)


def _near(query: Select, wanted: PlaceFilter) -> Select:  # type: ignore[type-arg]
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
    return query.where(
        _P.lat.between(lat_min, lat_max), _P.lon.between(lon_min, lon_max), distance_m <= wanted.radius_m
    )
