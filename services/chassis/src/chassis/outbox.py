"""The transactional outbox: messages are rows of the transaction that causes them; a leased relay sends them."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec
from contracts.envelope import Event, rfc3339, schema_of, source_of
from contracts.topology import exchange

from chassis.broker import Outgoing, PublishRefused
from chassis.confirms import Answer
from chassis.crashpoints import reached
from chassis.database import TRANSIENT_ERRORS, Database, Row, Transaction
from chassis.kernel import ConcurrentUpdate
from chassis.telemetry import EVENTS_PUBLISHED, OUTBOX_BLOCKED, OUTBOX_QUARANTINED, current_context, log
from chassis.waking import woken

PARTITIONS = 64
BATCH = 500  # rows of one read
BATCH_PER_PART_MIN = 32  # of one partition: a long backlog of some is not read whole to find the oldest
WINDOW = 2 * BATCH  # messages in flight at once
DOUBLINGS_MAX = 16  # of a wait that has a bound of its own
QUARANTINED_AFTER = 5  # refusals in a row: no hiccup of the broker any more, somebody has to look
LEAVE_S_MAX = 2.0  # what is under way gets this long when the relay is told to leave
HINT = "outbox"
PASSING_ERRORS: tuple[type[Exception], ...] = (ConcurrentUpdate, *TRANSIENT_ERRORS)

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


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a relay holds what it leased, and how long it waits for what, in seconds."""

    lease: float = 15.0
    renew: float = 5.0
    poll_min: float = 0.02
    poll_max: float = 0.5
    refused_min: float = 2.0  # a refused aggregate is tried again after this long, doubled each time
    refused_max: float = 300.0
    unavailable: float = 0.5


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are read next: the oldest of these partitions, none of these aggregates."""

    parts: Sequence[int]
    without: Sequence[UUID]
    limit: int
    per_part: int


class OutboxStore(Protocol):
    """What the relay needs of the outbox and its leases; each call is one transaction, done or not when it raises."""

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` after each commit in this process that queued a message."""

    async def lease(self, owner: UUID, seconds: float) -> list[int]:
        """This owner's fair share of the partitions, renewed or taken over now, for so long by the store's clock."""

    async def read(self, wanted: Wanted) -> list[Row]:
        """Rows in the order of their ids."""

    async def delete_and_read(self, owner: UUID, gone: Sequence[Row], wanted: Wanted) -> list[Row]:
        """Delete those that the owner's leases still cover, and read as of before that."""

    async def give_back(self, owner: UUID) -> None:
        """The owner leaves: its partitions are anybody's."""


class Transport(Protocol):
    """What the relay needs of the broker: `chassis.broker.Publisher`."""

    ready: asyncio.Event

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[Answer]:
        """An answer for each, in order; nothing is raised."""


class OutboxTables:
    """The outbox of a service's own database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def listen(self, wake: Callable[[], None]) -> None:
        self._database.listen(HINT, wake)

    async def lease(self, owner: UUID, seconds: float) -> list[int]:
        async with self._database.transaction() as tx:
            await tx.fetch(_PRESENT, owner, seconds)
            parts = sorted(row["part"] for row in await tx.fetch(_LEASE, owner, PARTITIONS, seconds))
            tx.write(_RELEASE_SURPLUS, owner, parts)
            tx.write(_FORGET)
        return parts

    async def read(self, wanted: Wanted) -> list[Row]:
        return await self._database.reading().fetch(_READ, wanted.parts, wanted.without, wanted.limit, wanted.per_part)

    async def delete_and_read(self, owner: UUID, gone: Sequence[Row], wanted: Wanted) -> list[Row]:
        parts, ids = [row["part"] for row in gone], [row["id"] for row in gone]
        async with self._database.command() as tx:
            return await tx.fetch(
                _DELETE_AND_READ, wanted.parts, wanted.without, wanted.limit, wanted.per_part, parts, ids, owner
            )

    async def give_back(self, owner: UUID) -> None:
        async with self._database.command() as tx:
            tx.write(_RELEASE_SURPLUS, owner, [])
            tx.write("DELETE FROM outbox_relays WHERE owner = $1", owner)


@dataclass(slots=True)
class _Refusal:
    """How often in a row the broker refused an aggregate's first message, and until when that waits."""

    times: int = 0
    until: float = 0.0


