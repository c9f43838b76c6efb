"""Lets go of what belongs to catalogue loads that are over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chassis.database import Transaction

FORGOTTEN_AT_ONCE = 20_000  # rows of one transaction: some hundred milliseconds

# Of loads that are over: what failed can be tried again as long as its chunk is kept.
_FORGET = """WITH old AS MATERIALIZED (
    SELECT t.ctid FROM catalogue_loads l JOIN {table} t ON t.load_id = l.id WHERE l.received_at < $1
    AND l.status IN ('applied', 'applied_with_errors', 'rejected', 'failed', 'cancelled') LIMIT $2),
gone AS (DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM old)) RETURNING 1)
SELECT count(*) FROM gone"""
CHUNK_TABLES = ("catalogue_chunks", "catalogue_duplicates", "catalogue_missing")
REJECT_TABLES = ("catalogue_rejects",)
_RUNNING = "SELECT load_id FROM catalogue_runs WHERE load_id = ANY($1::uuid[])"


async def forget(tx: Transaction, table: str, *, before: datetime) -> bool:
    """Let go of some rows of loads that came before a moment and are over; whether there may be more."""
    count: int = await tx.fetchval(_FORGET.format(table=table), before, FORGOTTEN_AT_ONCE)
    return count == FORGOTTEN_AT_ONCE


async def running(tx: Transaction, load_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the loads that are not over."""
    return {row["load_id"] for row in await tx.fetch(_RUNNING, load_ids)}
