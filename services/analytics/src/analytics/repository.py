"""Writes the audit trail and the read models. Every write commutes with every other, so events may come in any order.

Rows keep the least or greatest of what they were told, or the newest version; counters are added to once per event.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime
from uuid import UUID

from chassis.database import Transaction

from analytics.domain import Movement, NeedLine, Occurrence

_TURN_KEY = 0x616E616C797469  # "analyti"
_TURN = "analytics.turn"

_AUDIT = """INSERT INTO audit_events (event_id, occurred_at, type, subject, version, actor_id, organization_id, parties,
    correlation_id, data)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (event_id) DO NOTHING"""

# The snapshot of the statement does not show its own audit row: an event that is there came before, and adds nothing.
_MOVE = """INSERT INTO quantities_daily AS q
    (day, organization_id, role, place_id, category, unit, offered, rescued, delivered)
SELECT x.* FROM unnest($2::date[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::bigint[], $9::bigint[],
    $10::bigint[]) AS x
WHERE NOT EXISTS (SELECT FROM audit_events WHERE event_id = $1)
ON CONFLICT (organization_id, day, role, place_id, category, unit) DO UPDATE SET offered = q.offered + excluded.offered,
    rescued = q.rescued + excluded.rescued, delivered = q.delivered + excluded.delivered"""

_LOSS = """INSERT INTO batch_losses (batch_id, version, day, organization_id, place_id, category, unit, lost)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (batch_id, version) DO NOTHING"""

_BATCH = """INSERT INTO batches_seen AS s
    (batch_id, organization_id, place_id, category, unit, pickup_to, first_at, last_at, {moment})
VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $7)
ON CONFLICT (batch_id) DO UPDATE SET first_at = least(s.first_at, excluded.first_at),
    last_at = greatest(s.last_at, excluded.last_at), {moment} = least(s.{moment}, excluded.{moment})"""

_DELIVERY = """INSERT INTO deliveries_seen AS s
    (delivery_id, organizations, pickup_place_id, batch_ids, first_at, last_at{moment_column})
VALUES ($1, $2, $3, $4, $5, $5{moment_value})
ON CONFLICT (delivery_id) DO UPDATE SET first_at = least(s.first_at, excluded.first_at),
    last_at = greatest(s.last_at, excluded.last_at),
    organizations = ARRAY(SELECT DISTINCT o FROM unnest(s.organizations || excluded.organizations) AS o ORDER BY o)
    {moment_least}"""

_REQUEST = """INSERT INTO requests_seen AS s (request_id, version, organization_id, place_id, status, opened_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (request_id) DO UPDATE SET version = greatest(s.version, excluded.version),
    status = CASE WHEN excluded.version > s.version THEN excluded.status ELSE s.status END,
    opened_at = least(s.opened_at, excluded.opened_at)"""

_NEEDS = """INSERT INTO need_lines AS n (request_id, line_id, version, category, unit, needed, reserved, received)
SELECT $1, x.line_id, $2, x.category, x.unit, x.needed, x.reserved, x.received
FROM unnest($3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[])
    AS x(line_id, category, unit, needed, reserved, received)
ON CONFLICT (request_id, line_id) DO UPDATE SET version = excluded.version, category = excluded.category,
    unit = excluded.unit, needed = excluded.needed, reserved = excluded.reserved, received = excluded.received
WHERE n.version < excluded.version"""

_BATCH_SQL = {name: _BATCH.format(moment=f"{name}_at") for name in (
    "created", "ready", "closed", "cancelled", "expired", "recalled",
)}  # fmt: skip
_DELIVERY_SQL = {name: _DELIVERY.format(
    moment_column=f", {name}_at", moment_value=", $5", moment_least=f", {name}_at = least(s.{name}_at, excluded.{name}_at)",
) for name in (
    "planned", "opened", "claimed", "picked_up", "completed", "cancelled", "expired", "failed", "returned", "discarded",
    "no_show",
)}  # fmt: skip
_DELIVERY_PLAIN = _DELIVERY.format(moment_column="", moment_value="", moment_least="")


async def take_turn(tx: Transaction) -> None:
    """One transaction projects at a time: replicas that touch the same counters wait instead of deadlocking.

    Tables that are built anew, in a schema of their own, have their own turn: nobody waits for a rebuild.
    """
    if _TURN not in tx.hints:
        await tx.fetch("SELECT pg_advisory_xact_lock($1::bigint + hashtext(current_schema()))", _TURN_KEY)
        tx.hints.add(_TURN)


def keep(tx: Transaction, event: Occurrence) -> None:
    """Queue the event's row of the audit trail; an event known already changes nothing."""
    parties = dict.fromkeys(p for p in (event.organization_id, *event.parties) if p is not None)
    tx.write(
        _AUDIT, event.event_id, event.occurred_at, event.type, event.subject, event.version, event.actor_id,
        event.organization_id, list(parties), event.correlation_id, event.data,
    )  # fmt: skip


def move(tx: Transaction, event_id: UUID, movements: Sequence[Movement]) -> None:
    """Queue additions to the daily table, one per row; an event known already adds nothing."""
    if not movements:
        return
    names = ("day", "organization_id", "role", "place_id", "category", "unit", "offered", "rescued", "delivered")
    tx.write(_MOVE, event_id, *([getattr(each, name) for each in movements] for name in names))


def see_loss(
    tx: Transaction, batch_id: UUID, *, version: int, day: date, organization_id: UUID, place_id: UUID, category: str,
    unit: str, lost: int,
) -> None:  # fmt: skip
    """Queue how much of a batch was lost by this version."""
    tx.write(_LOSS, batch_id, version, day, organization_id, place_id, category, unit, lost)


def see_batch(
    tx: Transaction, batch_id: UUID, milestone: str, *, at: datetime, organization_id: UUID, place_id: UUID, category: str,
    unit: str, pickup_to: datetime,
) -> None:  # fmt: skip
    """Queue when a batch first reached a milestone."""
    tx.write(_BATCH_SQL[milestone], batch_id, organization_id, place_id, category, unit, pickup_to, at)


def see_delivery(
    tx: Transaction, delivery_id: UUID, milestone: str | None, *, at: datetime, organizations: Collection[UUID],
    pickup_place_id: UUID, batch_ids: Collection[UUID],
) -> None:  # fmt: skip
    """Queue who takes part in a delivery and, at a milestone, when it was first reached."""
    sql = _DELIVERY_PLAIN if milestone is None else _DELIVERY_SQL[milestone]
    tx.write(sql, delivery_id, sorted(set(organizations)), pickup_place_id, sorted(set(batch_ids)), at)


def see_request(
    tx: Transaction, request_id: UUID, *, version: int, at: datetime, organization_id: UUID, place_id: UUID, status: str,
    lines: Sequence[NeedLine],
) -> None:  # fmt: skip
    """Queue a request's snapshot; the newest version stays."""
    tx.write(_REQUEST, request_id, version, organization_id, place_id, status, at)
    names = ("line_id", "category", "unit", "needed", "reserved", "received")
    tx.write(_NEEDS, request_id, version, *([getattr(line, name) for line in lines] for name in names))
