"""How endpoints fare, in the small row beside each that claims go through."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from chassis.database import Row, Transaction

from webhooks.domain import EndpointStatus, Health

_LOAD = """SELECT g.endpoint_id, g.failures, g.exhausted, g.failing_from, g.failed_at, g.open_until, e.status, e.failing_percent
FROM webhook_gates g JOIN webhook_endpoints e ON e.id = g.endpoint_id
WHERE g.endpoint_id = ANY($1::uuid[]) ORDER BY g.endpoint_id FOR UPDATE OF g"""
_SAVE = """UPDATE webhook_gates g
SET failures = x.f, exhausted = x.x, failing_from = x.s, failed_at = x.l, open_until = x.o
FROM unnest($1::uuid[], $2::int[], $3::int[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[]) AS x(e, f, x, s, l, o)
WHERE g.endpoint_id = x.e"""
_HEAL = """UPDATE webhook_gates SET failures = 0, exhausted = 0, failing_from = NULL, failed_at = NULL, open_until = NULL
WHERE endpoint_id = $1"""


@dataclass(frozen=True, slots=True)
class Condition:
    """How an endpoint fares, and what its owner knows of it."""

    health: Health
    status: EndpointStatus
    failing_percent: int


async def conditions(tx: Transaction, endpoint_ids: Collection[UUID]) -> dict[UUID, Condition]:
    """How these endpoints fare, locked in one order so that two processes cannot deadlock."""
    return {row["endpoint_id"]: _condition(row) for row in await tx.fetch(_LOAD, list(endpoint_ids))}


def _condition(row: Row) -> Condition:
    health = Health(row["failures"], row["exhausted"], row["failing_from"], row["failed_at"], row["open_until"])
    return Condition(health, EndpointStatus(row["status"]), row["failing_percent"])


def save_health(tx: Transaction, healths: Mapping[UUID, Health]) -> None:
    """Queue how endpoints fare now."""
    found = list(healths.values())
    tx.write(
        _SAVE, list(healths), [one.failures for one in found], [one.exhausted for one in found],
        [one.failing_from for one in found], [one.failed_at for one in found], [one.open_until for one in found],
    )  # fmt: skip


def heal(tx: Transaction, endpoint_id: UUID) -> None:
    """Queue that an endpoint starts afresh: its owner did something about it."""
    tx.write(_HEAL, endpoint_id)
