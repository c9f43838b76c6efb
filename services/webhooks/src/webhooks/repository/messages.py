"""Messages and their attempts: stored once, claimed under a lease, recorded together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from chassis.database import Row, Transaction
from chassis.kernel import new_id

from webhooks.domain import Attempt, Decision, MessageStatus

RELEASED_MAX = (
    1_000  # held messages of one endpoint let go at a time; a backlog of a million takes many short statements
)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it goes out: `body` are the bytes that every attempt signs and sends."""

    id: UUID
    type: str
    subject: UUID
    body: bytes
    traceparent: str | None
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Listener:
    """An endpoint that gets a message, and whether it goes out now or is held."""

    endpoint_id: UUID
    organization_id: UUID
    status: MessageStatus


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message to send now; ours until the lease ends. `attempts` were made before, `claimed_at` is monotonic."""

    message_id: UUID
    lease_id: UUID
    attempts: int
    endpoint_id: UUID
    endpoint_version: int
    event_id: UUID
    event_type: str
    body: bytes
    traceparent: str | None
    correlation_id: str
    claimed_at: float


@dataclass(frozen=True, slots=True)
class Attempted:
    """One finished attempt of a claimed message, and what follows from it."""

    claimed: Claimed
    attempt: Attempt
    decision: Decision
    wait: timedelta  # until the next attempt, nothing when there is none
    started_at: datetime
    url: str
    request_head: Sequence[tuple[str, str]]


# ---------------------------------------------------------------- stored

_STORE_EVENT = """INSERT INTO webhook_events (id, type, subject, body, traceparent, correlation_id)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"""
_STORE_MESSAGES = """INSERT INTO webhook_messages
    (id, event_id, event_type, subject, endpoint_id, organization_id, status, due_at, created_at)
SELECT i, $1, $2, $3, e, o, s, now(), now() FROM unnest($4::uuid[], $5::uuid[], $6::uuid[], $7::text[]) AS x(i, e, o, s)
ON CONFLICT (endpoint_id, event_id) DO NOTHING"""


def store(tx: Transaction, event: StoredEvent, listeners: Sequence[Listener]) -> list[UUID]:
    """Queue the event once and a message per listener; what is there already stays. Returns the messages' ids."""
    ids = [new_id() for _ in listeners]
    tx.write(
        _STORE_EVENT, event.id, event.type, event.subject, event.body, event.traceparent, event.correlation_id
    )  # fmt: skip
    tx.write(
        _STORE_MESSAGES, event.id, event.type, event.subject, ids, [listener.endpoint_id for listener in listeners],
        [listener.organization_id for listener in listeners], [listener.status for listener in listeners],
    )  # fmt: skip
    return ids


_MAKE_DUE = "UPDATE webhook_messages SET status = 'pending', due_at = now() WHERE id = $1 AND status = $2"


def make_due(tx: Transaction, message_id: UUID, *, seen_as: MessageStatus) -> None:
    """Queue one more attempt for now; when the message moved on meanwhile, it is under way already and stays so."""
    tx.write(_MAKE_DUE, message_id, seen_as)


# ---------------------------------------------------------------- claimed

# Both walk from endpoint to endpoint through an index ("loose index scan"), so that the cost grows with the number of
# endpoints that have work, never with the length of one endpoint's backlog.
_CLAIM = """WITH RECURSIVE waiting(endpoint_id) AS (
    (SELECT endpoint_id FROM webhook_messages WHERE status IN ('pending', 'retrying', 'delivering')
     ORDER BY endpoint_id LIMIT 1)
    UNION ALL
    SELECT (SELECT m.endpoint_id FROM webhook_messages m
            WHERE m.status IN ('pending', 'retrying', 'delivering') AND m.endpoint_id > w.endpoint_id
            ORDER BY m.endpoint_id LIMIT 1)
    FROM waiting w WHERE w.endpoint_id IS NOT NULL),
due AS MATERIALIZED (
    SELECT m.id, m.due_at, e.status, e.version, e.timeout_s,
        row_number() OVER (PARTITION BY e.id ORDER BY m.due_at, m.id) AS turn
    FROM waiting w JOIN webhook_endpoints e ON e.id = w.endpoint_id CROSS JOIN LATERAL (
        SELECT d.id, d.due_at FROM webhook_messages d
        WHERE d.endpoint_id = e.id AND d.status IN ('pending', 'retrying', 'delivering') AND d.due_at <= now()
        ORDER BY d.due_at, d.id
        LIMIT greatest(0, $2 - (
            SELECT count(*) FROM webhook_messages b
            WHERE b.endpoint_id = e.id AND b.status = 'delivering' AND b.due_at > now()))
        FOR UPDATE SKIP LOCKED) m),
turns AS (SELECT * FROM due ORDER BY turn, due_at LIMIT $1)
UPDATE webhook_messages m SET lease_id = $3,
    status = CASE WHEN t.status IN ('active', 'failing') THEN 'delivering'
        WHEN t.status = 'deleted' THEN 'cancelled' ELSE 'held' END,
    due_at = CASE WHEN t.status IN ('active', 'failing') THEN now() + make_interval(secs => t.timeout_s + $4)
        ELSE m.due_at END
FROM turns t, webhook_events v
WHERE m.id = t.id AND v.id = m.event_id
RETURNING m.status, m.id AS message_id, m.lease_id, m.attempts, m.endpoint_id, t.version AS endpoint_version, m.event_id,
    m.event_type, v.body, v.traceparent, v.correlation_id"""


