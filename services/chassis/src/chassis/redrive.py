"""Redrive: dead letters go back, through the outbox, to the one queue they came from; a durable job paces it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

from chassis import audit, deadletters, jobs
from chassis.crashpoints import reached
from chassis.database import TRANSIENT_ERRORS, Database, Row, Transaction, under_locks
from chassis.kernel import ConcurrentUpdate, Conflict, new_id
from chassis.outbox import return_to_queue
from chassis.telemetry import DEAD_LETTERS_OPEN, log
from chassis.waking import woken

KIND = "dead-letters.redrive"
HINT = "redrive"
POLL_S_MAX = 1.0
COUNT_S = 5.0  # the gauge is for alerts that wait minutes
BATCH_MAX = 100  # messages put into the outbox by one transaction
BATCHES_PER_S = 4  # slower jobs send smaller batches, so that the rate is even
SETTLE_MAX = 1_000  # redriven messages looked up at once
PASSING_ERRORS: tuple[type[Exception], ...] = (ConcurrentUpdate, *TRANSIENT_ERRORS)
_FIRST = UUID(int=0)

_CLAIM = f"""WITH claimed AS (UPDATE dead_letters SET status = 'redriving', job_id = $4, sent_at = NULL, actor = $5, note = $6
    WHERE {deadletters.CHOSEN} RETURNING queue = ANY($7::text[]) AND message_id ~ {deadletters.UUID_PATTERN} AS possible)
SELECT count(*) AS count, count(*) FILTER (WHERE NOT possible) AS impossible FROM claimed"""
_RELEASE = """WITH released AS (UPDATE dead_letters SET status = 'open', job_id = NULL
    WHERE job_id = $1 AND status = 'redriving' AND sent_at IS NULL RETURNING 1) SELECT count(*) FROM released"""

_DUE = """SELECT id, rate_per_s FROM operator_jobs WHERE status = 'running' AND kind = $1 AND next_at <= now()
ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED"""
_DUE_IN = """SELECT extract(epoch FROM min(next_at) - now())::float8 FROM operator_jobs
WHERE status = 'running' AND kind = $1"""
_TAKE = """UPDATE dead_letters SET sent_at = now(), redrives = redrives + 1 WHERE id IN (
    SELECT id FROM dead_letters WHERE job_id = $1 AND status = 'redriving' AND sent_at IS NULL
    ORDER BY message_id LIMIT $2 FOR UPDATE)
RETURNING queue, message_id, body, now() AS now"""
_ADVANCE = """UPDATE operator_jobs SET done = done + $2, next_at = now() + make_interval(secs => $3),
    status = CASE WHEN $2 = 0 OR done + $2 >= total THEN 'done' ELSE status END WHERE id = $1"""

# Handled means that the consumer's inbox has it, or that the consumer is as far with its aggregate: the effect and that
# row are one transaction.
_SETTLE = """WITH looked_at AS MATERIALIZED (
    SELECT id, message_id, consumer, stream_id, version FROM dead_letters
    WHERE status = 'redriving' AND sent_at IS NOT NULL AND id > $1 ORDER BY id LIMIT $2),
settled AS (UPDATE dead_letters d SET status = 'resolved' FROM looked_at l
    WHERE d.id = l.id AND d.status = 'redriving' AND d.sent_at IS NOT NULL
    AND (EXISTS (SELECT FROM inbox i WHERE i.message_id = l.message_id::uuid AND i.consumer = l.consumer)
        OR EXISTS (SELECT FROM stream_positions p WHERE p.consumer = l.consumer AND p.stream_id = l.stream_id
            AND p.version >= l.version)) RETURNING 1)
