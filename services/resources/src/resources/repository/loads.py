"""Loads and saves catalogue loads, whose turn it is, and what of each was read, applied and refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.database import Row, Transaction
from chassis.repository import Repository

from resources.domain import LOAD_EVENTS, CatalogueLoad, LoadMode, LoadNotFound
from resources.public_events import announce_load

_FEED = (
    "INSERT INTO catalogue_feeds (cnpj) VALUES ($1) ON CONFLICT (cnpj) DO UPDATE SET cnpj = excluded.cnpj RETURNING *"
)
_NEWEST = {
    LoadMode.FULL: "UPDATE catalogue_feeds SET full_load_id = $2, full_sha256 = $3, sequence = coalesce($4, sequence) WHERE cnpj = $1",
    LoadMode.DELTA: "UPDATE catalogue_feeds SET delta_load_id = $2, delta_sha256 = $3, sequence = coalesce($4, sequence) WHERE cnpj = $1",
}  # fmt: skip
_RUN = """INSERT INTO catalogue_runs (load_id, cnpj, seq, due_at, progress_at, read, announced)
SELECT id, cnpj, seq, $2, $2, $3, $4 FROM catalogue_loads WHERE id = $1 ON CONFLICT (load_id) DO NOTHING"""

# One after the other for each company: a load that was read waits until those before it are over.
_CLAIM = """UPDATE catalogue_runs r SET due_at = now() + make_interval(secs => $2), fence = r.fence + 1, attempts = r.attempts + 1
FROM (SELECT load_id FROM catalogue_runs r WHERE due_at <= now()
    AND (NOT read OR NOT EXISTS (SELECT FROM catalogue_runs e WHERE e.cnpj = r.cnpj AND e.seq < r.seq))
    ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED) due
WHERE r.load_id = due.load_id RETURNING r.load_id, r.cnpj, r.fence, r.attempts, r.read"""
_HOLD = "SELECT read, announced, deactivated, attempts, progress_at FROM catalogue_runs WHERE load_id = $1 AND fence = $2 FOR UPDATE"
_KEEP = """UPDATE catalogue_runs SET due_at = $3, read = $4, announced = $5, deactivated = $6, progress_at = $7, attempts = $8
WHERE load_id = $1 AND fence = $2"""
# Neither one that is due, for somebody else may have it, nor one that its worker put down until later.
_RENEW = """UPDATE catalogue_runs SET due_at = now() + make_interval(secs => $3)
WHERE load_id = $1 AND fence = $2 AND due_at > now() AND due_at < now() + make_interval(secs => $3)"""
_WAKE = "UPDATE catalogue_runs SET due_at = least(due_at, $2) WHERE load_id = $1"
_WAKE_NEXT = """UPDATE catalogue_runs SET due_at = least(due_at, $2) WHERE load_id = (
    SELECT load_id FROM catalogue_runs WHERE cnpj = $1 ORDER BY seq LIMIT 1)"""
_END = "DELETE FROM catalogue_runs WHERE load_id = $1"
_COMPANY = "SELECT cnpj FROM catalogue_loads WHERE id = $1"
_TURN = """SELECT NOT EXISTS (SELECT FROM catalogue_runs e JOIN catalogue_runs r ON r.cnpj = e.cnpj AND e.seq < r.seq
WHERE r.load_id = $1)"""
_NEWER = """SELECT EXISTS (SELECT FROM catalogue_loads n JOIN catalogue_loads l ON l.cnpj = n.cnpj AND n.seq > l.seq
WHERE l.id = $1 AND n.status IN ('ready', 'awaiting_confirmation', 'applying', 'applied', 'applied_with_errors'))"""


def _columns(load: CatalogueLoad) -> dict[str, Any]:
    return {
        "organization_id": load.organization_id,
        "cnpj": load.cnpj,
        "mode": load.mode.value,
        "status": load.status.value,
        "received_at": load.received_at,
    }


LOADS: Repository[CatalogueLoad] = Repository(
    table="catalogue_loads",
    aggregate=CatalogueLoad,
    events=LOAD_EVENTS,
    columns=_columns,
    announce=announce_load,
    not_found=LoadNotFound,
)


@dataclass(frozen=True, slots=True)
class Feed:
    """What a company sent last, in each mode; held until the end of the transaction."""

    newest: dict[LoadMode, tuple[UUID, str] | None]
    sequence: int | None


@dataclass(frozen=True, slots=True)
class Run:
    """A load that a worker has until its lease runs out; `fence` tells it from whoever has it afterwards."""

    load_id: UUID
    cnpj: str
    fence: int
    attempts: int
    read: bool


@dataclass(slots=True)
class RunState:
    """How far a load came, as `keep_run` keeps it."""

    read: bool
    announced: int
    deactivated: int
    attempts: int
    progress_at: datetime


async def hold_feed(tx: Transaction, cnpj: str) -> Feed:
    """What the company sent last: acceptances, turns and retries of one company happen one after the other."""
    row = await tx.fetchrow(_FEED, cnpj)
    if row is None:
        raise AssertionError("an upsert always returns its row")
    return Feed({LoadMode.FULL: _sent(row, "full"), LoadMode.DELTA: _sent(row, "delta")}, row["sequence"])


def _sent(row: Row, mode: str) -> tuple[UUID, str] | None:
    load_id, digest = row[f"{mode}_load_id"], row[f"{mode}_sha256"]
    return None if load_id is None else (load_id, digest)


async def accept(tx: Transaction, load: CatalogueLoad, *, now: datetime) -> None:
    """A new load as its company's newest, waiting for a worker; the feed is held."""
    if load.payload is None:
        raise AssertionError("a load that is accepted has a payload")
    LOADS.save(tx, load, now=now)
    await tx.flush()
    tx.write(_NEWEST[load.mode], load.cnpj, load.id, load.payload.sha256, load.sequence)
    begin_run(tx, load, now=now)


