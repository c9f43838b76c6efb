"""Messages and their attempts: stored once, recorded together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from chassis.database import Transaction
from chassis.kernel import new_id

from webhooks.domain import Attempt, Decision, MessageStatus


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it goes out: `body` are the bytes that every attempt signs and sends."""

    id: UUID
    type: str
    subject: UUID
    version: int
    body: bytes
    traceparent: str | None
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Listener:
    """An endpoint that gets a message, whether it goes out now or is held, and whether in order or at once."""

    endpoint_id: UUID
    organization_id: UUID
    status: MessageStatus
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message to send now; ours until the lease ends. `attempts` were made before, `claimed_at` is monotonic.

    `is_ailing` when something failed since the endpoint last accepted anything; `is_paced` when it has a rate.
    """

    message_id: UUID
    lease_id: UUID
    attempts: int
    endpoint_id: UUID
    endpoint_version: int
    organization_id: UUID
    is_ailing: bool
    is_paced: bool
    ordered: bool
    subject: UUID
    event_id: UUID
    event_type: str
    body: bytes
    traceparent: str | None
    correlation_id: str
    claimed_at: float
    attempts_before: int = 0  # of these, made before a recovery began the schedule anew


@dataclass(frozen=True, slots=True)
class Attempted:
    """One finished attempt of a claimed message, and what follows from it."""

    id: UUID
    claimed: Claimed
    attempt: Attempt
    decision: Decision
    wait: timedelta  # until the next attempt, nothing when there is none
    started_at: datetime
    url: str
    request_head: Sequence[tuple[str, str]]


# ---------------------------------------------------------------- stored

# What goes to an endpoint that wants order waits a moment: another worker may be storing what came before it.
ORDER_GRACE_S = 0.25

_STORE_EVENT = """INSERT INTO webhook_events (id, type, subject, body, traceparent, correlation_id)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"""
_STORE_MESSAGES = """INSERT INTO webhook_messages (id, event_id, event_type, subject, aggregate_version, endpoint_id,
    organization_id, status, ordered, due_at, created_at)
SELECT i, $1, $2, $3, $4, e, o, s, q, CASE WHEN q AND $4 > 1 THEN now() + make_interval(secs => $10) ELSE now() END, now()
FROM unnest($5::uuid[], $6::uuid[], $7::uuid[], $8::text[], $9::boolean[]) AS x(i, e, o, s, q)
ON CONFLICT (event_id, endpoint_id) DO NOTHING"""
_STORE_GATES = "INSERT INTO webhook_gates (endpoint_id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING"


def store(tx: Transaction, event: StoredEvent, listeners: Sequence[Listener]) -> list[UUID]:
    """Queue the event once and a message per listener; what is there already stays. Returns the messages' ids."""
    ids = [new_id() for _ in listeners]
    endpoints = [listener.endpoint_id for listener in listeners]
    tx.write(
        _STORE_EVENT, event.id, event.type, event.subject, event.body, event.traceparent, event.correlation_id
    )  # fmt: skip
    tx.write(
        _STORE_MESSAGES, event.id, event.type, event.subject, event.version, ids, endpoints,
        [listener.organization_id for listener in listeners], [listener.status for listener in listeners],
        [listener.ordered for listener in listeners], ORDER_GRACE_S,
    )  # fmt: skip
    tx.write(_STORE_GATES, endpoints)
    return ids


_MAKE_DUE = "UPDATE webhook_messages SET status = 'pending', due_at = now() WHERE id = $1 AND status = $2"


def make_due(tx: Transaction, message_id: UUID, *, seen_as: MessageStatus) -> None:
    """Queue one more attempt for now; when the message moved on meanwhile, it is under way already and stays so."""
    tx.write(_MAKE_DUE, message_id, seen_as)


# ---------------------------------------------------------------- recorded

