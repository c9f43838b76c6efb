"""Loads and saves requests, with the rows of their lines and reservations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from chassis.database import Transaction
from chassis.repository import Repository

from resources.domain import (
    EVENTS,
    UPCASTERS,
    LineId,
    RequestNotFound,
    ReservationId,
    ResourceRequest,
    Status,
    Urgency,
    cell_of,
)
from resources.public_events import announce

# Lines that are there keep what is proposed of them, less what this command released: proposals come without the request's
# version moving, and `request_lines_proposed` and `matches_line` refuse whoever decided without knowing of one.
_NEW_LINES = """INSERT INTO request_lines (request_id, organization_id, place_id, cell, open, urgency, needed_by_at,
    line_id, position, name, category, gtin, unit, needed, reserved, received)
SELECT $1, $2, $3, $4, $5, $6, $7, * FROM unnest($8::uuid[], $9::int[], $10::text[], $11::text[], $12::text[], $13::text[],
    $14::bigint[], $15::bigint[], $16::bigint[])
ON CONFLICT (request_id, line_id) DO NOTHING"""
_LINES = """UPDATE request_lines l SET open = $2, urgency = $3, needed_by_at = $4, position = x.position, name = x.name,
    category = x.category, gtin = x.gtin, unit = x.unit, needed = x.needed, reserved = x.reserved, received = x.received,
    proposed = l.proposed - x.released
FROM unnest($5::uuid[], $6::int[], $7::text[], $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bigint[],
    $13::bigint[], $14::bigint[]) AS x (line_id, position, name, category, gtin, unit, needed, reserved, received, released)
WHERE l.request_id = $1 AND l.line_id = x.line_id AND (x.released > 0
    OR (l.open, l.urgency, l.needed_by_at, l.position, l.name, l.category, l.gtin, l.unit, l.needed, l.reserved, l.received)
        IS DISTINCT FROM ($2, $3, $4, x.position, x.name, x.category, x.gtin, x.unit, x.needed, x.reserved, x.received))"""
_DROP_LINES = "DELETE FROM request_lines WHERE request_id = $1 AND line_id <> ALL($2::uuid[])"
_RESERVATIONS = """INSERT INTO reservations
    (request_id, organization_id, id, donor_organization_id, status, mode, lines, delivery_id, reserved_at, expires_at)
SELECT $1, $2, i, d, s, m, l::jsonb, v, r, e
FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::timestamptz[],
    $10::timestamptz[]) AS x(i, d, s, m, l, v, r, e)
ON CONFLICT (id) DO UPDATE SET status = excluded.status, lines = excluded.lines, delivery_id = excluded.delivery_id"""

# What a reservation is, for who follows deliveries and organizations.
_PROMISES = """SELECT request_id, id FROM reservations WHERE status = 'reserved'
AND (organization_id = $1 OR donor_organization_id = $1) ORDER BY request_id, id LIMIT $2"""
_OPEN_OF = "SELECT id FROM resource_requests WHERE organization_id = $1 AND status = 'open' ORDER BY id LIMIT $2"
_MOVED = """UPDATE request_lines l SET cell = $2 FROM resource_requests r
WHERE r.place_id = $1 AND l.request_id = r.id AND l.cell IS DISTINCT FROM $2"""
_POINT = "SELECT lat, lon FROM access_places WHERE place_id = $1"
_LOCK_AT = "SELECT 1 FROM resource_requests WHERE place_id = $1 ORDER BY id FOR UPDATE"

URGENCIES = list(Urgency)  # as lines have them: a number that an index can order
NOTHING: Mapping[LineId, int] = {}
_LINE_COLUMNS = ("line_id", "position", "name", "category", "gtin", "unit", "needed", "reserved", "received")


def _columns(request: ResourceRequest) -> dict[str, Any]:
    return {
        "organization_id": request.organization_id,
        "place_id": request.place_id,
        "status": request.status,
        "title": request.title,
        "urgency": request.urgency,
        "needed_by_at": request.needed_by_at,
        "created_at": request.opened_at,
    }


class Requests(Repository[ResourceRequest]):
    """Requests; each command's statement also brings the rows of lines and reservations up to date."""

    def save(
        self,
        tx: Transaction,
        aggregate: ResourceRequest,
        *,
        now: datetime,
        cell: int | None = None,
        released: Mapping[LineId, int] = NOTHING,
    ) -> None:
        """Queue everything that the new events changed; new lines are in `cell`, `released` is not proposed any more."""
        # PostgreSQL runs the parts of one statement last to first: queued before the request's row, these rows are
        # locked after it, as in a transaction that locks the request when it loads it. So two commands never cross.
        events = aggregate.pending
        changed = {event.reservation_id for event in events if hasattr(event, "reservation_id")}
        if events:
            _save_lines(tx, aggregate, cell, released)
        if changed:
            _save_reservations(tx, aggregate, sorted(changed))
        super().save(tx, aggregate, now=now)

    async def refold(self, tx: Transaction, aggregate_id: UUID) -> bool:
        """Make the request's row and those of its lines and reservations anew from the events."""
        changed = await super().refold(tx, aggregate_id)
        request = await self.as_of(tx, aggregate_id)
        point = await tx.fetchrow(_POINT, request.place_id)
        _save_lines(tx, request, None if point is None else cell_of(point["lat"], point["lon"]), NOTHING)
        _save_reservations(tx, request, sorted(request.reservations))
        return changed


