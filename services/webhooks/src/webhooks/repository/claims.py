"""Who sends what now: messages are leased through the gates of their endpoints; what stuck or was held comes back."""

from __future__ import annotations

import time
from collections.abc import Collection
from uuid import UUID

from chassis.database import Row, Transaction
from chassis.kernel import new_id

from webhooks.domain import BREAKER_FAILURES, MessageStatus
from webhooks.repository.messages import Claimed

# A backlog of a million takes many short statements.
RELEASED_MAX = 1_000  # held messages of one endpoint let go at a time
SWEPT_MAX = 1_000  # lapsed leases taken back at a time
BURST_S = 0.1  # of a rate's allowance that may go out at once, one message at least
LOOKED_AHEAD = 20  # times the free slots: so far a claim looks past what waits for its turn in an ordered endpoint
ORDER_LOOK_S = 1.0  # a message behind one that is not under way looks again after this, unless it is woken

# `waiting` walks from endpoint to endpoint through an index ("loose index scan"), so that the cost grows with the number
# of endpoints that have work, never with the length of one endpoint's backlog.
# `doors`: whoever claims for an endpoint locks its gate and moves `claims` on. Another process that looked at the same
# moment finds the gate locked or moved and passes by, so that slots, rate and probe hold over all processes.
# `behind`: what an ordered message has to wait for.
_WAITING = """WITH RECURSIVE waiting(endpoint_id, due_at) AS (
    (SELECT endpoint_id, due_at FROM webhook_messages WHERE status IN ('pending', 'retrying')
     ORDER BY endpoint_id, due_at LIMIT 1)
    UNION ALL
    SELECT n.endpoint_id, n.due_at FROM waiting w CROSS JOIN LATERAL (
        SELECT m.endpoint_id, m.due_at FROM webhook_messages m
        WHERE m.status IN ('pending', 'retrying') AND m.endpoint_id > w.endpoint_id
        ORDER BY m.endpoint_id, m.due_at LIMIT 1) n)"""
_CLAIM = f"""{_WAITING},
doors AS MATERIALIZED (
    SELECT e.id, e.organization_id, e.version, e.timeout_s, e.ordered, e.rate_per_s, e.status = 'deleted' AS is_gone,
        e.status IN ('active', 'failing') AS is_open,
        e.status = 'failing' OR g.failures > 0 OR g.exhausted > 0 OR g.failing_from IS NOT NULL AS is_ailing,
        CASE WHEN e.status NOT IN ('active', 'failing') THEN $1 ELSE least(
            CASE WHEN g.failures >= {BREAKER_FAILURES} THEN 1 ELSE $2 END - (
                SELECT count(*) FROM webhook_messages b WHERE b.endpoint_id = e.id AND b.status = 'delivering'),
            CASE WHEN e.rate_per_s IS NULL THEN $2 ELSE floor(0.01 + e.rate_per_s * extract(epoch FROM now() - greatest(
                g.paid_until, now() - make_interval(secs => greatest(1.0 / e.rate_per_s, {BURST_S}))))) END)::int
        END AS room
    FROM waiting w JOIN webhook_endpoints e ON e.id = w.endpoint_id
    JOIN webhook_gates seen ON seen.endpoint_id = e.id
    JOIN webhook_gates g ON g.endpoint_id = seen.endpoint_id AND g.claims = seen.claims
    WHERE w.due_at <= now() AND e.organization_id <> ALL($5::uuid[])
        AND (g.open_until IS NULL OR g.open_until <= now() OR e.status NOT IN ('active', 'failing'))
    FOR UPDATE OF g SKIP LOCKED),
due AS MATERIALIZED (
    SELECT m.id, m.due_at, d.id AS endpoint_id, d.organization_id, d.version, d.timeout_s, d.rate_per_s, d.is_gone,
        d.is_open, d.is_ailing, d.room, behind.look_at
    FROM doors d CROSS JOIN LATERAL (
        SELECT c.id, c.due_at, c.ordered, c.subject, c.aggregate_version FROM webhook_messages c
        WHERE c.endpoint_id = d.id AND c.status IN ('pending', 'retrying') AND c.due_at <= now()
        ORDER BY c.due_at, c.id LIMIT greatest(0, d.room) * CASE WHEN d.ordered THEN {LOOKED_AHEAD} ELSE 1 END
        FOR UPDATE SKIP LOCKED) m
    LEFT JOIN LATERAL (
        SELECT greatest(now() + make_interval(secs => {ORDER_LOOK_S}), b.due_at) AS look_at FROM webhook_messages b
        WHERE m.ordered AND d.is_open AND b.endpoint_id = d.id AND b.subject = m.subject AND b.ordered
            AND b.status IN ('pending', 'retrying', 'delivering', 'held')
            AND (b.aggregate_version, b.id) < (m.aggregate_version, m.id)
        ORDER BY b.aggregate_version, b.id LIMIT 1) behind ON true),
ready AS (
    SELECT *, row_number() OVER (PARTITION BY endpoint_id ORDER BY due_at, id) AS turn FROM due WHERE look_at IS NULL),
chosen AS MATERIALIZED (
    SELECT * FROM (
        SELECT *, row_number() OVER (PARTITION BY organization_id ORDER BY turn, due_at) AS round FROM ready
        WHERE turn <= room) r
    ORDER BY round, turn, due_at LIMIT $1),
parked AS (
    UPDATE webhook_messages m SET due_at = d.look_at FROM due d WHERE m.id = d.id AND d.look_at IS NOT NULL),
passed AS (
    UPDATE webhook_gates g SET claims = g.claims + 1, paid_until = CASE WHEN c.rate_per_s IS NULL THEN g.paid_until
        ELSE greatest(g.paid_until, now() - make_interval(secs => greatest(1.0 / c.rate_per_s, {BURST_S})))
            + make_interval(secs => c.taken::float8 / c.rate_per_s) END
    FROM (SELECT endpoint_id, rate_per_s, count(*) AS taken FROM chosen WHERE is_open GROUP BY 1, 2) c
    WHERE g.endpoint_id = c.endpoint_id)
UPDATE webhook_messages m SET lease_id = $3,
    status = CASE WHEN t.is_open THEN 'delivering' WHEN t.is_gone THEN 'cancelled' ELSE 'held' END,
    due_at = CASE WHEN t.is_open THEN now() + make_interval(secs => t.timeout_s + $4) ELSE m.due_at END
FROM chosen t, webhook_events v
WHERE m.id = t.id AND v.id = m.event_id
RETURNING m.status, m.id AS message_id, m.lease_id, m.attempts, m.attempts_before, m.endpoint_id, t.version AS endpoint_version,
    t.organization_id, t.is_ailing, t.rate_per_s IS NOT NULL AS is_paced, m.ordered, m.subject, m.event_id, m.event_type,
    v.body, v.traceparent, v.correlation_id"""


