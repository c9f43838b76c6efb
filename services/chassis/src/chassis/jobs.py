"""Jobs that operators and partners start: durable, moved on by workers, looked at and cancelled by their id."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Row, Transaction, under_locks
from chassis.kernel import InvalidTransition, NotFound

ERROR_CHARS_MAX = 2_000
DAYS_KEPT = 30  # of what has ended

_START = """INSERT INTO operator_jobs (id, kind, total, rate_per_s, status, created_at, next_at)
VALUES ($1, $2, $3, $4, 'running', $5, $5)"""
_JOB = "SELECT id, kind, status, done, total, error FROM operator_jobs WHERE id = $1"
_MOVE = "UPDATE operator_jobs SET done = $2, total = $3 WHERE id = $1 AND status = 'running'"
_POSTPONE = """UPDATE operator_jobs SET done = $2, total = $3, next_at = now() + make_interval(secs => $4)
WHERE id = $1 AND status = 'running'"""
_DUE = """SELECT id, done, total FROM operator_jobs WHERE status = 'running' AND kind = $1 AND next_at <= now()
ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED"""
_FORGET = "DELETE FROM operator_jobs WHERE status <> 'running' AND next_at < now() - make_interval(days => $1)"
_END = "UPDATE operator_jobs SET status = $2, error = $3 WHERE id = $1 AND status = 'running'"


class JobNotFound(NotFound):
    """There is no such job."""

    slug = "job-not-found"


def start(tx: Transaction, job_id: UUID, kind: str, *, total: int, now: datetime, rate_per_s: int = 0) -> None:
    """Queue a new job; a rate of 0 is nobody's business but the job's."""
    tx.write(_START, job_id, kind, total, rate_per_s, now)


async def job(tx: Transaction, job_id: UUID, *, locked: bool = False) -> Row:
    """How far a job is: id, kind, status, done, total, error."""
    row = await tx.fetchrow(f"{_JOB} FOR UPDATE" if locked else _JOB, job_id)
    if row is None:
        raise JobNotFound
    return row


async def running(tx: Transaction, job_id: UUID) -> Row:
    """A job that can still be stopped, locked; needs a real transaction, and the command runs again in one."""
    under_locks(tx)
    found = await job(tx, job_id, locked=True)
    if found["status"] != "running":
        raise InvalidTransition(status=found["status"], allowed=[])
    return found


def move(tx: Transaction, job_id: UUID, *, done: int, total: int) -> None:
    """Queue how far a running job is."""
    tx.write(_MOVE, job_id, done, total)


async def due(tx: Transaction, kind: str) -> Row | None:
    """The job of a kind whose turn it is, locked until the transaction ends: id, done, total. None when none is due."""
    return await tx.fetchrow(_DUE, kind)


def postpone(tx: Transaction, job_id: UUID, *, done: int, total: int, seconds: float) -> None:
    """Queue how far a running job is, and that its next turn is in so many seconds."""
    tx.write(_POSTPONE, job_id, done, total, seconds)


def forget_ended(tx: Transaction) -> None:
    """Queue the removal of what ended long ago."""
    tx.write(_FORGET, DAYS_KEPT)


def end(tx: Transaction, job_id: UUID, status: str, error: str | None = None) -> None:
    """Queue a running job's end: `done`, `cancelled`, or `failed` with its error."""
    tx.write(_END, job_id, status, None if error is None else error[:ERROR_CHARS_MAX])
