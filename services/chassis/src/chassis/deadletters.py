"""Dead letters: messages that had no effect and will not be tried again by themselves, kept with their reason."""

from __future__ import annotations

import hashlib
import re
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from chassis import audit
from chassis.broker import Incoming
from chassis.database import Row, Transaction, under_locks
from chassis.kernel import Conflict, NotFound, new_id
from chassis.telemetry import DEAD_LETTERS, log

STACK_CHARS_MAX = 16_000
MESSAGE_CHARS_MAX = 2_000

# The same message failing again is the same dead letter: a redriven one is open again. What waits to be sent is still
# to be sent, and what an operator discarded stays so.
_KEEP = """INSERT INTO dead_letters AS d (id, consumer, queue, message_id, headers, body, reason, error_type, error_message,
    error_stack, fingerprint, attempts, first_failed_at, last_failed_at, stream_id, version, status)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8, $9, $10, $11, $12, $13, $13, $14, $15, 'open')
ON CONFLICT (message_id, consumer, queue, sha256(body)) DO UPDATE SET headers = excluded.headers, reason = excluded.reason,
    error_type = excluded.error_type, error_message = excluded.error_message, error_stack = excluded.error_stack,
    fingerprint = excluded.fingerprint, attempts = excluded.attempts, last_failed_at = excluded.last_failed_at,
    status = CASE WHEN d.status = 'discarded' OR (d.status = 'redriving' AND d.sent_at IS NULL) THEN d.status
        ELSE 'open' END"""

# A redrive sends a message under its own id; one whose id is none of ours cannot have come from an outbox.
UUID_PATTERN = "'^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"
CHOSEN = """status = 'open' AND ($1::uuid[] IS NULL OR id = ANY($1)) AND ($2::text IS NULL OR fingerprint = $2)
    AND ($3::text IS NULL OR consumer = $3)"""
_SHOWN = """id, consumer, queue, message_id, reason, error_type, error_message, fingerprint, attempts, first_failed_at,
    last_failed_at, status, redrives, job_id, actor, note"""
_MANY = f"""SELECT {_SHOWN} FROM dead_letters WHERE (cardinality($1::text[]) = 0 OR status = ANY($1))
    AND ($2::text IS NULL OR consumer = $2) AND ($3::text IS NULL OR fingerprint = $3) AND ($4::uuid IS NULL OR id < $4)
ORDER BY id DESC LIMIT $5"""
_ONE = f"SELECT {_SHOWN}, headers, body, error_stack FROM dead_letters WHERE id = $1"
_GROUPS = """SELECT fingerprint, min(consumer) AS consumer, min(error_type) AS error_type, count(*) AS count,
    min(first_failed_at) AS first_failed_at, max(last_failed_at) AS last_failed_at,
    (array_agg(error_message ORDER BY last_failed_at DESC))[1] AS sample_message
FROM dead_letters WHERE (cardinality($1::text[]) = 0 OR status = ANY($1)) AND ($2::text IS NULL OR consumer = $2)
    AND ($3::text IS NULL OR fingerprint > $3)
GROUP BY fingerprint ORDER BY fingerprint LIMIT $4"""
_PLAN = f"""SELECT count(*) AS count, count(*) FILTER (WHERE NOT (queue = ANY($4::text[]) AND message_id ~ {UUID_PATTERN}))
    AS not_redrivable FROM dead_letters WHERE {CHOSEN}"""
_DISCARD = f"""WITH gone AS (UPDATE dead_letters SET status = 'discarded', actor = $4, note = $5 WHERE {CHOSEN} RETURNING 1)
SELECT count(*) FROM gone"""


DAYS_KEPT = 90  # of what is settled; what is open stays for ever
_FORGET = """DELETE FROM dead_letters WHERE status IN ('resolved', 'discarded')
AND last_failed_at < now() - make_interval(days => $1)"""


class DeadLetterNotFound(NotFound):
    """There is no such dead letter."""

    slug = "dead-letter-not-found"


class CountChanged(Conflict):
    """More or fewer dead letters fit the filter than the plan said: plan again."""

    slug = "count-changed"


