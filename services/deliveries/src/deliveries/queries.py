"""Deliveries as callers see them, by plain select."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from chassis.access import Principal
from chassis.database import Row, Transaction
from chassis.geo import EARTH_RADIUS_M, bounding_box
from sqlalchemy import ColumnElement, FromClause, Select, Text, and_, cast, func, or_, select, tuple_

from deliveries.domain import Delivery, DeliveryNotFound, Status
from deliveries.domain.tasks import Task
from deliveries.tables import DELIVERIES, OFFERS, PLACES, TASKS

EXACT_AFTER_END = timedelta(hours=24)
CALENDAR_PAST, CALENDAR_MAX = timedelta(days=90), 500  # a season, at more than five claims a day
COARSE_DECIMALS = 2  # of a degree: about a kilometre

Point = tuple[float, float]
_PICKUP, _DROPOFF = PLACES.alias("pickup"), PLACES.alias("dropoff")
_D = DELIVERIES.c
_O, _T = OFFERS.c, TASKS.c
_DECODER, _TASK_DECODER = msgspec.json.Decoder(Delivery), msgspec.json.Decoder(Task)
_ONE = """SELECT d.state::text AS state, p.lat AS pickup_lat, p.lon AS pickup_lon, r.lat AS dropoff_lat, r.lon AS dropoff_lon
FROM deliveries d LEFT JOIN access_places p ON p.place_id = d.pickup_place_id
LEFT JOIN access_places r ON r.place_id = d.receiving_place_id WHERE d.id = $1"""
_CARRIED = """SELECT d.state::text AS state, p.lat AS pickup_lat, p.lon AS pickup_lon, r.lat AS dropoff_lat, r.lon AS dropoff_lon
FROM deliveries d LEFT JOIN access_places p ON p.place_id = d.pickup_place_id
LEFT JOIN access_places r ON r.place_id = d.receiving_place_id
WHERE d.volunteer_id = $1 AND d.claimed_at > $2 ORDER BY d.claimed_at DESC LIMIT $3"""
_POINTS = "SELECT place_id, lat, lon FROM access_places WHERE place_id = ANY($1::uuid[])"


@dataclass(frozen=True)
class Filter:
    """What a list is narrowed to; `near` is (lat, lon) of the pickup with `radius_m`; `mine` leaves others' open ones out."""

    status: Sequence[str] = ()
    near: Point | None = None
    radius_m: int = 10_000
    mine: bool = False


@dataclass(frozen=True)
class Sight:
    """A delivery as one caller sees it: `party` tells who is concerned, points are exact only for those who may know."""

    delivery: Delivery
    party: bool
    exact: bool
    waiting_position: int | None
    pickup: Point | None
    dropoff: Point | None


def is_party(principal: Principal, delivery: Delivery) -> bool:
    """Gives, receives, carries, planned or coordinates it."""
    personal = principal.id in (delivery.volunteer_id, delivery.planned_by)
    return personal or principal.is_coordinator or any(principal.acts_for(each) for each in delivery.party_ids)


def is_visible(principal: Principal, delivery: Delivery) -> bool:
    """An open delivery to everybody, any other to its parties and to those who wait for it."""
    waits = principal.id in delivery.waiting
    return delivery.status is Status.OPEN or waits or is_party(principal, delivery)


def sight_of(
    principal: Principal, delivery: Delivery, *, pickup: Point | None, dropoff: Point | None, now: datetime
) -> Sight:
    """The delivery as the caller may see it."""
    exact = _knows_the_doors(principal, delivery, now)
    pickup, dropoff = _shown(pickup, exact=exact), _shown(dropoff, exact=exact)
    return Sight(delivery, is_party(principal, delivery), exact, _place_in_line(principal, delivery), pickup, dropoff)


async def one(tx: Transaction, principal: Principal, delivery_id: UUID, *, now: datetime) -> Sight:
    """A delivery that the caller may see."""
    row = await tx.fetchrow(_ONE, delivery_id)
    sight = None if row is None else _of_row(row, principal, now)
    if sight is None or not is_visible(principal, sight.delivery):
        raise DeliveryNotFound
    return sight


