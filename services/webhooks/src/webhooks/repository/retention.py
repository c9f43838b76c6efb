"""What is over is forgotten after 30 days, in short statements; what is held does not wait for ever."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from chassis.database import Transaction
from chassis.partitions import DailyTable, first_id_of

KEPT = timedelta(days=30)  # as far back as `recover` goes
HELD_MAX = timedelta(days=30)
CHUNK = 2_000  # rows looked at by one statement
HELD_TOO_LONG = "held-too-long"

_FIRST = UUID(int=0)
ATTEMPTS = DailyTable("webhook_attempts", column="id", kept_by="attempted_at", days_kept=KEPT.days)

# Both walk the primary key, a UUIDv7: what is older than the time to keep comes first. `due_at` of a message that is over
# is the moment when it was.
_MESSAGES = """WITH looked AS MATERIALIZED (
    SELECT id, status, due_at FROM webhook_messages WHERE id > $1 AND id < $2 ORDER BY id LIMIT $4),
gone AS (
    DELETE FROM webhook_messages m USING looked l
    WHERE m.id = l.id AND l.status IN ('delivered', 'exhausted', 'cancelled') AND l.due_at < $3
        AND m.status = l.status AND m.due_at = l.due_at)
SELECT id AS last FROM looked ORDER BY id DESC LIMIT 1"""
_EVENTS = """WITH looked AS MATERIALIZED (
    SELECT id, stored_at FROM webhook_events WHERE id > $1 AND id < $2 ORDER BY id LIMIT $4),
gone AS (
    DELETE FROM webhook_events v USING looked l
    WHERE v.id = l.id AND l.stored_at < $3 AND NOT EXISTS (SELECT FROM webhook_messages m WHERE m.event_id = v.id))
SELECT id AS last FROM looked ORDER BY id DESC LIMIT 1"""
_GIVE_UP_HELD = """UPDATE webhook_messages m SET status = 'exhausted', last_error = $3, due_at = now()
FROM (SELECT id FROM webhook_messages WHERE status = 'held' AND created_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED) h
WHERE m.id = h.id RETURNING m.id"""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """How far a round of forgetting has come in one of the two tables."""

    statement: str
    after: UUID = _FIRST

    @classmethod
    def round(cls) -> tuple[Forgetting, Forgetting]:
        """Messages first: an event goes when no message of it is left."""
        return cls(_MESSAGES), cls(_EVENTS)


async def forget(tx: Transaction, at: Forgetting, now: datetime) -> Forgetting | None:
    """Delete what is over among the next rows; None when the round is."""
    cutoff = now - KEPT
    last = await tx.fetchval(at.statement, at.after, first_id_of(cutoff.date()), cutoff, CHUNK)
    return None if last is None else Forgetting(at.statement, last)


async def give_up_held(tx: Transaction, now: datetime) -> int:
    """End some messages that were held for 30 days; they stay visible, with the reason, as others that were given up."""
    return len(await tx.fetch(_GIVE_UP_HELD, now - HELD_MAX, CHUNK, HELD_TOO_LONG))
