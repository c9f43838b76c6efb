"""Lets go of what belongs to catalogue loads that are over."""

from __future__ import annotations

from datetime import datetime

from chassis.database import Transaction

FORGOTTEN_AT_ONCE = 500  # loads of one transaction

# Of loads that are over: what failed can be tried again as long as its chunk is kept.
_OLD = """SELECT l.id FROM catalogue_loads l WHERE l.received_at < $1
AND l.status IN ('applied', 'applied_with_errors', 'rejected', 'failed', 'cancelled')
AND EXISTS (SELECT FROM {} t WHERE t.load_id = l.id) ORDER BY l.received_at LIMIT $2"""
_FORGET_CHUNKS = f"""WITH old AS ({_OLD.format("catalogue_chunks")}),
chunks AS (DELETE FROM catalogue_chunks WHERE load_id IN (SELECT id FROM old)),
duplicates AS (DELETE FROM catalogue_duplicates WHERE load_id IN (SELECT id FROM old)),
missing AS (DELETE FROM catalogue_missing WHERE load_id IN (SELECT id FROM old))
SELECT count(*) FROM old"""
_FORGET_REJECTS = f"""WITH old AS ({_OLD.format("catalogue_rejects")}),
rejects AS (DELETE FROM catalogue_rejects WHERE load_id IN (SELECT id FROM old)) SELECT count(*) FROM old"""


async def forget_chunks(tx: Transaction, *, before: datetime) -> int:
    """Let go of the chunks of loads that came before a moment and are over; of how many loads."""
    count: int = await tx.fetchval(_FORGET_CHUNKS, before, FORGOTTEN_AT_ONCE)
    return count


async def forget_rejects(tx: Transaction, *, before: datetime) -> int:
    """Let go of the rejects of loads that came before a moment and are over; of how many loads."""
    count: int = await tx.fetchval(_FORGET_REJECTS, before, FORGOTTEN_AT_ONCE)
    return count
