"""Loads and saves requests, with the rows of their lines and reservations."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from chassis.database import Transaction
from chassis.repository import Repository

from resources.domain import EVENTS, RequestNotFound, ReservationId, ResourceRequest
from resources.public_events import announce

_LINES = """INSERT INTO request_lines AS l
    (request_id, line_id, position, name, category, gtin, unit, needed, reserved, received)
SELECT $1, * FROM unnest($2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::bigint[],
    $10::bigint[])
ON CONFLICT (request_id, line_id) DO UPDATE SET position = excluded.position, name = excluded.name,
    category = excluded.category, gtin = excluded.gtin, unit = excluded.unit, needed = excluded.needed,
    reserved = excluded.reserved, received = excluded.received
WHERE (l.position, l.name, l.category, l.gtin, l.unit, l.needed, l.reserved, l.received) IS DISTINCT FROM
    (excluded.position, excluded.name, excluded.category, excluded.gtin, excluded.unit, excluded.needed,
     excluded.reserved, excluded.received)"""
_DROP_LINES = "DELETE FROM request_lines WHERE request_id = $1 AND line_id <> ALL($2::uuid[])"
_RESERVATIONS = """INSERT INTO reservations
    (request_id, organization_id, id, donor_organization_id, status, mode, lines, delivery_id, reserved_at, expires_at)
SELECT $1, $2, i, d, s, m, l::jsonb, v, r, e
FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::timestamptz[],
    $10::timestamptz[]) AS x(i, d, s, m, l, v, r, e)
ON CONFLICT (id) DO UPDATE SET status = excluded.status, lines = excluded.lines, delivery_id = excluded.delivery_id"""


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

    def save(self, tx: Transaction, aggregate: ResourceRequest, *, now: datetime) -> None:
        """Queue everything that the new events changed."""
        # PostgreSQL runs the parts of one statement last to first: queued before the request's row, these rows are
        # locked after it, as in a transaction that locks the request when it loads it. So two commands never cross.
        events = aggregate.pending
        changed = {event.reservation_id for event in events if hasattr(event, "reservation_id")}
        if events:
            _save_lines(tx, aggregate)
        if changed:
            _save_reservations(tx, aggregate, sorted(changed))
        super().save(tx, aggregate, now=now)

    async def refold(self, tx: Transaction, aggregate_id: UUID) -> bool:
        """Make the request's row and those of its lines and reservations anew from the events."""
        changed = await super().refold(tx, aggregate_id)
        request = await self.as_of(tx, aggregate_id)
        _save_lines(tx, request)
        _save_reservations(tx, request, sorted(request.reservations))
        return changed


def _save_lines(tx: Transaction, request: ResourceRequest) -> None:
    lines = request.listed
    tx.write(_DROP_LINES, request.id, [line.line_id for line in lines])
    tx.write(
        _LINES,
        request.id,
        [line.line_id for line in lines],
        [line.position for line in lines],
        [line.name for line in lines],
        [line.category for line in lines],
        [line.gtin for line in lines],
        [line.unit for line in lines],
        [line.needed for line in lines],
        [line.reserved for line in lines],
        [line.received for line in lines],
    )


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
    columns=_columns,
    announce=announce,
    not_found=RequestNotFound,
)
