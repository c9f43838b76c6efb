"""`bench undelivered`: what was never delivered, and why, at 2,500,000 messages and 10,000,000 attempts of thirty days.

One organization has half of all. A tenth of the messages is undelivered, evenly over every event type there is: the worst
spread for a list that is gathered type by type.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import uvloop
from chassis.access import Principal
from chassis.database import Database
from chassis.kernel import new_id
from webhooks import queries
from webhooks.public_events import partner_facing
from webhooks.queries import MessageFilter
from webhooks.repository import recoveries

from scripts.benchmarks.api import HOME
from scripts.benchmarks.report import Target, bounded, show
from scripts.databases import fresh_database
from scripts.stack import Stack

MESSAGES, ATTEMPTS_EACH = 2_500_000, 4
ORGANIZATIONS, ENDPOINTS_EACH = 20, 5
DAYS = 30
RUNS = 60
PAGE, PAGE_MAX = 50, 200
AT_MOST_MS = 50.0

_ID = "(lpad(to_hex((extract(epoch FROM {at}) * 1000)::bigint), 12, '0') || substr(md5({what}), 1, 20))::uuid"
_AT = f"now() - (1 - i::float8 / {MESSAGES}) * interval '{DAYS} days'"
# Every second message is the first organization's; about every fifth of its and every tenth of all was never delivered.
_MESSAGES = f"""INSERT INTO webhook_messages (id, event_id, endpoint_id, organization_id, event_type, subject, status,
    attempts, due_at, last_status, last_error, created_at, delivered_at)
SELECT {_ID.format(at="at", what="i::text")}, {_ID.format(at="at", what="'e' || i")}, ($1::uuid[])[e], ($2::uuid[])[e],
    ($3::text[])[1 + abs(hashint4(i + 1)) % cardinality($3)], md5('s' || i)::uuid, s, {ATTEMPTS_EACH}, at,
    CASE WHEN s = 'delivered' THEN 204 ELSE 503 END, NULL, at, CASE WHEN s = 'delivered' THEN at END
FROM (SELECT i, {_AT} AS at,
        1 + CASE WHEN i % 2 = 0 THEN i % {ENDPOINTS_EACH} ELSE i % {ORGANIZATIONS * ENDPOINTS_EACH} END AS e,
        CASE WHEN hashint4(i) % 10 <> 0 THEN 'delivered'
            ELSE (ARRAY['exhausted', 'retrying', 'held', 'cancelled'])[1 + abs(hashint4(i + 2)) % 4] END AS s
    FROM generate_series(1, {MESSAGES}) i) m"""
_ATTEMPTS = f"""INSERT INTO webhook_attempts (id, message_id, endpoint_id, number, attempted_at, outcome, status, error, detail,
    duration_ms, url, request_head, response_head, response_body, response_truncated)
SELECT {_ID.format(at="created_at", what="n || id::text")}, id, endpoint_id, n, created_at, 'failed', 503, NULL, '', 12,
    'https://partner.example/hook', '[]', '[]', '', false
FROM webhook_messages CROSS JOIN generate_series(1, {ATTEMPTS_EACH}) n"""
_INDEXES = """SELECT c.relname, pg_get_indexdef(c.oid) AS definition FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = 'webhook_messages'::regclass AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid)"""


def run() -> list[Target]:
    """The database alone; what is measured is in this process."""
    stack = Stack(HOME, caller=os.environ)
    stack.up(infrastructure_only=True)
    try:
        return uvloop.run(_measure(stack.settings["VAJ_DATABASE_ADMIN_URL"]))
    finally:
        stack.down()


async def _measure(admin_url: str) -> list[Target]:
    endpoints = [new_id() for _ in range(ORGANIZATIONS * ENDPOINTS_EACH)]
    organizations = [new_id() for _ in range(ORGANIZATIONS)]
    owners = [organizations[n // ENDPOINTS_EACH] for n in range(len(endpoints))]
    types = sorted(partner_facing())
    async with _filled(admin_url, endpoints, owners, types) as database:
        big, small = _key(organizations[0]), _key(organizations[-1])
        half_way = recoveries.id_at(datetime.now(UTC) - timedelta(days=DAYS / 2))
        rare = MessageFilter(event_type="vouajudar.webhooks.*", endpoint_id=endpoints[-1])
        asked: list[tuple[str, Principal, MessageFilter, int, UUID | None]] = [
            ("of an organization", big, MessageFilter(), PAGE, None),
            ("the same, from half way on", big, MessageFilter(), PAGE, half_way),
            ("the same, pages of 200", big, MessageFilter(), PAGE_MAX, None),
            ("of an organization and type", big, MessageFilter(event_type=types[0]), PAGE, None),
            ("of an organization and prefix", big, MessageFilter(event_type="vouajudar.deliveries.*"), PAGE, None),
            ("of an endpoint", big, MessageFilter(endpoint_id=endpoints[0]), PAGE, None),
            ("of an endpoint and type", big, MessageFilter(endpoint_id=endpoints[0], event_type=types[0]), PAGE, None),
            ("of a small one's endpoint and prefix", small, rare, PAGE, None),
        ]
        p95s = [await _p95_ms(database, *one) for one in asked]
        assert await database.pool.fetchval("SELECT count(*) FROM webhook_attempts") == MESSAGES * ATTEMPTS_EACH
    target = bounded("undelivered, the slowest question, p95", max(p95s), at_most=AT_MOST_MS, unit="ms")
    show(target)
    return [target]


async def _p95_ms(
    database: Database, name: str, principal: Principal, wanted: MessageFilter, limit: int, before: UUID | None
) -> float:
    taken: list[float] = []
    for _ in range(RUNS):
        began = time.perf_counter()
        rows = await queries.undelivered(database.reading(), principal, wanted, limit=limit, before=before)
        taken.append((time.perf_counter() - began) * 1000)
    p95 = statistics.quantiles(taken, n=20)[-1]
    print(
        f"  {name:<40} p50 {statistics.median(taken):>6.1f}, p95 {p95:>6.1f}, first {taken[0]:>6.1f} ms, {len(rows):>3} rows",
        flush=True,
    )
    return p95


def _key(organization_id: UUID) -> Principal:
    return Principal(new_id(), "key", {organization_id: "key"})


@asynccontextmanager
async def _filled(
    admin_url: str, endpoints: list[UUID], owners: list[UUID], types: list[str]
) -> AsyncIterator[Database]:
    """A database of webhooks with all of it, its statistics up to date."""
    began = time.perf_counter()
    async with fresh_database(admin_url, "bench_undelivered", "webhooks") as url:
        await _fill(url, endpoints, owners, types)
        taken = time.perf_counter() - began
        print(f"  {MESSAGES:,} messages, {MESSAGES * ATTEMPTS_EACH:,} attempts in {taken:.0f} s", flush=True)
        database = Database(url)
        await database.open()
        yield database
        await database.close()


async def _fill(url: str, endpoints: list[UUID], owners: list[UUID], types: list[str]) -> None:
    """Indexes are made when the rows are there: a third of the time."""
    connection = await asyncpg.connect(url, timeout=60)
    await connection.execute("SET synchronous_commit = off; SET maintenance_work_mem = '256MB'")
    indexes = await connection.fetch(_INDEXES)
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['relname']}")
    await connection.execute(_MESSAGES, endpoints, owners, types)
    for index in indexes:
        await connection.execute(index["definition"])
    await connection.execute(_ATTEMPTS)
    await connection.execute("VACUUM ANALYZE webhook_messages")
    await connection.close()
