"""Applies chunks of catalogue loads: each once, in any order, on any number of workers."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from chassis import deadletters
from chassis.broker import Incoming
from chassis.database import Transaction
from chassis.kernel import new_id
from chassis.outbox import enqueue

from contracts import topology
from resources import repository
from resources.domain import LoadSuperseded
from resources.public_events import products_changed
from resources.repository import LOADS, Chunk
from resources.usecases.load_decisions import ChunksGone, reopen
from resources.usecases.load_intake import CHUNKS_CONSUMER, CHUNKS_HINT, LOADS_HINT

CHUNK_LEASE_S = 20  # one takes some tens of milliseconds; of a worker that was killed it is free again this soon
TRIES = 3
PAUSES_S = (1, 5)  # between tries; of a store that is away none counts


async def chunk_announced(tx: Transaction, chunk_id: UUID, message: bytes, *, message_id: UUID, now: datetime) -> None:
    """A chunk waits for a worker from now on; one that had failed and comes back from the dead letters, too.

    What comes back of a load that a newer one has overtaken has no effect.
    """
    kept = str(message_id).encode() + b"\n" + message
    tx.hints.add(CHUNKS_HINT)
    if await repository.chunk_due(tx, chunk_id, kept, now=now) is not None:
        return
    known = await repository.where_chunk(tx, chunk_id)
    if known is None or known["status"] != "failed":
        return
    await repository.hold_feed(tx, await repository.company_of(tx, known["load_id"]))
    load = await LOADS.get(tx, known["load_id"])
    if load.is_over:
        try:
            await reopen(tx, load, retried_by=None, now=now)
        except (LoadSuperseded, ChunksGone):
            return
    await repository.chunk_due(tx, chunk_id, kept, now=now, again=True)


async def claim_chunks(tx: Transaction, limit: int) -> list[Chunk]:
    """At most `limit` chunks that wait, for this worker alone."""
    return await repository.claim_chunks(tx, limit, lease_s=CHUNK_LEASE_S)


async def apply_chunk(tx: Transaction, chunk: Chunk, products: bytes, *, now: datetime) -> tuple[int, int, int] | None:
    """Make the products as the chunk says; (inserted, updated, unchanged), or None when another worker has it."""
    if await repository.hold_chunk(tx, chunk) is None:
        return None
    counts = await repository.upsert(tx, products, cnpj=chunk.cnpj, load_id=chunk.load_id, number=chunk.number, now=now)
    inserted, updated, unchanged = counts
    repository.chunk_done(tx, chunk, inserted=inserted, updated=updated, unchanged=unchanged, now=now)
    if inserted or updated:
        told = products_changed(
            chunk.id, load_id=chunk.load_id, number=chunk.number, cnpj=chunk.cnpj, inserted=inserted, updated=updated,
            unchanged=unchanged,
        )  # fmt: skip
        enqueue(tx, stream_id=chunk.id, messages=[(new_id(), 2, told)], now=now)
    return counts


def after_chunk(tx: Transaction, chunk: Chunk, *, now: datetime) -> None:
    """Queue that the load goes on when this chunk was the last; in a transaction of its own, which sees all the others."""
    repository.wake_if_finished(tx, chunk.load_id, now=now)
    tx.hints.add(LOADS_HINT)


async def chunk_failed(
    tx: Transaction, chunk: Chunk, error: Exception, *, counts: bool, now: datetime
) -> bool:  # fmt: skip
    """The chunk is tried again later, or has failed for good and is a dead letter; whether the latter."""
    held = await repository.hold_chunk(tx, chunk)
    if held is None:
        return False
    attempts = held["attempts"] + counts
    if attempts < TRIES:
        due_at = now + timedelta(seconds=PAUSES_S[max(0, attempts - 1)])
        repository.chunk_not_done(tx, chunk, attempts=attempts, error=repr(error)[:500], due_at=due_at)
        return False
    repository.chunk_not_done(tx, chunk, attempts=attempts, error=repr(error)[:500], due_at=None)
    if held["message"] is not None:
        _bury(tx, held["message"], error, attempts, now)
    return True


def _bury(tx: Transaction, kept: bytes, error: Exception, attempts: int, now: datetime) -> None:
    message_id, _, body = kept.partition(b"\n")
    message = Incoming(0, message_id.decode(), "", body, {})
    queue = topology.queue("resources", CHUNKS_CONSUMER)
    deadletters.keep(
        tx, message, error, consumer=CHUNKS_CONSUMER, queue=queue, reason="chunk-failed", attempts=attempts, now=now
    )
    repository.forget_handled(tx, message.message_id, CHUNKS_CONSUMER)