async def after(tx: Transaction, principal: Principal, delivery: Delivery, *, now: datetime) -> Sight:
    """A delivery as the caller's command left it."""
    rows = await tx.fetch(_POINTS, [delivery.pickup_place_id, delivery.receiving_place_id])
    points = {row["place_id"]: (row["lat"], row["lon"]) for row in rows}
    pickup, dropoff = points.get(delivery.pickup_place_id), points.get(delivery.receiving_place_id)
    return sight_of(principal, delivery, pickup=pickup, dropoff=dropoff, now=now)


async def many(
    tx: Transaction, principal: Principal, wanted: Filter, *, limit: int, before: UUID | None, now: datetime
) -> list[Sight]:
    """The newest deliveries first that the caller may see; one more than `limit` when there are more."""
    joined: FromClause = DELIVERIES.outerjoin(_PICKUP, _PICKUP.c.place_id == _D.pickup_place_id)
    joined = joined.outerjoin(_DROPOFF, _DROPOFF.c.place_id == _D.receiving_place_id)
    query = select(*_COLUMNS).select_from(joined).order_by(_D.id.desc()).limit(limit + 1)
    if wanted.mine:
        query = query.where(or_(_concerned(principal), _waited_for(principal)))
    elif not principal.is_coordinator:
        query = query.where(or_(_D.status == "open", _concerned(principal), _waited_for(principal)))
    if wanted.status:
        query = query.where(_D.status.in_(wanted.status))
    if before is not None:
        query = query.where(_D.id < before)
    return [_of_row(row, principal, now) for row in await tx.fetch(_near(query, wanted))]


async def carried_by(tx: Transaction, principal: Principal, *, now: datetime) -> list[Sight]:
    """What the caller claimed lately and did not give back, the newest first."""
    rows = await tx.fetch(_CARRIED, principal.id, now - CALENDAR_PAST, CALENDAR_MAX)
    return [_of_row(row, principal, now) for row in rows]


_COLUMNS: tuple[ColumnElement[Any], ...] = (
    cast(_D.state, Text).label("state"),
    _PICKUP.c.lat.label("pickup_lat"),
    _PICKUP.c.lon.label("pickup_lon"),
    _DROPOFF.c.lat.label("dropoff_lat"),
    _DROPOFF.c.lon.label("dropoff_lon"),
)


def _concerned(principal: Principal) -> ColumnElement[bool]:
    personal = or_(_D.volunteer_id == principal.id, _D.planned_by == principal.id)
    return or_(personal, _D.party_ids.overlap(list(principal.memberships)))


def _waited_for(principal: Principal) -> ColumnElement[bool]:
    return and_(_D.status.in_(("open", "claimed")), _D.waiting_ids.contains([principal.id]))


def _near(query: Select[Any], wanted: Filter) -> Select[Any]:
    if wanted.near is None:
        return query
    lat, lon = wanted.near
    lat_min, lat_max, lon_min, lon_max = bounding_box(lat, lon, wanted.radius_m)
    p = _PICKUP.c
    half: ColumnElement[float] = func.power(func.sin(func.radians(p.lat - lat) / 2), 2)
    half += (
        func.cos(func.radians(lat))
        * func.cos(func.radians(p.lat))
        * func.power(func.sin(func.radians(p.lon - lon) / 2), 2)
    )
    distance_m = 2 * EARTH_RADIUS_M * func.asin(func.least(1, func.sqrt(half)))
    return query.where(p.lat.between(lat_min, lat_max), p.lon.between(lon_min, lon_max), distance_m <= wanted.radius_m)


def _of_row(row: Row, principal: Principal, now: datetime) -> Sight:
    pickup = None if row["pickup_lat"] is None else (row["pickup_lat"], row["pickup_lon"])
    dropoff = None if row["dropoff_lat"] is None else (row["dropoff_lat"], row["dropoff_lon"])
    return sight_of(principal, _DECODER.decode(row["state"]), pickup=pickup, dropoff=dropoff, now=now)


