"""The event store: streams of facts, appended with an expected version, read by stream or by position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

import msgspec

from chassis.database import Row, Transaction
from chassis.kernel import stored_type
from chassis.telemetry import Context, continue_context, current_context

STREAM_EVENTS_MAX = 100_000  # a stream longer than this is a modelling mistake; reading it whole would hurt
PAGE_EVENTS_MAX = 5_000  # one page of the whole store
COUNTED_EVENTS_MAX = 1_000_000  # more than these are estimated: a count is a scan

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
        "client_time": context.client_time,
        "after": expected_version,  # so that two saves of one transaction are known as two
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


def context_of(meta: Mapping[str, Any]) -> Context:
    """The context in which an event was appended, as far as its envelope tells it."""
    return replace(
        continue_context(
            meta.get("traceparent"), correlation_id=meta["correlation_id"], causation_id=meta.get("causation_id")
        ),
        actor_id=meta.get("actor_id"),
    )


def saves(rows: Iterable[Row]) -> list[list[Row]]:
    """Events in the order of their streams, those that one command appended to a stream together."""
    return [list(together) for _, together in groupby(rows, key=itemgetter("stream_id", "tx", "occurred_at", "meta"))]


async def load(tx: Transaction, stream_id: UUID, *, until: datetime | None = None) -> list[Row]:
    """A stream's events, oldest first: stream_id, version, event_id, type, data, meta, tx, occurred_at.

    `until` cuts the stream, never holes into it: a command that waited for another may carry the earlier time of the two.
    """
    return await tx.fetch(
        "SELECT stream_id, version, event_id, type, data, meta, tx::text AS tx, occurred_at FROM events"
        " WHERE stream_id = $1 AND version <"
        " coalesce((SELECT min(version) FROM events WHERE stream_id = $1 AND occurred_at > $2), 2147483647)"
        " ORDER BY version LIMIT $3",
        stream_id,
        until,
        STREAM_EVENTS_MAX,
    )


async def read_streams(tx: Transaction, *, after: tuple[UUID, int], limit: int = PAGE_EVENTS_MAX) -> list[Row]:
    """Stream by stream what comes after a place (stream, version), each stream oldest first.

    What is appended behind a reader is not shown to it: whoever reads on hears of that as a published event.
    """
    return await tx.fetch(
        "SELECT stream_id, version, event_id, type, data, meta, tx::text AS tx, occurred_at FROM events"
        " WHERE (stream_id, version) > ($1, $2) ORDER BY stream_id, version LIMIT $3",
        *after,
        min(limit, PAGE_EVENTS_MAX),
    )


async def count(tx: Transaction, types: Sequence[str]) -> int:
    """About how many events of these types there are; exact while counting is cheap."""
    estimate: int = await tx.fetchval("SELECT reltuples::bigint FROM pg_class WHERE oid = 'events'::regclass")
    if estimate > COUNTED_EVENTS_MAX:
        return estimate
    counted: int = await tx.fetchval("SELECT count(*) FROM events WHERE type = ANY($1::text[])", list(types))
    return counted


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
