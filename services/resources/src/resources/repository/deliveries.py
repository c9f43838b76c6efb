"""What resources knows of deliveries: where each is, for which request, and what of it was handed over to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import msgspec
from chassis.database import Transaction

_KNOWN = """SELECT delivery_id, status, request_id, receiving_organization_id, provider_ids, lines
FROM known_deliveries WHERE delivery_id = $1"""
_KEEP = """INSERT INTO known_deliveries (delivery_id, status, request_id, receiving_organization_id, provider_ids, lines)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb)
ON CONFLICT (delivery_id) DO UPDATE SET status = excluded.status, request_id = excluded.request_id,
    receiving_organization_id = excluded.receiving_organization_id, provider_ids = excluded.provider_ids,
    lines = excluded.lines"""
_PROMISED_WITH = """SELECT DISTINCT request_id FROM reservations
WHERE delivery_id = $1 AND status = 'in_delivery' ORDER BY request_id"""


@dataclass(slots=True)
class HandedOver:
    """Of one line: what was handed over so far, and what of that to the organization that asked."""

    gtin: str | None = None
    told: int = 0
    here: int = 0


@dataclass(slots=True, kw_only=True)
class KnownDelivery:
    """A delivery as its newest event told it."""

    delivery_id: UUID
    status: str
    request_id: UUID | None
    receiving_organization_id: UUID
    provider_ids: Sequence[UUID]
    lines: dict[UUID, HandedOver] = field(default_factory=dict)


async def known_delivery(tx: Transaction, delivery_id: UUID) -> KnownDelivery | None:
    """What is known of a delivery, or None."""
    row = await tx.fetchrow(_KNOWN, delivery_id)
    if row is None:
        return None
    lines = {UUID(line_id): msgspec.convert(line, HandedOver) for line_id, line in row["lines"].items()}
    return KnownDelivery(**{**dict(row), "lines": lines})


def keep_delivery(tx: Transaction, delivery: KnownDelivery) -> None:
    """Queue what is known now."""
    lines = msgspec.json.encode(delivery.lines).decode()
    tx.write(
        _KEEP, delivery.delivery_id, delivery.status, delivery.request_id, delivery.receiving_organization_id,
        list(delivery.provider_ids), lines,
    )  # fmt: skip


async def requests_promised_with(tx: Transaction, delivery_id: UUID) -> list[UUID]:
    """Requests of which a promise set out with the delivery."""
    return [row["request_id"] for row in await tx.fetch(_PROMISED_WITH, delivery_id)]
