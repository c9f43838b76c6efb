"""The transactional outbox: messages are rows of the transaction that causes them; a leased relay sends them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
from contracts.envelope import Event, rfc3339, schema_of, source_of
from contracts.topology import exchange

from chassis.broker import Outgoing, Publisher, PublishRefused
from chassis.database import UNAVAILABLE_ERRORS, Database, Row, Transaction
from chassis.telemetry import EVENTS_PUBLISHED, OUTBOX_BLOCKED, current_context, log

PARTITIONS = 64
LEASE_S = 15
RENEW_S = 5.0
BATCH = 500  # rows of one read
BATCH_PER_PART_MIN = 32  # of one partition: a long backlog of some is not read whole to find the oldest
WINDOW = 2 * BATCH  # messages in flight at once
POLL_S_MIN, POLL_S_MAX = 0.02, 0.5
BLOCKED_RETRY_S = 2.0  # a refused aggregate is tried again after this long
UNAVAILABLE_RETRY_S = 0.5
HINT = "outbox"

_ENQUEUE = """INSERT INTO outbox (part, order_key, message_id, exchange, routing_key, headers, body, created_at)
SELECT $1, $2, m, $3, k, '{}'::jsonb, b, $7
FROM unnest($4::uuid[], $5::text[], $6::bytea[]) WITH ORDINALITY AS x(m, k, b, n) ORDER BY n"""

_PRESENT = """INSERT INTO outbox_relays (owner, until) VALUES ($1, now() + make_interval(secs => $2))
ON CONFLICT (owner) DO UPDATE SET until = excluded.until"""
_FORGET = "DELETE FROM outbox_relays WHERE until < now()"
_LEASE = """WITH wanted AS (
    SELECT part FROM outbox_leases WHERE owner = $1 OR until < now() ORDER BY (owner = $1 AND until >= now()) DESC, part
    LIMIT (SELECT ceil($2::numeric / greatest(1, count(*))) FROM outbox_relays WHERE until >= now())
    FOR UPDATE SKIP LOCKED)
UPDATE outbox_leases l SET owner = $1, until = now() + make_interval(secs => $3),
    fence = CASE WHEN l.owner = $1 THEN l.fence ELSE l.fence + 1 END
FROM wanted w WHERE l.part = w.part RETURNING l.part"""

_RELEASE_SURPLUS = (
    "UPDATE outbox_leases SET until = now() - interval '1 second' WHERE owner = $1 AND NOT part = ANY($2::int[])"
)

# By partition along the primary key, so that a round costs the same whatever the backlog.
_READ = """SELECT o.* FROM unnest($1::int[]) AS p(part) CROSS JOIN LATERAL (
    SELECT part, id, order_key, message_id, exchange, routing_key, body FROM outbox
    WHERE part = p.part AND order_key NOT IN (SELECT unnest($2::uuid[])) ORDER BY id LIMIT $4) AS o