async def claim(
    tx: Transaction, count: int, *, slots_per_endpoint: int, margin_s: float, without: Collection[UUID] = ()
) -> list[Claimed]:
    """Lease due messages, fairly: one of each organization before the second of any, and so over its endpoints.

    At most so many of one endpoint at once, one while its breaker probes, none while that is open, no more than its
    rate, and none of the organizations in `without`. A lease lasts the endpoint's time limit and the margin. Due
    messages of endpoints that are not sent to are held.
    """
    claimed_at = time.monotonic()
    rows = await tx.fetch(_CLAIM, count, slots_per_endpoint, new_id(), margin_s, list(without))
    return [_claimed(row, claimed_at) for row in rows if row["status"] == MessageStatus.DELIVERING]


def _claimed(row: Row, claimed_at: float) -> Claimed:
    return Claimed(**{name: value for name, value in row.items() if name != "status"}, claimed_at=claimed_at)


_SWEEP = """UPDATE webhook_messages m SET status = CASE WHEN m.attempts = 0 THEN 'pending' ELSE 'retrying' END, due_at = now()
FROM (SELECT id FROM webhook_messages WHERE status = 'delivering' AND due_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED) s
WHERE m.id = s.id"""
# Storing a message makes its endpoint's gate; one that is missing all the same must not hold messages for ever.
_OPEN_GATES = f"""{_WAITING}
INSERT INTO webhook_gates (endpoint_id) SELECT w.endpoint_id FROM waiting w
WHERE NOT EXISTS (SELECT FROM webhook_gates g WHERE g.endpoint_id = w.endpoint_id) ON CONFLICT DO NOTHING"""
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


async def sweep(tx: Transaction) -> None:
    """Take back messages whose lease is over: whoever had them is gone or stands still. No attempt is counted."""
    await tx.fetch(_SWEEP, SWEPT_MAX)
    await tx.fetch(_OPEN_GATES)


async def release(tx: Transaction) -> None:
    """Let go of some held messages of endpoints that are sent to again; call until none is left, in any process."""
    await tx.fetch(_RELEASE, RELEASED_MAX)
