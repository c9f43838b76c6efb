"""Recover: what an endpoint missed since a moment goes out again; a durable job, moved on by `recoverer`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from chassis import jobs
from chassis.access import Principal
from chassis.database import Row, Transaction, under_locks
from chassis.kernel import new_id

from webhooks import queries
from webhooks.domain import EndpointStatus, InvalidSpan, RecoveryRunning
from webhooks.repository import recoveries
from webhooks.repository.recoveries import Span
from webhooks.usecases.endpoints import own_endpoint
from webhooks.usecases.messages import MESSAGES_HINT

KIND = "webhooks.recover"
RECOVERY_HINT = "webhook-recovery"
SINCE_MAX = timedelta(days=30)  # attempts are kept as long
LATENESS_MAX = timedelta(minutes=5)  # of a request that meant thirty days ago exactly
LOOKED_AT_MAX = 20_000  # messages in one step
SENT_MAX = 100  # of them: what a step locks
WAITING_MAX = 200  # messages due before a step waits: new events queue behind no more than these and a step's
FULL_PAUSE_S = 0.1
HELD_PAUSE_S = 2.0
_SENT_TO = frozenset({EndpointStatus.ACTIVE, EndpointStatus.FAILING})


async def recover(
    tx: Transaction, principal: Principal, endpoint_id: UUID, *,
    since: datetime, until: datetime | None, everything: bool, now: datetime, if_match: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Send again what was not delivered, or everything, of the span; one recovery of an endpoint at a time."""
    under_locks(tx)
    endpoint = await own_endpoint(tx, principal, endpoint_id, if_match)
    endpoint.require_delivering()
    span = Span(endpoint.id, *_bounds(since, until, now), everything)
    if await recoveries.is_running(tx, endpoint.id):
        raise RecoveryRunning("wait for the one that runs, or cancel it")
    job_id = new_id()
    jobs.start(tx, job_id, KIND, total=0, now=now)
    recoveries.store(tx, job_id, endpoint.organization_id, span)
    tx.hints.add(RECOVERY_HINT)
    return {"id": job_id, "kind": KIND, "status": "running", "done": 0, "total": 0, "error": None}


async def recovery_job(tx: Transaction, principal: Principal, job_id: UUID) -> Row:
    """A recovery of one of the caller's endpoints."""
    await queries.recovery(tx, principal, job_id)
    return await jobs.job(tx, job_id)


async def cancel_own_recovery(tx: Transaction, principal: Principal, job_id: UUID) -> Row:
    """Send nothing more of it; what is due already goes out. Returns the job."""
    await queries.recovery(tx, principal, job_id)
    return await _cancelled(tx, job_id)


async def cancel_recovery(tx: Transaction, job_id: UUID, *, actor_id: UUID, now: datetime) -> Row:
    """The same, for operators."""
    return await _cancelled(tx, job_id)


async def due_recovery(tx: Transaction) -> Row | None:
    """The job whose turn it is, locked."""
    return await jobs.due(tx, KIND)


async def advance_recovery(tx: Transaction, due: Row) -> None:
    """Move a job that is due on by one page; the page and the place reached are one commit."""
    recovery = await recoveries.recovery(tx, due["id"])
    if recovery["endpoint_status"] == EndpointStatus.DELETED:
        jobs.end(tx, due["id"], "cancelled", "the endpoint was deleted")
    elif recovery["endpoint_status"] not in _SENT_TO:
        jobs.postpone(tx, due["id"], done=due["done"], total=due["total"], seconds=HELD_PAUSE_S)
    elif recovery["counted_to"] is not None:
        await _count(tx, due, recovery)
    else:
        await _send(tx, due, recovery)


def fail_recovery(tx: Transaction, job_id: UUID, error: str) -> None:
    """End a job that cannot go on."""
    jobs.end(tx, job_id, "failed", error)


async def _count(tx: Transaction, due: Row, recovery: Row) -> None:
    page = await recoveries.count(tx, recovery, looked_at=LOOKED_AT_MAX)
    recoveries.keep_counted(tx, due["id"], page.last)
    jobs.postpone(tx, due["id"], done=0, total=due["total"] + page.found, seconds=0)


async def _send(tx: Transaction, due: Row, recovery: Row) -> None:
    if await recoveries.waiting(tx, recovery["endpoint_id"], at_most=WAITING_MAX) >= WAITING_MAX:
        jobs.postpone(tx, due["id"], done=due["done"], total=due["total"], seconds=FULL_PAUSE_S)
        return
    page = await recoveries.send_again(tx, recovery, looked_at=LOOKED_AT_MAX, at_most=SENT_MAX)
    done = due["done"] + page.found
    if page.found:
        tx.hints.add(MESSAGES_HINT)
    if page.last is not None:
        recoveries.keep_sent(tx, due["id"], page.last)
        jobs.postpone(tx, due["id"], done=done, total=max(done, due["total"]), seconds=0)
    else:
        jobs.move(tx, due["id"], done=done, total=done)  # what was delivered meanwhile needed no sending
        tx.end_step()
        jobs.end(tx, due["id"], "done")


async def _cancelled(tx: Transaction, job_id: UUID) -> Row:
    await jobs.running(tx, job_id)
    jobs.end(tx, job_id, "cancelled")
    await tx.flush()
    return await jobs.job(tx, job_id)


def _bounds(since: datetime, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    end = now if until is None else min(until, now)
    if now - since > SINCE_MAX + LATENESS_MAX:
        raise InvalidSpan(f"at most {SINCE_MAX.days} days ago", pointer="/since")
    if not since < end:
        raise InvalidSpan("before the end of the span, and before now", pointer="/since")
    return since, end
