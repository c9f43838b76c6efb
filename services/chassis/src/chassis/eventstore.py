"""The event store: streams of facts, appended with an expected version, read by stream or by position."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from chassis.database import Row, Transaction
from chassis.kernel import stored_type
from chassis.telemetry import current_context

STREAM_EVENTS_MAX = 100_000  # a stream longer than this is a modelling mistake; reading it whole would hurt
PAGE_EVENTS_MAX = 5_000  # one page of the whole store

_APPEND = """INSERT INTO events (stream_id, version, event_id, type, data, meta, occurred_at)
SELECT $1, v, e, t, d::jsonb, $6::text::jsonb, $7 FROM unnest($2::int[], $3::uuid[], $4::text[], $5::text[]) AS x(v, e, t, d)"""


def append(
    tx: Transaction,
    stream_id: UUID,
    *,
    expected_version: int,
    ids: Sequence[UUID],
    events: Sequence[Any],
    now: datetime,
) -> None:
    """Queue events after `expected_version`; another writer's event there makes the transaction a `ConcurrentUpdate`."""
    context = current_context()
    meta = {
        "actor_id": context.actor_id,
        "correlation_id": context.correlation_id,
        "causation_id": context.causation_id,
        "request_id": context.request_id,
        "address": context.address,
        "traceparent": context.traceparent,
    }
    tx.write(
        _APPEND,
        stream_id,
        list(range(expected_version + 1, expected_version + 1 + len(events))),
        list(ids),
        [stored_type(type(event)) for event in events],
        [msgspec.json.encode(event).decode() for event in events],
        msgspec.json.encode({k: v for k, v in meta.items() if v is not None}).decode(),
        now,
    )


async def load(tx: Transaction, stream_id: UUID, *, until: datetime | None = None) -> list[Row]:
    """A stream's events, oldest first: version, event_id, type, data, meta, occurred_at."""
    return await tx.fetch(
        "SELECT version, event_id, type, data, meta, occurred_at FROM events WHERE stream_id = $1"
        " AND ($2::timestamptz IS NULL OR occurred_at <= $2) ORDER BY version LIMIT $3",
        stream_id,
        until,
        STREAM_EVENTS_MAX,
    )


async def read_all(
    tx: Transaction, *, after: tuple[int, int, int] = (0, 0, 0), limit: int = PAGE_EVENTS_MAX
) -> list[Row]:
    """Every stream's events after a position (epoch, tx, seq), in an order that never gains a row behind a reader.

    Only transactions older than every running one are shown: what commits later also sorts later.
    """
    return await tx.fetch(
        "SELECT epoch, tx::text::bigint AS tx, seq, stream_id, version, event_id, type, data, meta, occurred_at FROM events"
        " WHERE (epoch, tx, seq) > ($1, $2::text::xid8, $3) AND tx < pg_snapshot_xmin(pg_current_snapshot())"
        " ORDER BY epoch, tx, seq LIMIT $4",
        after[0],
        str(after[1]),
        after[2],
        min(limit, PAGE_EVENTS_MAX),
    )