WHERE EXISTS (SELECT FROM outbox) ORDER BY o.id LIMIT $3"""

# A deletion that a crash of the server undoes costs a second delivery and nothing else: nobody waits for its fsync.
_DELETE_AND_READ = f"""WITH gone AS (
    DELETE FROM outbox o USING unnest($5::int[], $6::bigint[]) AS x(part, id), outbox_leases l
    WHERE o.part = x.part AND o.id = x.id AND l.part = o.part AND l.owner = $7 AND l.until >= now()
    RETURNING set_config('synchronous_commit', 'off', true))
{_READ}"""


@dataclass(frozen=True, slots=True)
class Announcement:
    """A public event and whom it concerns: its owner and every organization that is a party to it."""

    event: Event
    organization_id: UUID | None = None
    parties: tuple[UUID, ...] = ()


def partition_of(stream_id: UUID) -> int:
    """One aggregate is always in one partition."""
    return stream_id.int % PARTITIONS


def enqueue(
    tx: Transaction, *, stream_id: UUID, messages: Sequence[tuple[UUID, int, Announcement]], now: datetime
) -> None:
    """Queue (event id, aggregate version, announcement) rows; their bytes are built here, once, ready to send."""
    if not messages:
        return
    tx.write(
        _ENQUEUE,
        partition_of(stream_id),
        stream_id,
        exchange(messages[0][2].event.producer),
        [event_id for event_id, _, _ in messages],
        [announcement.event.routing_key() for _, _, announcement in messages],
        [
            envelope_bytes(announcement, stream_id, event_id, version, now)
            for event_id, version, announcement in messages
        ],
        now,
    )
    tx.hints.add(HINT)


def return_to_queue(tx: Transaction, queue: str, messages: Sequence[tuple[UUID, bytes]], *, now: datetime) -> None:
    """Queue (message id, bytes) rows for one queue alone, past every exchange; one queue's rows keep their order."""
    order_key = UUID(bytes=hashlib.sha256(queue.encode()).digest()[:16])
    ids, bodies = [message_id for message_id, _ in messages], [body for _, body in messages]
    tx.write(_ENQUEUE, partition_of(order_key), order_key, "", ids, [queue] * len(ids), bodies, now)
    tx.hints.add(HINT)


def envelope_bytes(announcement: Announcement, subject: UUID, event_id: UUID, version: int, now: datetime) -> bytes:
    """The envelope of `contracts.envelope` as JSON bytes; the event inside is encoded once by pydantic."""
    context, event = current_context(), announcement.event
    kind = event.type_name()
    parties = dict.fromkeys(p for p in (announcement.organization_id, *announcement.parties) if p is not None)
    fields = {
        "specversion": "1.0",
        "id": event_id,
        "source": source_of(event.producer),
        "type": kind,
        "subject": subject,
        "time": rfc3339(now),
        "dataschema": schema_of(kind),
        "datacontenttype": "application/json",
        "aggregateversion": version,
        "organizationid": announcement.organization_id,
        "parties": " ".join(map(str, parties)),
        "correlationid": context.correlation_id,
        "causationid": context.causation_id,
        "actorid": context.actor_id,
        "traceparent": context.traceparent,
    }
    present: dict[str, object] = {name: value for name, value in fields.items() if value is not None}
    present["data"] = msgspec.Raw(event.model_dump_json().encode())
    return msgspec.json.encode(present)