class Relay:
    """Sends outbox rows of the partitions it leases, in order per aggregate, and deletes what the broker confirmed.

    Several relays share the partitions, and no partition has two owners. By its own clock, read before it asked, a
    relay knows until when its leases surely last; what it read and did not send by then, paused or slow, it lets go.
    Crashing anywhere loses nothing: an unconfirmed or undeleted row is sent again, and consumers recognise its id.

    A refused message blocks its aggregate only. Successors that were on the way together with it may be accepted and
    overtake it, which the consumers' gates set right; from then on it goes alone, after 2 s, 4 s … 5 min, and nothing
    read later overtakes it. Refused five times in a row its aggregate counts as quarantined; it still goes by itself
    as soon as the broker takes it.
    """

    def __init__(
        self, store: OutboxStore, publisher: Transport, *, owner: UUID, pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._store = store
        self._publisher = publisher
        self._owner = owner
        self._pace = pace or Pace()
        self._clock = clock
        self._parts: list[int] = []
        self._renew_at = self._sure_until = -math.inf
        self._refused: dict[UUID, _Refusal] = {}
        self._held: dict[int, UUID] = {}  # rows under way or confirmed and not yet deleted, with their aggregates
        self._sending: set[asyncio.Future[None]] = set()
        self._confirmed: list[Row] = []
        self._wake = asyncio.Event()
        store.listen(self._wake.set)

    async def run(self) -> None:
        """Relay until cancelled; on the way out what is under way is finished and the leases are given back."""
        pause_s = self._pace.poll_min
        try:
            while True:
                read = await self._round_or_wait()
                pause_s = self._pace.poll_min if read or self._held else min(pause_s * 2, self._pace.poll_max)
                if read < BATCH:
                    await woken(self._wake, within_s=pause_s)
        finally:
            await self._leave()

    async def _round_or_wait(self) -> int:
        try:
            await self._publisher.ready.wait()
            return await self.round()
        except PASSING_ERRORS as error:
            log.warning("outbox.database_unavailable", error=repr(error))
            await asyncio.sleep(self._pace.unavailable)
            return 0

    async def round(self) -> int:
        """Delete what was confirmed, read what comes next and start to send it; returns how many rows were read.

        Confirms are awaited meanwhile and wake the next round. An aggregate with rows under way is not read.
        """
        self._wake.clear()
        if self._clock() >= self._renew_at:
            await self._settle()
            await self._keep_leases()
        while any(sending.done() for sending in self._sending) or self._under_way > WINDOW - BATCH:
            await self._some_sent(asyncio.FIRST_COMPLETED)
        rows = await self._delete_and_read(BATCH)
        chosen = self._sendable(rows)
        if chosen:
            self._held.update((row["id"], row["order_key"]) for row in chosen)
            self._sending.add(asyncio.ensure_future(self._send(chosen)))
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

    async def _keep_leases(self) -> None:
        asked_at = self._clock()
        if asked_at >= self._sure_until:
            self._refused.clear()  # others may have had the partitions meanwhile
        self._parts = await self._store.lease(self._owner, self._pace.lease)
        self._renew_at, self._sure_until = asked_at + self._pace.renew, asked_at + self._pace.lease
        for key in [key for key in self._refused if partition_of(key) not in self._parts]:
            del self._refused[key]

    async def _delete_and_read(self, limit: int) -> list[Row]:
        confirmed = self._confirmed[:]
        per_part = max(BATCH_PER_PART_MIN, 2 * BATCH // max(1, len(self._parts)))
        wanted = Wanted(self._parts, [*self._held.values(), *self._waiting()], limit, per_part)
        if not confirmed:
            rows = await self._store.read(wanted)
        else:
            rows = await self._store.delete_and_read(self._owner, confirmed, wanted)
            del self._confirmed[: len(confirmed)]
            for row in confirmed:
                del self._held[row["id"]]
            EVENTS_PUBLISHED.inc(len(confirmed))
            self._wake.set()  # the successors of what is gone now may be read
        if limit and len(rows) < BATCH_PER_PART_MIN:  # nothing was cut off: what is not there is gone
            self._forget({*wanted.without, *(row["order_key"] for row in rows)})
        return rows

    def _waiting(self) -> list[UUID]:
        """The refused aggregates whose time has not come."""
        refusals, now = self._refused, self._clock()
        OUTBOX_BLOCKED.set(len(refusals))
        OUTBOX_QUARANTINED.set(sum(refusal.times >= QUARANTINED_AFTER for refusal in refusals.values()))
        return [key for key, refusal in refusals.items() if refusal.until > now]

    def _forget(self, present: Container[UUID]) -> None:
        for key in [key for key in self._refused if key not in present]:
            del self._refused[key]

    def _sendable(self, rows: Sequence[Row]) -> Sequence[Row]:
        """All but the successors of what was refused before: that goes alone."""
        if not self._refused:
            return rows
        firsts: dict[UUID, int] = {}
        return [
            row
            for row in rows
            if row["order_key"] not in self._refused or firsts.setdefault(row["order_key"], row["id"]) == row["id"]
        ]

    async def _send(self, rows: Sequence[Row]) -> None:
        reached("outbox.read")
        if self._clock() >= self._sure_until:
            return self._let_go(rows)
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
        refused: dict[UUID, tuple[Row, PublishRefused]] = {}
        for row, answer in zip(rows, await self._publisher.publish_all(messages), strict=True):
            if answer is None:
                self._confirmed.append(row)  # held until it is deleted
                self._refused.pop(row["order_key"], None)
                continue
            del self._held[row["id"]]
            if isinstance(answer, PublishRefused):
                refused.setdefault(row["order_key"], (row, answer))
        self._put_off(refused)
        if self._confirmed:
            reached("outbox.confirmed")
        self._wake.set()
        return None

    def _let_go(self, rows: Sequence[Row]) -> None:
        """Rows of partitions that may have another owner by now are that one's."""
        log.warning("outbox.lease_lapsed", rows=len(rows))
        for row in rows:
            del self._held[row["id"]]
        self._renew_at = -math.inf
        self._wake.set()

    def _put_off(self, refused: Mapping[UUID, tuple[Row, PublishRefused]]) -> None:
        """The first refused message of each aggregate, and why."""
        for key, (row, answer) in refused.items():
            refusal = self._refused.setdefault(key, _Refusal())
            refusal.times += 1
            delay_s = self._pace.refused_min * 2 ** min(refusal.times - 1, DOUBLINGS_MAX)
            refusal.until = self._clock() + min(delay_s, self._pace.refused_max)
            told = {"message_id": str(row["message_id"]), "routing_key": row["routing_key"], "error": str(answer)}
            log.warning("outbox.refused", times=refusal.times, **told)
            if refusal.times == QUARANTINED_AFTER:
                log.error("outbox.quarantined", aggregate=str(key), **told)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_S_MAX):
                await self._settle()
        except Exception as error:  # what is not settled is sent again, and recognised
            log.warning("outbox.left_unsettled", error=repr(error))
        for sending in self._sending:
            sending.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        self._renew_at = self._sure_until = -math.inf
        try:
            await self._store.give_back(self._owner)
        except Exception as error:  # the leases run out by themselves
            log.warning("outbox.leases_kept", error=repr(error))
