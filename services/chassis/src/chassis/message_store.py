"""What a consumer knows of its messages: which it had, how far each aggregate is, what is early, tried again, suspect.

`MessageStore` is all that `consumer.ConsumerRunner` asks of a database; `SqlMessageStore` is the one in PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from chassis import deadletters, inbox
from chassis.broker import Incoming
from chassis.database import Database, Row, Transaction

GAPS_MAX = 200  # looked at in one round; the next round finds the others
CLAIM_S = (
    5.0  # nobody else tries a parked message meanwhile; one that was tried longer ago and is still there may be deadly
)
PARKED_LOOK = timedelta(hours=1)  # a message in the ladder is not missing until it is overdue by this much


@dataclass
class Position:
    """How far one consumer is with one aggregate; `waiting` when messages may be parked behind it."""

    version: int = 0
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Parked:
    """A message that came before the one it follows; `suspect` when somebody tried it before and did not say how it went."""

    stream_id: UUID
    version: int
    message_id: str
    producer: str
    body: bytes
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """An aggregate with parked messages: `version` is had, `next_version` is the first parked one.

    `missing` is what became of the one between: None when nobody here knows, else `retrying`, `dead` or `discarded`.
    """

    stream_id: UUID
    version: int
    next_version: int
    producer: str
    parked_s: float
    missing: str | None


@dataclass(frozen=True, slots=True)
class Stream:
    """Which aggregate a message is about, and which version of it; unknown of what cannot be decoded."""

    id: UUID
    version: int


class MessageStore(Protocol):
    """Everything `ConsumerRunner` keeps; whatever takes a `tx` is part of it, the rest are transactions of their own."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...
    async def ping(self) -> None: ...
    async def first_time(self, tx: Transaction, consumer: str, message_ids: Sequence[UUID]) -> set[UUID]: ...
    async def positions(self, tx: Transaction, consumer: str, streams: Sequence[UUID]) -> dict[UUID, Position]: ...
    def advance(self, tx: Transaction, consumer: str, positions: Mapping[UUID, Position]) -> None: ...
    def park(self, tx: Transaction, consumer: str, messages: Sequence[Parked]) -> None: ...
    def tried(self, tx: Transaction, consumer: str, message_ids: Sequence[str]) -> None: ...
    async def next_parked(self, consumer: str, stream_id: UUID) -> Parked | None: ...
    async def unpark(self, consumer: str, stream_id: UUID, version: int) -> None: ...
    async def retrying(self, consumer: str, message_id: str, stream: Stream, *, delay_s: float) -> None: ...
    async def suspect(self, consumer: str, message_id: str) -> int: ...
    async def give_up(
        self, incoming: Incoming, error: BaseException, *, consumer: str, queue: str, reason: str, attempts: int,
        stream: Stream | None,
    ) -> None: ...  # fmt: skip
    async def gaps(self, consumer: str) -> Sequence[Gap]: ...
    async def may_ask(self, consumer: str, stream_id: UUID, *, pause_s: float) -> bool: ...
    async def skip(self, consumer: str, stream_id: UUID, version: int) -> None: ...
    async def give_up_parked(self, consumer: str, queue: str, stream_id: UUID) -> int: ...


# A stream's first message makes its row, so that there is one to lock. The rows are made before any is locked, both in the
# order of the ids: two workers wait for each other, never in a circle. What another worker is just making is not seen here.
_POSITIONS = """WITH made AS (
    INSERT INTO stream_positions (consumer, stream_id) SELECT $1, s FROM unnest($2::uuid[]) AS x(s)
    ON CONFLICT DO NOTHING RETURNING stream_id),
held AS (SELECT stream_id, version, waiting FROM stream_positions
    WHERE consumer = $1 AND stream_id = ANY($2) AND (SELECT count(*) FROM made) >= 0 ORDER BY stream_id FOR UPDATE)
SELECT stream_id, version, waiting FROM held UNION ALL SELECT stream_id, 0, false FROM made"""
_ADVANCE = """UPDATE stream_positions p SET version = x.version, waiting = x.waiting
FROM unnest($2::uuid[], $3::int[], $4::boolean[]) AS x(stream_id, version, waiting)
WHERE p.consumer = $1 AND p.stream_id = x.stream_id"""
_PARK = """INSERT INTO parked_messages (consumer, stream_id, version, message_id, producer, body)
SELECT $1, x.* FROM unnest($2::uuid[], $3::int[], $4::text[], $5::text[], $6::bytea[]) AS x ON CONFLICT DO NOTHING"""
_TRIED = "DELETE FROM retrying_messages WHERE consumer = $1 AND message_id = ANY($2::text[])"
_SURVIVED = "DELETE FROM suspects WHERE consumer = $1 AND message_id = ANY($2::text[])"