SELECT (SELECT id FROM looked_at ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*) FROM looked_at) AS looked_at,
    (SELECT count(*) FROM settled) AS settled"""
_OPEN = "SELECT consumer, count(*) AS count FROM dead_letters WHERE status = 'open' GROUP BY consumer"


class NotRedrivable(Conflict):
    """Some of the messages have no queue of this service to go back to, or no id of ours: discard them or leave them out."""

    slug = "not-redrivable"


async def start(
    tx: Transaction, act: deadletters.Confirmed, *, rate_per_s: int, queues: Sequence[str], now: datetime
) -> Row:
    """Claim the chosen dead letters for a new job, all of them or none; returns the job."""
    under_locks(tx)
    job_id = new_id()
    claimed = await tx.fetchrow(_CLAIM, *act.chosen.arguments, job_id, str(act.actor_id), act.reason, list(queues))
    if claimed is None:
        raise AssertionError("a count is always a row")
    deadletters.expect(act.expected_count, claimed["count"])
    if claimed["impossible"]:
        raise NotRedrivable(f"{claimed['impossible']} cannot be redriven", count=claimed["impossible"])
    jobs.start(tx, job_id, KIND, total=claimed["count"], rate_per_s=rate_per_s, now=now)
    audit.record(
        tx, KIND, actor_id=act.actor_id, now=now, wanted=act.chosen.told(), count=claimed["count"], reason=act.reason,
        job_id=job_id,
    )  # fmt: skip
    await tx.flush()
    tx.hints.add(HINT)
    return await jobs.job(tx, job_id)


async def cancel(tx: Transaction, job_id: UUID, *, actor_id: UUID, now: datetime) -> Row:
    """Stop what is not sent yet: those dead letters are open again; returns the job."""
    await jobs.running(tx, job_id)
    released = await tx.fetchval(_RELEASE, job_id)
    jobs.end(tx, job_id, "cancelled")
    audit.record(tx, f"{KIND}.cancel", actor_id=actor_id, now=now, wanted={}, count=released, job_id=job_id)
    await tx.flush()
    return await jobs.job(tx, job_id)


class Redriver:
    """Sends what jobs claimed, at their rate, and closes what was handled; as often interrupted as you like.

    A batch is one transaction: its dead letters are marked, its outbox rows written and the job moved on together,
    so a crash repeats nothing and leaves nothing out. Several processes share the jobs without exceeding a rate.
    """

    def __init__(self, database: Database, *, consumers: Sequence[str]) -> None:
        self._database = database
        self._counted = set(consumers)
        self._count_at = 0.0
        self._settled_to = _FIRST
        self._wake = asyncio.Event()
        database.listen(HINT, self._wake.set)

    async def run(self) -> None:
        """Redrive until cancelled."""
        while True:
            pause_s = POLL_S_MAX
            try:
                while await self.send_batch():
                    pass
                await self.settle()
                await self._count()
                due_in_s = await self._database.reading().fetchval(_DUE_IN, KIND)
                pause_s = POLL_S_MAX if due_in_s is None else max(0.005, min(due_in_s, POLL_S_MAX))
            except PASSING_ERRORS as error:
                log.warning("redrive.postponed", error=repr(error))
            await woken(self._wake, within_s=pause_s)

    async def send_batch(self) -> bool:
        """Move the job that is due on by one batch; False when none is. One that cannot go on fails, and holds nothing."""
        due: Row | None = None
        try:
            async with self._database.transaction() as tx:
                due = await tx.fetchrow(_DUE, KIND)
                if due is not None:
                    await advance(tx, due["id"], due["rate_per_s"])
            reached("redrive.batch")
        except PASSING_ERRORS:
            raise
        except Exception as error:
            if due is None:
                raise
            log.error("redrive.failed", job_id=str(due["id"]), error=repr(error), exc_info=True)
            async with self._database.transaction() as tx:
                await tx.fetchval(_RELEASE, due["id"])
                jobs.end(tx, due["id"], "failed", repr(error))
        return due is not None

    async def settle(self) -> int:
        """Close redriven messages that their consumer has handled; a bounded round, the next goes on from there."""
        async with self._database.transaction() as tx:
            row = await tx.fetchrow(_SETTLE, self._settled_to, SETTLE_MAX)
        if row is None:
            return 0
        self._settled_to = row["last"] if row["looked_at"] == SETTLE_MAX else _FIRST
        if row["settled"]:
            log.info("dead_letters.resolved", count=row["settled"])
        return int(row["settled"])

    async def _count(self) -> None:
        if time.monotonic() < self._count_at:
            return
        rows = await self._database.reading().fetch(_OPEN)
        open_now = {row["consumer"]: row["count"] for row in rows}
        self._counted |= open_now.keys()
        for consumer in self._counted:
            DEAD_LETTERS_OPEN.labels(consumer).set(open_now.get(consumer, 0))
        self._count_at = time.monotonic() + COUNT_S


async def advance(tx: Transaction, job_id: UUID, rate_per_s: int) -> None:
    """One batch of a job: letters marked, messages in the outbox, progress; all when the transaction commits, or nothing."""
    size = max(1, min(BATCH_MAX, rate_per_s // BATCHES_PER_S))
    letters = sorted(await tx.fetch(_TAKE, job_id, size), key=itemgetter("queue", "message_id"))
    for queue, found in groupby(letters, key=itemgetter("queue")):
        messages: list[Any] = list(found)
        return_to_queue(tx, queue, [(UUID(row["message_id"]), row["body"]) for row in messages], now=messages[0]["now"])
    tx.write(_ADVANCE, job_id, len(letters), len(letters) / rate_per_s)