def begin_run(tx: Transaction, load: CatalogueLoad, *, now: datetime, read: bool = False, announced: int = 0) -> None:
    """Queue that workers take the load on."""
    tx.write(_RUN, load.id, now, read, announced)


async def claim_runs(tx: Transaction, limit: int, *, lease_s: int) -> list[Run]:
    """At most `limit` loads of which something is due, for this worker alone until the lease runs out."""
    return [Run(**dict(row)) for row in await tx.fetch(_CLAIM, limit, lease_s)]


async def hold_run(tx: Transaction, run: Run) -> RunState | None:
    """How far the load came, held; None when another worker has it by now."""
    row = await tx.fetchrow(_HOLD, run.load_id, run.fence)
    return None if row is None else RunState(**dict(row))


def keep_run(tx: Transaction, run: Run, state: RunState, *, due_at: datetime) -> None:
    """Queue how far the load came, and when a worker looks at it next."""
    tx.write(
        _KEEP, run.load_id, run.fence, due_at, state.read, state.announced, state.deactivated, state.progress_at, state.attempts
    )  # fmt: skip


def renew_run(tx: Transaction, run: Run, *, lease_s: int) -> None:
    """Queue that the worker has the load for this long from now."""
    tx.write(_RENEW, run.load_id, run.fence, lease_s)


def wake_run(tx: Transaction, load_id: UUID, *, now: datetime) -> None:
    """Queue that a worker looks at the load now."""
    tx.write(_WAKE, load_id, now)


async def end_run(tx: Transaction, load: CatalogueLoad, *, now: datetime) -> None:
    """Nothing more is done for the load; the next one of its company has its turn."""
    tx.write(_END, load.id)
    await tx.flush()
    tx.write(_WAKE_NEXT, load.cnpj, now)


async def company_of(tx: Transaction, load_id: UUID) -> str:
    """Whose catalogue the load is, which never changes; raises `LoadNotFound`."""
    cnpj: str | None = await tx.fetchval(_COMPANY, load_id)
    if cnpj is None:
        raise LoadNotFound
    return cnpj


async def has_turn(tx: Transaction, run: Run) -> bool:
    """No earlier load of the company is under way; the feed is held, so it stays so."""
    found: bool = await tx.fetchval(_TURN, run.load_id)
    return found


async def is_superseded(tx: Transaction, load_id: UUID) -> bool:
    """A newer load of the company had its turn."""
    found: bool = await tx.fetchval(_NEWER, load_id)
    return found


# -- chunks --------------------------------------------------------------------------------------------------------------