class Relay:
    """Sends outbox rows of the partitions it leases, in order per aggregate, and deletes what the broker confirmed.

    Several relays share the partitions. A refused message blocks its aggregate only. Crashing anywhere loses
    nothing: an unconfirmed or undeleted row is sent again, and consumers recognise its id.
    """

    def __init__(self, database: Database, publisher: Publisher, *, owner: UUID) -> None:
        self._database = database
        self._publisher = publisher
        self._owner = owner
        self._parts: list[int] = []
        self._renew_at = 0.0
        self.renew_s = RENEW_S
        self._blocked: dict[UUID, float] = {}
        self._held: dict[int, UUID] = {}  # rows under way or confirmed and not yet deleted, with their aggregates
        self._sending: set[asyncio.Future[None]] = set()
        self._confirmed: list[Row] = []
        self._wake = asyncio.Event()
        database.listen(HINT, self._wake.set)

    async def run(self) -> None:
        """Relay until cancelled; on the way out the leases are given back."""
        pause_s = POLL_S_MIN
        try:
            while True:
                read = await self._round_or_wait()
                pause_s = POLL_S_MIN if read or self._held else min(pause_s * 2, POLL_S_MAX)
                if read < BATCH:
                    await self._rest(pause_s)
        finally:
            for sending in self._sending:
                sending.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)
            await self._give_back()

    async def _round_or_wait(self) -> int:
        try:
            await self._publisher.ready.wait()
            return await self.round()
        except UNAVAILABLE_ERRORS as error:
            log.warning("outbox.database_unavailable", error=repr(error))
            await asyncio.sleep(UNAVAILABLE_RETRY_S)
            return 0

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def round(self) -> int:
        """Delete what was confirmed, read what comes next and start to send it; returns how many rows were read.

        Confirms are awaited meanwhile and wake the next round. An aggregate with rows under way is not read.
        """
        self._wake.clear()
        if time.monotonic() >= self._renew_at:
            await self._settle()
            await self._keep_leases()
        while any(sending.done() for sending in self._sending) or self._under_way > WINDOW - BATCH:
            await self._some_sent(asyncio.FIRST_COMPLETED)
        rows = await self._delete_and_read(BATCH)
        if rows:
            self._held.update((row["id"], row["order_key"]) for row in rows)
            self._sending.add(asyncio.ensure_future(self._send(rows)))
        return len(rows)

    @property
    def _under_way(self) -> int:
        return len(self._held) - len(self._confirmed)

    async def _some_sent(self, when: str) -> None:
        done, self._sending = await asyncio.wait(self._sending, return_when=when)
        for sending in done:
            sending.result()

    async def _settle(self) -> None:
        """Nothing under way any more: a partition must not change hands before its rows are deleted."""
        if self._sending:
            await self._some_sent(asyncio.ALL_COMPLETED)
        if self._confirmed:
            await self._delete_and_read(0)

    async def _delete_and_read(self, limit: int) -> list[Row]:
        now = time.monotonic()
        self._blocked = {key: until for key, until in self._blocked.items() if until > now}
        OUTBOX_BLOCKED.set(len(self._blocked))
        confirmed = self._confirmed[:]
        per_part = max(BATCH_PER_PART_MIN, 2 * BATCH // max(1, len(self._parts)))
        wanted = (self._parts, [*self._held.values(), *self._blocked], limit, per_part)
        if not confirmed:
            return await self._database.reading().fetch(_READ, *wanted)
        parts, ids = [row["part"] for row in confirmed], [row["id"] for row in confirmed]
        async with self._database.command() as tx:
            rows = await tx.fetch(_DELETE_AND_READ, *wanted, parts, ids, self._owner)
        del self._confirmed[: len(confirmed)]
        for row_id in ids:
            del self._held[row_id]
        EVENTS_PUBLISHED.inc(len(confirmed))
        self._wake.set()  # the successors of what is gone now may be read
        return rows

    async def _keep_leases(self) -> None:
        async with self._database.transaction() as tx:
            await tx.fetch(_PRESENT, self._owner, LEASE_S)
            rows = await tx.fetch(_LEASE, self._owner, PARTITIONS, LEASE_S)
            self._parts = sorted(row["part"] for row in rows)
            tx.write(_RELEASE_SURPLUS, self._owner, self._parts)
            tx.write(_FORGET)
        self._renew_at = time.monotonic() + self.renew_s

    async def _send(self, rows: Sequence[Row]) -> None:
        messages = [
            Outgoing(
                exchange=row["exchange"],
                routing_key=row["routing_key"],
                message_id=str(row["message_id"]),
                body=row["body"],
                slot=row["part"],
            )
            for row in rows
        ]
        for row, answer in zip(rows, await self._publisher.publish_all(messages), strict=True):
            if answer is None:
                self._confirmed.append(row)  # held until it is deleted
                continue
            del self._held[row["id"]]
            if isinstance(answer, PublishRefused):
                self._blocked[row["order_key"]] = time.monotonic() + BLOCKED_RETRY_S
                log.error(
                    "outbox.refused",
                    message_id=str(row["message_id"]),
                    routing_key=row["routing_key"],
                    error=str(answer),
                )
        self._wake.set()

    async def _give_back(self) -> None:
        try:
            async with self._database.command() as tx:
                tx.write(_RELEASE_SURPLUS, self._owner, [])
                tx.write("DELETE FROM outbox_relays WHERE owner = $1", self._owner)
        except Exception as error:  # the leases run out by themselves
            log.warning("outbox.leases_kept", error=repr(error))