def _save_lines(tx: Transaction, request: ResourceRequest, cell: int | None, released: Mapping[LineId, int]) -> None:
    lines = request.listed
    columns = [[getattr(line, name) for line in lines] for name in _LINE_COLUMNS]
    when = request.status is Status.OPEN, URGENCIES.index(request.urgency), request.needed_by_at
    tx.write(_DROP_LINES, request.id, columns[0])
    tx.write(_NEW_LINES, request.id, request.organization_id, request.place_id, cell, *when, *columns)
    tx.write(_LINES, request.id, *when, *columns, [released.get(line.line_id, 0) for line in lines])


def _save_reservations(tx: Transaction, request: ResourceRequest, changed: Iterable[ReservationId]) -> None:
    found = [(reservation_id, request.reservations[reservation_id]) for reservation_id in changed]
    lines = [
        [
            {"line_id": line_id, "quantity": quantity, "received": each.received.get(line_id, 0)}
            for line_id, quantity in sorted(each.quantities.items())
        ]
        for _, each in found
    ]
    tx.write(
        _RESERVATIONS,
        request.id,
        request.organization_id,
        [reservation_id for reservation_id, _ in found],
        [each.organization_id for _, each in found],
        [each.state.value for _, each in found],
        [each.mode.value for _, each in found],
        [msgspec.json.encode(each).decode() for each in lines],
        [each.delivery_id for _, each in found],
        [each.reserved_at for _, each in found],
        [each.expires_at for _, each in found],
    )


REQUESTS = Requests(
    table="resource_requests",
    aggregate=ResourceRequest,
    events=EVENTS,
    upcasters=UPCASTERS,
    columns=_columns,
    announce=announce,
    not_found=RequestNotFound,
)


async def promises_of(tx: Transaction, organization_id: UUID, *, limit: int) -> list[tuple[UUID, UUID]]:
    """(request, reservation) of what the organization gives or takes and is not on its way, request by request."""
    return [(row["request_id"], row["id"]) for row in await tx.fetch(_PROMISES, organization_id, limit)]


async def open_requests_of(tx: Transaction, organization_id: UUID, *, limit: int) -> list[UUID]:
    """The organization's open requests."""
    return [row["id"] for row in await tx.fetch(_OPEN_OF, organization_id, limit)]


async def move_requests(tx: Transaction, place_id: UUID, *, cell: int) -> None:
    """A place is somewhere else now, and so is what it asks for."""
    await tx.fetch(_LOCK_AT, place_id)
    tx.write(_MOVED, place_id, cell)