_STORE = """INSERT INTO catalogue_chunks (id, load_id, number, row_last, rows, accepted, duplicates, rejected, keys, status)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'stored')"""
_LAST = "SELECT number, row_last FROM catalogue_chunks WHERE load_id = $1 ORDER BY number DESC LIMIT 1"
_TO_ANNOUNCE = (
    "SELECT id, number, rows FROM catalogue_chunks WHERE load_id = $1 AND number > $2 ORDER BY number LIMIT $3"
)
_ANNOUNCED = """UPDATE catalogue_chunks SET status = 'due', due_at = $2, message = $3, attempts = 0
WHERE id = $1 AND status = ANY($4::text[]) RETURNING load_id"""
_OF_CHUNK = "SELECT load_id, status FROM catalogue_chunks WHERE id = $1"
_STALLED = "UPDATE catalogue_chunks SET status = 'due', due_at = $2 WHERE load_id = $1 AND status = 'stored'"
_AGAIN = """UPDATE catalogue_chunks SET status = 'due', due_at = $2, attempts = 0, error = NULL
WHERE load_id = $1 AND status = 'failed'"""
_CLAIM_CHUNKS = """UPDATE catalogue_chunks c SET due_at = now() + make_interval(secs => $2), fence = c.fence + 1
FROM (SELECT load_id, number FROM catalogue_chunks WHERE status = 'due' AND due_at <= now()
    ORDER BY due_at, load_id, number LIMIT $1 FOR UPDATE SKIP LOCKED) d
WHERE c.load_id = d.load_id AND c.number = d.number RETURNING c.id, c.load_id, c.number, c.row_last, c.fence,
    (SELECT cnpj FROM catalogue_loads l WHERE l.id = c.load_id) AS cnpj"""
_HOLD_CHUNK = """SELECT attempts, message FROM catalogue_chunks
WHERE load_id = $1 AND number = $2 AND fence = $3 AND status = 'due' FOR UPDATE"""
_DONE = """UPDATE catalogue_chunks SET status = 'done', due_at = NULL, error = NULL, message = NULL, inserted = $3, updated = $4,
    unchanged = $5, done_at = $6 WHERE load_id = $1 AND number = $2"""
_NOT_DONE = """UPDATE catalogue_chunks SET status = $3, due_at = $4, attempts = $5, error = $6
WHERE load_id = $1 AND number = $2"""
_SUMS = """SELECT count(*) AS chunks, coalesce(sum(rows), 0) AS rows, coalesce(sum(accepted), 0) AS accepted,
    coalesce(sum(duplicates), 0) AS duplicates, coalesce(sum(rejected), 0) AS rejected,
    count(*) FILTER (WHERE status IN ('stored', 'due')) AS waiting, count(*) FILTER (WHERE status = 'failed') AS failed,
    coalesce(sum(inserted), 0) AS inserted, coalesce(sum(updated), 0) AS updated, coalesce(sum(unchanged), 0) AS unchanged,
    max(done_at) AS done_at FROM catalogue_chunks WHERE load_id = $1"""
_WAITING = """SELECT (SELECT count(*) FROM catalogue_runs) AS loads,
    (SELECT count(*) FROM catalogue_chunks WHERE status = 'due') AS chunks"""
_FINISHED = """UPDATE catalogue_runs SET due_at = least(due_at, $2) WHERE load_id = $1
AND NOT EXISTS (SELECT FROM catalogue_chunks WHERE load_id = $1 AND status IN ('stored', 'due'))"""
_DEALT_WITH = """UPDATE dead_letters SET status = 'resolved', note = 'tried again with its load'
WHERE consumer = $2 AND status = 'open' AND message_id IN (
    SELECT split_part(convert_from(message, 'UTF8'), chr(10), 1) FROM catalogue_chunks
    WHERE load_id = $1 AND status = 'failed' AND message IS NOT NULL)"""