_LOCK = "SELECT version FROM stream_positions WHERE consumer = $1 AND stream_id = $2 FOR UPDATE"
_HAD = "DELETE FROM parked_messages WHERE consumer = $1 AND stream_id = $2 AND version <= $3"
_HAD_SURVIVED = """DELETE FROM suspects s USING parked_messages p WHERE p.consumer = $1 AND p.stream_id = $2 AND p.version <= $3
AND s.consumer = p.consumer AND s.message_id = p.message_id"""
_NEXT = """SELECT stream_id, version, message_id, producer, body, tried_at IS NOT NULL AS suspect,
    tried_at > now() - make_interval(secs => $3) AS claimed FROM parked_messages
WHERE consumer = $1 AND stream_id = $2 ORDER BY version LIMIT 1"""
_CLAIM = "UPDATE parked_messages SET tried_at = now() WHERE consumer = $1 AND stream_id = $2 AND version = $3"
_NONE_WAIT = "UPDATE stream_positions SET waiting = false, asked_at = NULL WHERE consumer = $1 AND stream_id = $2"
_UNPARK = "DELETE FROM parked_messages WHERE consumer = $1 AND stream_id = $2 AND version = $3"
_RETRYING = """INSERT INTO retrying_messages (consumer, message_id, stream_id, version, due_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (consumer, message_id) DO UPDATE SET due_at = excluded.due_at"""
_FORGET_OVERDUE = "DELETE FROM retrying_messages WHERE due_at < now() - $1::interval"
_SUSPECT = """INSERT INTO suspects (consumer, message_id, tries) VALUES ($1, $2, 1)
ON CONFLICT (consumer, message_id) DO UPDATE SET tries = suspects.tries + 1 RETURNING tries"""

_GAPS = """SELECT p.stream_id, p.version, k.version AS next_version, k.producer,
    extract(epoch FROM now() - k.parked_at)::float8 AS parked_s,
    CASE WHEN EXISTS (SELECT FROM dead_letters d WHERE d.consumer = p.consumer AND d.stream_id = p.stream_id
            AND d.version = p.version + 1 AND d.status IN ('open', 'redriving')) THEN 'dead'
        WHEN EXISTS (SELECT FROM retrying_messages r WHERE r.consumer = p.consumer AND r.stream_id = p.stream_id
            AND r.version = p.version + 1 AND r.due_at > now() - $2::interval) THEN 'retrying'
        WHEN EXISTS (SELECT FROM dead_letters d WHERE d.consumer = p.consumer AND d.stream_id = p.stream_id
            AND d.version = p.version + 1 AND d.status = 'discarded') THEN 'discarded' END AS missing
FROM stream_positions p CROSS JOIN LATERAL (SELECT version, producer, parked_at FROM parked_messages
    WHERE consumer = p.consumer AND stream_id = p.stream_id ORDER BY version LIMIT 1) AS k
WHERE p.consumer = $1 AND p.waiting ORDER BY p.asked_at NULLS FIRST LIMIT $3"""
_ASKING = """UPDATE stream_positions SET asked_at = now() WHERE consumer = $1 AND stream_id = $2
AND (asked_at IS NULL OR asked_at <= now() - make_interval(secs => $3)) RETURNING 1"""
_SKIP = "UPDATE stream_positions SET version = $3 WHERE consumer = $1 AND stream_id = $2 AND version = $3 - 1"
_ALL_PARKED = """SELECT stream_id, version, message_id, producer, body FROM parked_messages
WHERE consumer = $1 AND stream_id = $2 ORDER BY version LIMIT 1000 FOR UPDATE"""


class GapTimeout(Exception):
    """The event before this one is in no queue, no ladder and no dead letter, and its producer did not send it again."""


