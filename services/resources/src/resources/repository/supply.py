"""What resources knows of batches, and how much of one is free: neither held, nor asked for, nor matched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from chassis.database import Row, Transaction

from resources.domain import BatchId, Offer, OrganizationId, PlaceId, Supply, cell_of

_KNOWN = "SELECT status, available, cell FROM supply WHERE batch_id = $1"
_POINT = "SELECT lat, lon FROM access_places WHERE place_id = $1"
_KEEP = """INSERT INTO supply (batch_id, version, organization_id, place_id, status, category, gtin, unit, product_name,
    use_by_at, pickup_from, pickup_to, available, cell)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (batch_id) DO UPDATE SET version = excluded.version, status = excluded.status, use_by_at = excluded.use_by_at,
    available = excluded.available, cell = excluded.cell WHERE supply.version < excluded.version"""
_MOVED = "UPDATE supply SET cell = $2 WHERE place_id = $1 AND status IN ('ready', 'depleted')"

# A hold is asked for by deliveries and answered by batches, and both are heard of in either order: until the second
# comes, what was asked for is not free any more, and what was answered is not yet told apart from what was matched.
_LONE = """INSERT INTO lone_holds (hold_id, side, batch_id, quantity) SELECT $1, $2, $3, $4
WHERE NOT EXISTS (SELECT FROM lone_holds WHERE hold_id = $1 AND side <> $2) ON CONFLICT DO NOTHING"""
_LONE_NO_MORE = "DELETE FROM lone_holds WHERE hold_id = $1 AND side <> $2"
_SETTLED = """DELETE FROM lone_holds l WHERE l.batch_id = $1
AND EXISTS (SELECT FROM lone_holds o WHERE o.hold_id = l.hold_id AND o.side <> l.side)"""
_HOLD = "SELECT 1 FROM supply WHERE batch_id = $1 FOR UPDATE"
# One snapshot: what deliveries and batches said, and what is matched, must be of the same moment.
_VIEW = """SELECT s.*, p.lat, p.lon, coalesce(o.status = 'verified', false) AS verified,
    s.available + (SELECT coalesce(sum(CASE h.side WHEN 'answered' THEN h.quantity ELSE -h.quantity END), 0) FROM lone_holds h
        WHERE h.batch_id = s.batch_id AND NOT EXISTS (
            SELECT FROM lone_holds x WHERE x.hold_id = h.hold_id AND x.side <> h.side))
    - (SELECT coalesce(sum(m.quantity), 0) FROM matches m LEFT JOIN reservations r ON r.id = m.reservation_id
        WHERE m.batch_id = s.batch_id
            AND (m.status = 'proposed' OR (m.status = 'accepted' AND r.status = 'reserved'))) AS free
FROM supply s LEFT JOIN access_places p ON p.place_id = s.place_id
LEFT JOIN access_organizations o ON o.organization_id = s.organization_id WHERE s.batch_id = $1"""
_NEAR = """SELECT batch_id FROM supply WHERE status = 'ready' AND unit = $3 AND cell = ANY($4::bigint[])
AND (($2::text IS NULL AND category = $1) OR gtin = $2) ORDER BY pickup_to, batch_id LIMIT $5"""
_GTINS = "SELECT batch_id, gtin FROM supply WHERE batch_id = ANY($1::uuid[])"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBatch:
    """A batch as its newest event told it."""

    batch_id: UUID
    version: int
    organization_id: UUID
    place_id: UUID
    status: str
    category: str
    gtin: str | None
    unit: str
    product_name: str
    use_by_at: datetime | None
    pickup_from: datetime
    pickup_to: datetime
    available: int


async def keep_batch(tx: Transaction, batch: KnownBatch) -> bool:
    """Queue what is known of a batch; True when something may be free that was not, or the other way round."""
    before = await tx.fetchrow(_KNOWN, batch.batch_id)
    cell = None if before is None else before["cell"]
    if cell is None:
        point = await tx.fetchrow(_POINT, batch.place_id)
        cell = None if point is None else cell_of(point["lat"], point["lon"])
    tx.write(
        _KEEP, batch.batch_id, batch.version, batch.organization_id, batch.place_id, batch.status, batch.category,
        batch.gtin, batch.unit, batch.product_name, batch.use_by_at, batch.pickup_from, batch.pickup_to,
        batch.available, cell,
    )  # fmt: skip
    return before is None or (before["status"], before["available"]) != (batch.status, batch.available)


def move_batches(tx: Transaction, place_id: UUID, *, cell: int) -> None:
    """A place is somewhere else now, and so is what it has."""
    tx.write(_MOVED, place_id, cell)


def note_hold(
    tx: Transaction, hold_id: UUID, side: Literal["asked", "answered"], *, batch_id: UUID, quantity: int
) -> None:
    """Queue one side of a hold; with the other side it is settled, and what `available` says is all there is to know."""
    tx.write(_LONE, hold_id, side, batch_id, quantity)
    tx.write(_LONE_NO_MORE, hold_id, side)


async def hold_supply(tx: Transaction, batch_id: UUID) -> Supply | None:
    """What a batch still has to give; nobody else matches it until the transaction ends."""
    await tx.fetch(_HOLD, batch_id)
    tx.write(_SETTLED, batch_id)
    return await supply_of(tx, batch_id)


async def supply_of(tx: Transaction, batch_id: UUID) -> Supply | None:
    """What a batch still has to give, without holding it."""
    row = await tx.fetchrow(_VIEW, batch_id)
    if row is None:
        return None
    ends_at = row["pickup_to"] if row["use_by_at"] is None else min(row["pickup_to"], row["use_by_at"])
    return Supply(
        status=row["status"], verified=row["verified"], ends_at=ends_at, free=int(row["free"]), offer=_offer(row)
    )


def _offer(row: Row) -> Offer | None:
    """None while the place is not known here."""
    if row["lat"] is None:
        return None
    return Offer(
        batch_id=BatchId(row["batch_id"]),
        organization_id=OrganizationId(row["organization_id"]),
        place_id=PlaceId(row["place_id"]),
        lat=row["lat"],
        lon=row["lon"],
        category=row["category"],
        gtin=row["gtin"],
        unit=row["unit"],
        product_name=row["product_name"],
        free=int(row["free"]),
        use_by_at=row["use_by_at"],
        pickup_from=row["pickup_from"],
        pickup_to=row["pickup_to"],
    )


async def batches_near(
    tx: Transaction, *, category: str | None, gtin: str | None, unit: str, cells: Sequence[int], limit: int
) -> list[UUID]:
    """Ready batches of the product, or of the category when no product is named, those that end first."""
    return [row["batch_id"] for row in await tx.fetch(_NEAR, category, gtin, unit, list(cells), limit)]


async def gtins_of(tx: Transaction, batches: Sequence[UUID]) -> dict[UUID, str | None]:
    """The product number of each batch that is known."""
    return {row["batch_id"]: row["gtin"] for row in await tx.fetch(_GTINS, list(batches))}