_FORGOTTEN = "DELETE FROM inbox WHERE message_id = $1 AND consumer = $2"
_REJECT_COLUMNS = ("load_id", "number", "row", "pointer", "code", "detail", "raw")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a load that a worker has until its lease runs out."""

    id: UUID
    load_id: UUID
    number: int
    row_last: int
    fence: int
    cnpj: str


async def store_chunk(
    tx: Transaction, chunk_id: UUID, *, load_id: UUID, number: int, row_last: int, rows: int, duplicates: int,
    rejected: int, keys: Sequence[str], rejects: bytes,
) -> None:  # fmt: skip
    """A part of a load that is safe in the object store, and its rejects, which are COPY text."""
    tx.write(_STORE, chunk_id, load_id, number, row_last, rows, len(keys), duplicates, rejected, list(keys))
    if rejects:
        await tx.copy("catalogue_rejects", _REJECT_COLUMNS, rejects)


async def last_chunk(tx: Transaction, load_id: UUID) -> tuple[int, int]:
    """(number, last row) of the last chunk that is stored, (0, 0) when there is none."""
    row = await tx.fetchrow(_LAST, load_id)
    return (0, 0) if row is None else (row["number"], row["row_last"])


async def chunks_after(tx: Transaction, load_id: UUID, number: int, *, limit: int) -> list[Row]:
    """(id, number, rows) of the chunks behind one."""
    return await tx.fetch(_TO_ANNOUNCE, load_id, number, limit)


async def chunk_due(
    tx: Transaction, chunk_id: UUID, message: bytes, *, now: datetime, again: bool = False
) -> UUID | None:
    """The chunk waits for a worker from now on; its load, or None when it is not one that was stored (or failed)."""
    states = ["stored", "failed"] if again else ["stored"]
    load_id: UUID | None = await tx.fetchval(_ANNOUNCED, chunk_id, now, message, states)
    return load_id


async def where_chunk(tx: Transaction, chunk_id: UUID) -> Row | None:
    """(load_id, status) of a chunk, or None."""
    return await tx.fetchrow(_OF_CHUNK, chunk_id)


def stalled_due(tx: Transaction, load_id: UUID, *, now: datetime) -> None:
    """Queue that chunks are applied whose announcement was not heard."""
    tx.write(_STALLED, load_id, now)


def failed_due(tx: Transaction, load_id: UUID, *, consumer: str, now: datetime) -> None:
    """Queue that chunks which failed are tried again, and that their dead letters are dealt with."""
    tx.write(_DEALT_WITH, load_id, consumer)
    tx.write(_AGAIN, load_id, now)


async def claim_chunks(tx: Transaction, limit: int, *, lease_s: int) -> list[Chunk]:
    """At most `limit` chunks that are due, for this worker alone until the lease runs out."""
    return [Chunk(**dict(row)) for row in await tx.fetch(_CLAIM_CHUNKS, limit, lease_s)]


async def hold_chunk(tx: Transaction, chunk: Chunk) -> Row | None:
    """(attempts, message) of a chunk, held; None when another worker has it by now or had it."""
    return await tx.fetchrow(_HOLD_CHUNK, chunk.load_id, chunk.number, chunk.fence)


def chunk_done(tx: Transaction, chunk: Chunk, *, inserted: int, updated: int, unchanged: int, now: datetime) -> None:
    """Queue that the chunk was applied."""
    tx.write(_DONE, chunk.load_id, chunk.number, inserted, updated, unchanged, now)


def chunk_not_done(tx: Transaction, chunk: Chunk, *, attempts: int, error: str, due_at: datetime | None) -> None:
    """Queue that the chunk is tried again, or without `due_at` that it failed."""
    status = "failed" if due_at is None else "due"
    tx.write(_NOT_DONE, chunk.load_id, chunk.number, status, due_at, attempts, error)


def forget_handled(tx: Transaction, message_id: str, consumer: str) -> None:
    """Queue that a message counts as not handled: it became a dead letter, and may come back."""
    tx.write(_FORGOTTEN, UUID(message_id), consumer)


async def sums(tx: Transaction, load_id: UUID) -> Row:
    """What the chunks of a load come to."""
    row = await tx.fetchrow(_SUMS, load_id)
    if row is None:
        raise AssertionError("sums are always a row")
    return row


async def waiting(tx: Transaction) -> tuple[int, int]:
    """(loads that are not over, chunks that wait for a worker)."""
    row = await tx.fetchrow(_WAITING)
    if row is None:
        raise AssertionError("counts are always a row")
    return row["loads"], row["chunks"]


def wake_if_finished(tx: Transaction, load_id: UUID, *, now: datetime) -> None:
    """Queue that a worker looks at the load, when no chunk of it waits any more."""
    tx.write(_FINISHED, load_id, now)