@dataclass(frozen=True)
class Chosen:
    """Which open dead letters an act is about: those that fit everything given; nothing given means all."""

    ids: Sequence[UUID] | None = None
    fingerprint: str | None = None
    consumer: str | None = None

    @property
    def arguments(self) -> tuple[list[UUID] | None, str | None, str | None]:
        """The first three of every statement with `CHOSEN`."""
        return None if self.ids is None else list(self.ids), self.fingerprint, self.consumer

    def told(self) -> dict[str, Any]:
        """What was given."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Confirmed:
    """An act on dead letters as its operator confirmed it."""

    chosen: Chosen
    expected_count: int
    reason: str
    actor_id: UUID


def fingerprint_of(consumer: str, error: BaseException) -> str:
    """The same for the same fault: consumer, error class and the innermost place, without ids and numbers."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].name}" if frames else ""
    message = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "#", str(error))[:200]
    return hashlib.sha256(f"{consumer}|{type(error).__name__}|{place}|{message}".encode()).hexdigest()[:16]


def keep(
    tx: Transaction,
    message: Incoming,
    error: BaseException,
    *,
    consumer: str,
    queue: str,
    reason: str,
    attempts: int,
    now: datetime,
    stream: tuple[UUID, int] | None = None,
) -> None:
    """Queue the dead letter's row; the message may be acknowledged once this is committed.

    `stream` is the aggregate and version it is about: a gated consumer holds back what follows until it is dealt with.
    """
    tx.write(
        _KEEP,
        new_id(),
        consumer,
        queue,
        message.message_id,
        msgspec.json.encode(dict(message.headers), enc_hook=str).decode(),
        message.body,
        reason,
        type(error).__name__,
        str(error)[:MESSAGE_CHARS_MAX].replace("\x00", ""),
        "".join(traceback.format_exception(error))[-STACK_CHARS_MAX:].replace("\x00", ""),
        fingerprint_of(consumer, error),
        attempts,
        now,
        *(stream or (None, None)),
    )
    DEAD_LETTERS.labels(consumer).inc()
    log.error("message.dead", consumer=consumer, message_id=message.message_id, reason=reason, error=repr(error))


def forget_settled(tx: Transaction) -> None:
    """Queue the removal of what was resolved or discarded long ago."""
    tx.write(_FORGET, DAYS_KEPT)


async def many(
    tx: Transaction, *, status: Sequence[str], consumer: str | None, fingerprint: str | None, before: UUID | None, limit: int
) -> list[Row]:  # fmt: skip
    """The newest first; one more than `limit` when there are more."""
    return await tx.fetch(_MANY, list(status), consumer, fingerprint, before, limit + 1)


async def groups(
    tx: Transaction, *, status: Sequence[str], consumer: str | None, after: str | None, limit: int
) -> list[Row]:
    """One row per fault, by fingerprint; one more than `limit` when there are more."""
    return await tx.fetch(_GROUPS, list(status), consumer, after, limit + 1)


async def one(tx: Transaction, dead_letter_id: UUID) -> Row:
    """All that is known of a dead letter."""
    row = await tx.fetchrow(_ONE, dead_letter_id)
    if row is None:
        raise DeadLetterNotFound
    return row


async def plan(tx: Transaction, chosen: Chosen, *, queues: Sequence[str]) -> Row:
    """How many an act would be about, and how many of them no redrive can bring back to one of `queues`."""
    row = await tx.fetchrow(_PLAN, *chosen.arguments, list(queues))
    if row is None:
        raise AssertionError("a count is always a row")
    return row


async def discard(tx: Transaction, act: Confirmed, *, now: datetime) -> int:
    """Close those chosen without an effect; returns how many, which is what was expected."""
    under_locks(tx)
    count: int = await tx.fetchval(_DISCARD, *act.chosen.arguments, str(act.actor_id), act.reason)
    expect(act.expected_count, count)
    audit.record(
        tx, "dead-letters.discard", actor_id=act.actor_id, now=now, wanted=act.chosen.told(), count=count,
        reason=act.reason,
    )  # fmt: skip
    return count


def expect(expected: int, count: int) -> None:
    """Raise `CountChanged` unless the act is about as many as were confirmed."""
    if count != expected:
        raise CountChanged(f"{count} fit, not {expected}", expected_count=expected, count=count)
