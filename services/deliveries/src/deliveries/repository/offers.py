"""Offers of open deliveries: who could be asked, who was and why, and places that would take what was refused."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from chassis.database import Transaction
from chassis.geo import EARTH_RADIUS_M, bounding_box
from chassis.kernel import new_id

from deliveries.domain import OrganizationId, PlaceId, UserId, Window
from deliveries.domain.offers import Candidate
from deliveries.domain.watches import PlaceNear

LOOKED_AT_FACTOR = 3  # so many times those who are asked are looked at, so that the load of each can count

_DISTANCE_M = f"""2 * {EARTH_RADIUS_M} * asin(least(1, sqrt(sin(radians({{t}}.lat - $1) / 2) ^ 2
    + cos(radians($1)) * cos(radians({{t}}.lat)) * sin(radians({{t}}.lon - $2) / 2) ^ 2)))"""
_CANDIDATES = f"""SELECT n.user_id, n.vehicle, n.capacity_g, n.distance_m, c.recent FROM (
    SELECT v.user_id, v.vehicle, v.capacity_g, v.radius_m, {_DISTANCE_M.format(t="v")} AS distance_m FROM volunteers v
    WHERE v.vehicle IS NOT NULL AND NOT v.suspended
        AND point(v.lon, v.lat) <@ box(point($5, $3), point($6, $4))
        AND v.capacity_g >= $8 AND NOT v.user_id = ANY($9::uuid[])
        AND NOT EXISTS (SELECT FROM offers o WHERE o.delivery_id = $10 AND o.opening = $11 AND o.volunteer_id = v.user_id)
    ORDER BY distance_m) n
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE d.claimed_at > $14) AS recent,
        coalesce(bool_or(d.status IN ('claimed', 'in_transit', 'rerouting')
            AND tstzrange(d.busy_from, d.busy_to) && tstzrange($12, $13)), false) AS overlapping
    FROM deliveries d WHERE d.volunteer_id = n.user_id
        AND (d.claimed_at > $14 OR d.status IN ('claimed', 'in_transit', 'rerouting'))) c
WHERE n.distance_m <= least($7::float8, n.radius_m) AND NOT c.overlapping AND c.recent < $15
ORDER BY n.distance_m LIMIT $16"""
_OFFER = """INSERT INTO offers (id, delivery_id, opening, volunteer_id, ring, radius_m, distance_m, vehicle, capacity_g,
    weight_g, claims_today, offered_at, status)
SELECT i, $1, $2, v, $3, $4, d, k, c, $5, l, $6, 'offered'
FROM unnest($7::uuid[], $8::uuid[], $9::int[], $10::text[], $11::int[], $12::int[]) AS x(i, v, d, k, c, l)"""
_SETTLE = """UPDATE offers SET settled_at = $3, status = CASE WHEN volunteer_id = $2 THEN 'taken' ELSE 'withdrawn' END
WHERE delivery_id = $1 AND status = 'offered' AND opening <> $4"""
_PLACES = f"""SELECT n.place_id, n.organization_id, n.distance_m FROM (
    SELECT p.place_id, p.organization_id, {_DISTANCE_M.format(t="p")} AS distance_m FROM access_places p
    WHERE p.lat BETWEEN $3 AND $4 AND p.lon BETWEEN $5 AND $6 AND 'receiving' = ANY(p.roles)
        AND (p.accepts = '{{}}' OR p.accepts @> $8::text[]) AND p.place_id <> $9 AND NOT p.organization_id = ANY($10::uuid[])) n
JOIN access_organizations o ON o.organization_id = n.organization_id AND o.status = 'verified'
WHERE n.distance_m <= $7 ORDER BY n.distance_m, n.place_id LIMIT $11"""


async def point_of(tx: Transaction, place_id: UUID) -> tuple[float, float] | None:
    """Where a place is, or None when it is not known (yet)."""
    row = await tx.fetchrow("SELECT lat, lon FROM access_places WHERE place_id = $1", place_id)
    return None if row is None else (row["lat"], row["lon"])


async def candidates(
    tx: Transaction,
    point: tuple[float, float],
    *,
    radius_m: int,
    weight_g: int,
    span: Window,
    since: datetime,
    claims_max: int,
    delivery_id: UUID,
    opening: int,
    besides: Collection[UUID],
    count: int,
) -> list[Candidate]:
    """The nearest volunteers within the radius, and within their own, who are free and whose vehicle fits.

    Who was asked in this opening is left out. An index answers for the box, and looking ends with enough of them.
    """
    rows = await tx.fetch(
        _CANDIDATES, *point, *bounding_box(*point, radius_m), radius_m, weight_g, list(besides), delivery_id, opening,
        span.from_at, span.to_at, since, claims_max, count * LOOKED_AT_FACTOR,
    )  # fmt: skip
    return [
        Candidate(
            volunteer_id=UserId(UUID(int=row["user_id"].int)),
            distance_m=round(row["distance_m"]),
            vehicle=row["vehicle"],
            capacity_g=row["capacity_g"],
            claims_today=row["recent"],
        )
        for row in rows
    ]


def offer(
    tx: Transaction,
    delivery_id: UUID,
    *,
    opening: int,
    ring: int,
    radius_m: int,
    weight_g: int,
    chosen: Sequence[Candidate],
    now: datetime,
) -> None:
    """Queue an offer to each of the chosen, with the reasons."""
    tx.write(
        _OFFER, delivery_id, opening, ring, radius_m, weight_g, now, [new_id() for _ in chosen],
        [one.volunteer_id for one in chosen], [one.distance_m for one in chosen], [one.vehicle for one in chosen],
        [one.capacity_g for one in chosen], [one.claims_today for one in chosen],
    )  # fmt: skip


def settle(tx: Transaction, delivery_id: UUID, *, taken_by: UUID | None, but_opening: int = 0, now: datetime) -> None:
    """Queue the end of a delivery's standing offers: taken by one of them, or withdrawn; those of one opening stay."""
    tx.write(_SETTLE, delivery_id, taken_by, now, but_opening)


async def places_near(
    tx: Transaction,
    point: tuple[float, float],
    *,
    radius_m: int,
    categories: Collection[str],
    besides: UUID,
    besides_of: Collection[UUID],
    count: int,
) -> list[PlaceNear]:
    """The nearest receiving places of verified organizations that take all these categories.

    `besides` is a place that is left out, `besides_of` are organizations.
    """
    rows = await tx.fetch(
        _PLACES, *point, *bounding_box(*point, radius_m), radius_m, sorted(categories), besides, list(besides_of), count
    )
    return [
        PlaceNear(
            place_id=PlaceId(UUID(int=row["place_id"].int)),
            organization_id=OrganizationId(UUID(int=row["organization_id"].int)),
            distance_m=round(row["distance_m"]),
        )
        for row in rows
    ]