_LOG = """INSERT INTO webhook_attempts (id, message_id, endpoint_id, number, attempted_at, outcome, status, error, detail,
    duration_ms, url, request_head, response_head, response_body, response_truncated)
SELECT i, m, e, n, a, o, s, r, d, ms, u, q::jsonb, h::jsonb, b, t
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::timestamptz[], $6::text[], $7::int[], $8::text[],
    $9::text[], $10::int[], $11::text[], $12::text[], $13::text[], $14::bytea[], $15::boolean[])
    AS x(i, m, e, n, a, o, s, r, d, ms, u, q, h, b, t)
ON CONFLICT DO NOTHING"""
# A result that comes after its lease was given to another attempt is logged only; an acceptance counts whenever it comes.
_SETTLE = """UPDATE webhook_messages m SET status = x.s, attempts = x.n, due_at = now() + x.w, lease_id = NULL,
    last_status = x.c, last_error = x.e,
    delivered_at = CASE WHEN x.s = 'delivered' THEN coalesce(m.delivered_at, now()) ELSE m.delivered_at END
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::interval[], $6::int[], $7::text[]) AS x(i, l, s, n, w, c, e)
WHERE m.id = x.i AND (m.lease_id = x.l OR (x.s = 'delivered' AND m.status <> 'delivered'))
RETURNING m.id"""
# Of each subject the next that waits for nothing but its turn.
_NEXT_IN_ORDER = """UPDATE webhook_messages m SET due_at = now()
FROM unnest($1::uuid[], $2::uuid[]) AS x(e, s) CROSS JOIN LATERAL (
    SELECT n.id, n.due_at FROM webhook_messages n
    WHERE n.ordered AND n.status IN ('pending', 'retrying', 'delivering', 'held') AND n.status = 'pending'
        AND n.endpoint_id = x.e AND n.subject = x.s
    ORDER BY n.aggregate_version, n.id LIMIT 1) n
WHERE m.id = n.id AND m.status = 'pending' AND n.due_at > now()"""


def record(tx: Transaction, done: Sequence[Attempted]) -> None:
    """Queue the log rows of finished attempts and the state that follows for their messages."""
    log(tx, done)
    tx.write(_SETTLE, *_settlement(done))
    wake_next(tx, done)


def log(tx: Transaction, done: Sequence[Attempted]) -> None:
    """Queue the log rows of finished attempts."""
    pieces, attempts = [one.claimed for one in done], [one.attempt for one in done]
    tx.write(
        _LOG, [one.id for one in done], [piece.message_id for piece in pieces], [piece.endpoint_id for piece in pieces],
        [piece.attempts + 1 for piece in pieces], [one.started_at for one in done],
        [attempt.outcome for attempt in attempts], [attempt.status for attempt in attempts],
        [attempt.error for attempt in attempts], [attempt.detail for attempt in attempts],
        [attempt.duration_ms for attempt in attempts], [one.url for one in done],
        [_json(one.request_head) for one in done], [_json(attempt.response_head) for attempt in attempts],
        [attempt.response_body for attempt in attempts], [attempt.response_truncated for attempt in attempts],
    )  # fmt: skip


async def settle(tx: Transaction, done: Sequence[Attempted]) -> set[UUID]:
    """Give the messages the state that follows, now; returns those whose attempt counted."""
    return {row["id"] for row in await tx.fetch(_SETTLE, *_settlement(done))}


def wake_next(tx: Transaction, done: Sequence[Attempted]) -> None:
    """Queue that what waits for its turn behind these comes now."""
    ended = [one.claimed for one in done if one.claimed.ordered and one.decision.next_at is None]
    if ended:
        tx.write(_NEXT_IN_ORDER, [piece.endpoint_id for piece in ended], [piece.subject for piece in ended])


def _settlement(done: Sequence[Attempted]) -> tuple[list[object], ...]:
    return (
        [one.claimed.message_id for one in done], [one.claimed.lease_id for one in done],
        [one.decision.status for one in done], [one.claimed.attempts + 1 for one in done], [one.wait for one in done],
        [one.attempt.status for one in done], [one.attempt.error for one in done],
    )  # fmt: skip


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