class SqlMessageStore:
    """`MessageStore` in the service's own database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """In which messages have their effect."""
        return self._database.transaction()

    async def ping(self) -> None:
        """Raise what the database raises when it is not there."""
        await self._database.reading().fetchval("SELECT 1")

    async def first_time(self, tx: Transaction, consumer: str, message_ids: Sequence[UUID]) -> set[UUID]:
        """Those that this consumer never handled."""
        return await inbox.first_time(tx, consumer, message_ids)

    async def positions(self, tx: Transaction, consumer: str, streams: Sequence[UUID]) -> dict[UUID, Position]:
        """How far each stream is; nobody else moves them until the transaction ends."""
        wanted = sorted(set(streams))
        found: dict[UUID, Position] = {}
        while len(found) < len(wanted):  # a second look sees what another worker made during the first
            for row in await tx.fetch(_POSITIONS, consumer, wanted):
                found[UUID(int=row["stream_id"].int)] = Position(row["version"], row["waiting"])
        return found

    def advance(self, tx: Transaction, consumer: str, positions: Mapping[UUID, Position]) -> None:
        """Queue how far each stream is now."""
        if positions:
            values = list(positions.values())
            tx.write(_ADVANCE, consumer, list(positions), [p.version for p in values], [p.waiting for p in values])
            tx.end_step()

    def park(self, tx: Transaction, consumer: str, messages: Sequence[Parked]) -> None:
        """Queue messages to be kept until the ones they follow were handled; known ones change nothing."""
        if messages:
            columns = ("stream_id", "version", "message_id", "producer", "body")
            tx.write(_PARK, consumer, *([getattr(message, name) for message in messages] for name in columns))
            tx.end_step()

    def tried(self, tx: Transaction, consumer: str, message_ids: Sequence[str]) -> None:
        """Queue that these wait in the ladder no more, and that the process survived them."""
        if message_ids:
            tx.write(_TRIED, consumer, list(message_ids))
            tx.write(_SURVIVED, consumer, list(message_ids))
            tx.end_step()

    async def next_parked(self, consumer: str, stream_id: UUID) -> Parked | None:
        """The parked message whose turn it is, for the caller alone, or None; forgets those that were had meanwhile."""
        async with self._database.transaction() as tx:
            version = await tx.fetchval(_LOCK, consumer, stream_id) or 0
            tx.write(_HAD_SURVIVED, consumer, stream_id, version)
            tx.write(_HAD, consumer, stream_id, version)
            await tx.flush()
            row = await tx.fetchrow(_NEXT, consumer, stream_id, CLAIM_S)
            if row is None:
                tx.write(_NONE_WAIT, consumer, stream_id)
            elif row["version"] == version + 1 and not row["claimed"]:
                tx.write(_CLAIM, consumer, stream_id, row["version"])
                return _parked(row)
            return None

    async def unpark(self, consumer: str, stream_id: UUID, version: int) -> None:
        """This one is elsewhere now: in the ladder, or a dead letter."""
        async with self._database.command() as tx:
            tx.write(_UNPARK, consumer, stream_id, version)

    async def retrying(self, consumer: str, message_id: str, stream: Stream, *, delay_s: float) -> None:
        """A message goes into the ladder and will be back after `delay_s`: it is not missing, and did not kill."""
        async with self._database.command() as tx:
            due_at = datetime.now(UTC) + timedelta(seconds=delay_s)
            tx.write(_RETRYING, consumer, message_id, stream.id, stream.version, due_at)
            tx.write(_SURVIVED, consumer, [message_id])

    async def suspect(self, consumer: str, message_id: str) -> int:
        """Count a try of a message that may kill the process, before it is tried; returns the count."""
        async with self._database.transaction() as tx:
            return int(await tx.fetchval(_SUSPECT, consumer, message_id))

    async def give_up(
        self, incoming: Incoming, error: BaseException, *, consumer: str, queue: str, reason: str, attempts: int,
        stream: Stream | None,
    ) -> None:  # fmt: skip
        """Keep the message as a dead letter; it waits in the ladder no more, and nobody tries it alone."""
        async with self._database.command() as tx:
            deadletters.keep(
                tx, incoming, error, consumer=consumer, queue=queue, reason=reason, attempts=attempts,
                stream=None if stream is None else (stream.id, stream.version), now=datetime.now(UTC),
            )  # fmt: skip
            tx.write(_TRIED, consumer, [incoming.message_id])
            tx.write(_SURVIVED, consumer, [incoming.message_id])

    async def gaps(self, consumer: str) -> Sequence[Gap]:
        """Streams with parked messages, those asked for longest ago first; a bounded number."""
        rows = await self._database.reading().fetch(_GAPS, consumer, PARKED_LOOK, GAPS_MAX)
        return [Gap(UUID(int=row["stream_id"].int), *list(row.values())[1:]) for row in rows]

    async def may_ask(self, consumer: str, stream_id: UUID, *, pause_s: float) -> bool:
        """True for one worker each `pause_s`: it asks the producer now."""
        async with self._database.transaction() as tx:
            return await tx.fetchrow(_ASKING, consumer, stream_id, pause_s) is not None

    async def skip(self, consumer: str, stream_id: UUID, version: int) -> None:
        """An operator decided that this version has no effect here: its successor is the next."""
        async with self._database.command() as tx:
            tx.write(_SKIP, consumer, stream_id, version)

    async def give_up_parked(self, consumer: str, queue: str, stream_id: UUID) -> int:
        """Make dead letters of what waited too long; a bounded number, which is returned."""
        async with self._database.transaction() as tx:
            await tx.fetchval(_LOCK, consumer, stream_id)
            rows = await tx.fetch(_ALL_PARKED, consumer, stream_id)
            for row in rows:
                deadletters.keep(
                    tx, Incoming(0, row["message_id"], "", row["body"], {}), GapTimeout("the event before it is missing"),
                    consumer=consumer, queue=queue, reason="gap_timeout", attempts=1,
                    stream=(stream_id, row["version"]), now=datetime.now(UTC),
                )  # fmt: skip
                tx.end_step()
            if rows:
                tx.write(_HAD_SURVIVED, consumer, stream_id, rows[-1]["version"])
                tx.write(_HAD, consumer, stream_id, rows[-1]["version"])
        return len(rows)


def forget_overdue(tx: Transaction) -> None:
    """Queue the removal of notes of the ladder that count no more: what they are about was redriven, or is lost."""
    tx.write(_FORGET_OVERDUE, PARKED_LOOK)


def _parked(row: Row) -> Parked:
    return Parked(row["stream_id"], row["version"], row["message_id"], row["producer"], row["body"], row["suspect"])