def _place_in_line(principal: Principal, delivery: Delivery) -> int | None:
    return next((place for place, each in enumerate(delivery.waiting, 1) if each == principal.id), None)


def _knows_the_doors(principal: Principal, delivery: Delivery, now: datetime) -> bool:
    """The organizations, planner and coordinators always; the volunteer while carrying and a day after, no longer."""
    if principal.id != delivery.volunteer_id:
        return is_party(principal, delivery)
    if principal.is_coordinator or any(principal.acts_for(each) for each in delivery.party_ids):
        return True
    return not delivery.ended or (delivery.ended_at is not None and now - delivery.ended_at < EXACT_AFTER_END)


def _shown(point: Point | None, *, exact: bool) -> Point | None:
    if point is None or exact:
        return point
    return round(point[0], COARSE_DECIMALS), round(point[1], COARSE_DECIMALS)


# -- offers ------------------------------------------------------------------------------------------------------------


async def offers_of(tx: Transaction, delivery_id: UUID, *, limit: int, before: UUID | None) -> list[Row]:
    """Who was asked to carry a delivery, and why, the newest first."""
    query = select(OFFERS).where(_O.delivery_id == delivery_id).order_by(_O.id.desc()).limit(limit + 1)
    return await tx.fetch(query if before is None else query.where(_O.id < before))


async def offers_to(
    tx: Transaction, principal: Principal, *, status: Sequence[str], limit: int, before: UUID | None, now: datetime
) -> list[tuple[Row, Sight | None]]:
    """What a volunteer was offered, the newest first, each with the delivery as far as they may see it by now."""
    joined: FromClause = OFFERS.join(DELIVERIES, _D.id == _O.delivery_id)
    joined = joined.outerjoin(_PICKUP, _PICKUP.c.place_id == _D.pickup_place_id)
    joined = joined.outerjoin(_DROPOFF, _DROPOFF.c.place_id == _D.receiving_place_id)
    query = select(*OFFERS.c, *_COLUMNS).select_from(joined).where(_O.volunteer_id == principal.id)
    query = query.order_by(_O.id.desc()).limit(limit + 1)
    if status:
        query = query.where(_O.status.in_(status))
    rows = await tx.fetch(query if before is None else query.where(_O.id < before))
    sights = [_of_row(row, principal, now) for row in rows]
    return [
        (row, sight if is_visible(principal, sight.delivery) else None) for row, sight in zip(rows, sights, strict=True)
    ]


# -- tasks -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskFilter:
    """What a list of tasks is narrowed to; `mine` are those that the caller may complete."""

    status: Sequence[str] = ()
    delivery_id: UUID | None = None
    mine: bool = False


async def tasks(
    tx: Transaction, principal: Principal, wanted: TaskFilter, *, limit: int, before: tuple[datetime, UUID] | None
) -> list[Task]:
    """The newest tasks first that the caller may see; one more than `limit` when there are more."""
    query = select(cast(_T.state, Text).label("state")).order_by(_T.created_at.desc(), _T.id.desc()).limit(limit + 1)
    if wanted.mine:
        query = query.where(_for(principal))
    elif not principal.is_coordinator:
        query = query.where(or_(_T.party_ids.overlap(list(principal.memberships)), _T.volunteer_id == principal.id))
    if wanted.status:
        query = query.where(_T.status.in_(wanted.status))
    if wanted.delivery_id is not None:
        query = query.where(_T.delivery_id == wanted.delivery_id)
    if before is not None:
        query = query.where(tuple_(_T.created_at, _T.id) < tuple_(*before))
    rows = await tx.fetch(query)
    return [_TASK_DECODER.decode(row["state"]) for row in rows]


def _for(principal: Principal) -> ColumnElement[bool]:
    member = and_(
        _T.role.in_(["provider_member", "receiver_member"]), _T.assigned_ids.overlap(list(principal.memberships))
    )
    mine = [member, _T.volunteer_id == principal.id]
    return or_(*mine, _T.role == "coordinator") if principal.is_coordinator else or_(*mine)