async def claim(tx: Transaction, count: int, *, slots_per_endpoint: int, margin_s: float) -> list[Claimed]:
    """Lease due messages, one of each endpoint before the second of any, at most so many of one endpoint at once.

    A lease lasts the endpoint's time limit and the margin. Due messages of endpoints that are not sent to are held.
    """
    claimed_at = time.monotonic()
    rows = await tx.fetch(_CLAIM, count, slots_per_endpoint, new_id(), margin_s)
    return [_claimed(row, claimed_at) for row in rows if row["status"] == MessageStatus.DELIVERING]


def _claimed(row: Row, claimed_at: float) -> Claimed:
    return Claimed(**{name: value for name, value in row.items() if name != "status"}, claimed_at=claimed_at)


_RELEASE = """WITH RECURSIVE holding(endpoint_id) AS (
    (SELECT endpoint_id FROM webhook_messages WHERE status = 'held' ORDER BY endpoint_id LIMIT 1)
    UNION ALL
    SELECT (SELECT m.endpoint_id FROM webhook_messages m WHERE m.status = 'held' AND m.endpoint_id > h.endpoint_id
            ORDER BY m.endpoint_id LIMIT 1)
    FROM holding h WHERE h.endpoint_id IS NOT NULL)
UPDATE webhook_messages m SET status = CASE WHEN f.status = 'deleted' THEN 'cancelled' ELSE 'pending' END, due_at = now()
FROM (
    SELECT l.id, e.status FROM holding h
    JOIN webhook_endpoints e ON e.id = h.endpoint_id AND e.status NOT IN ('paused', 'disabled')
    CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_messages d WHERE d.endpoint_id = e.id AND d.status = 'held'
        ORDER BY d.id LIMIT $1 FOR UPDATE SKIP LOCKED) l) f
WHERE m.id = f.id"""


async def release(tx: Transaction) -> None:
    """Let go of some held messages of endpoints that are sent to again; call until none is left, in any process."""
    await tx.fetch(_RELEASE, RELEASED_MAX)


# ---------------------------------------------------------------- recorded

_LOG = """INSERT INTO webhook_attempts (id, message_id, endpoint_id, number, attempted_at, outcome, status, error, detail,
    duration_ms, url, request_head, response_head, response_body, response_truncated)
SELECT i, m, e, n, a, o, s, r, d, ms, u, q::jsonb, h::jsonb, b, t
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::timestamptz[], $6::text[], $7::int[], $8::text[],
    $9::text[], $10::int[], $11::text[], $12::text[], $13::text[], $14::bytea[], $15::boolean[])
    AS x(i, m, e, n, a, o, s, r, d, ms, u, q, h, b, t)"""
# A result that comes after its lease was given to another attempt is logged only; an acceptance counts whenever it comes.
_SETTLE = """UPDATE webhook_messages m SET status = x.s, attempts = x.n, due_at = now() + x.w, lease_id = NULL,
    last_status = x.c, last_error = x.e,
    delivered_at = CASE WHEN x.s = 'delivered' THEN coalesce(m.delivered_at, now()) ELSE m.delivered_at END
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::interval[], $6::int[], $7::text[]) AS x(i, l, s, n, w, c, e)
WHERE m.id = x.i AND (m.lease_id = x.l OR (x.s = 'delivered' AND m.status <> 'delivered'))"""


def record(tx: Transaction, done: Sequence[Attempted]) -> None:
    """Queue the log rows of finished attempts and the state that follows for their messages."""
    pieces, attempts = [one.claimed for one in done], [one.attempt for one in done]
    messages, numbers = [piece.message_id for piece in pieces], [piece.attempts + 1 for piece in pieces]
    codes, errors = [attempt.status for attempt in attempts], [attempt.error for attempt in attempts]
    tx.write(
        _LOG, [new_id() for _ in done], messages, [piece.endpoint_id for piece in pieces], numbers,
        [one.started_at for one in done], [attempt.outcome for attempt in attempts], codes, errors,
        [attempt.detail for attempt in attempts], [attempt.duration_ms for attempt in attempts],
        [one.url for one in done], [_json(one.request_head) for one in done],
        [_json(attempt.response_head) for attempt in attempts], [attempt.response_body for attempt in attempts],
        [attempt.response_truncated for attempt in attempts],
    )  # fmt: skip
    tx.write(
        _SETTLE, messages, [piece.lease_id for piece in pieces], [one.decision.status for one in done], numbers,
        [one.wait for one in done], codes, errors,
    )  # fmt: skip


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
