"""Recoveries: how far each one is, and the pages of messages that they count and send again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from chassis.database import Row, Transaction

from webhooks.domain import MessageStatus

# Messages are walked by id, which tells their time to the millisecond by the clock of the process that made it; what is
# in the span is decided by `created_at`, by the clock of the database. No two clocks of ours differ more than this.
CLOCKS_APART_MAX = timedelta(minutes=10)

_STORE = """INSERT INTO webhook_recoveries
    (job_id, endpoint_id, organization_id, since, until, everything, ids_end, counted_to, sent_to)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)"""
_RUNNING = """SELECT EXISTS (SELECT FROM webhook_recoveries r JOIN operator_jobs j ON j.id = r.job_id
WHERE r.endpoint_id = $1 AND j.status = 'running')"""
_RECOVERY = """SELECT r.*, e.status AS endpoint_status FROM webhook_recoveries r
JOIN webhook_endpoints e ON e.id = r.endpoint_id WHERE r.job_id = $1"""

_WALK = """SELECT id, status, created_at, delivered_at FROM webhook_messages
    WHERE endpoint_id = $1 AND id > $2 AND id < $3 ORDER BY id LIMIT $4"""
_IN_SPAN = "status = ANY($5) AND created_at >= $6 AND created_at < $7 AND ($8 OR delivered_at IS NULL)"
_COUNT = f"""WITH looked_at AS MATERIALIZED ({_WALK})
SELECT count(*) FILTER (WHERE {_IN_SPAN}) AS found,
    CASE WHEN count(*) = $4 THEN (SELECT id FROM looked_at ORDER BY id DESC LIMIT 1) END AS last FROM looked_at"""
# The walk ends with the page, unless little of what it meets is wanted. A message that a dispatcher leases at this moment
# is waited for, and then left alone: it is under way.
_SEND_AGAIN = f"""WITH wanted AS MATERIALIZED (SELECT id FROM ({_WALK}) walked WHERE {_IN_SPAN} LIMIT $9),
sent AS (
    UPDATE webhook_messages SET status = 'pending', due_at = now(), attempts_before = attempts
    WHERE id IN (SELECT id FROM wanted) AND {_IN_SPAN} RETURNING 1)
SELECT (SELECT count(*) FROM sent) AS found, CASE WHEN (SELECT count(*) FROM wanted) = $9
    THEN (SELECT id FROM wanted ORDER BY id DESC LIMIT 1)
    ELSE (SELECT id FROM ({_WALK}) walked OFFSET $4 - 1) END AS last"""
_COUNTED = "UPDATE webhook_recoveries SET counted_to = $2 WHERE job_id = $1"
_SENT = "UPDATE webhook_recoveries SET sent_to = $2 WHERE job_id = $1"
_WAITING = """SELECT count(*) FROM (SELECT FROM webhook_messages
    WHERE endpoint_id = $1 AND status = 'pending' AND due_at <= now() LIMIT $2) w"""


@dataclass(frozen=True, slots=True)
class Span:
    """The messages of an endpoint that were made from `since` on and before `until`."""

    endpoint_id: UUID
    since: datetime
    until: datetime
    everything: bool  # what was delivered too

    @property
    def statuses(self) -> list[MessageStatus]:
        """What is sent again: whatever is not under way, held or cancelled."""
        delivered = [MessageStatus.DELIVERED] if self.everything else []
        return [MessageStatus.RETRYING, MessageStatus.EXHAUSTED, *delivered]


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of the walk: how many of its messages were in the span, and where it goes on; None when it is over."""

    found: int
    last: UUID | None


def store(tx: Transaction, job_id: UUID, organization_id: UUID, span: Span) -> None:
    """Queue a recovery at its beginning."""
    tx.write(
        _STORE, job_id, span.endpoint_id, organization_id, span.since, span.until, span.everything,
        id_at(span.until + CLOCKS_APART_MAX), id_at(span.since - CLOCKS_APART_MAX),
    )  # fmt: skip


async def is_running(tx: Transaction, endpoint_id: UUID) -> bool:
    """Whether the endpoint is being recovered already."""
    return bool(await tx.fetchval(_RUNNING, endpoint_id))


async def recovery(tx: Transaction, job_id: UUID) -> Row:
    """A recovery and its endpoint's status."""
    row = await tx.fetchrow(_RECOVERY, job_id)
    if row is None:
        raise LookupError("a job of this kind has a recovery, and a recovery an endpoint")
    return row


async def count(tx: Transaction, row: Row, *, looked_at: int) -> Page:
    """How much there is to send among the next messages."""
    return await _walked(tx, _COUNT, row, row["counted_to"], looked_at)


async def send_again(tx: Transaction, row: Row, *, looked_at: int, at_most: int) -> Page:
    """Make the next messages due now, as many as told among so many looked at."""
    return await _walked(tx, _SEND_AGAIN, row, row["sent_to"], looked_at, at_most)


def keep_counted(tx: Transaction, job_id: UUID, last: UUID | None) -> None:
    """Queue how far the total goes; None says that it is complete."""
    tx.write(_COUNTED, job_id, last)


def keep_sent(tx: Transaction, job_id: UUID, last: UUID) -> None:
    """Queue how far messages were sent again."""
    tx.write(_SENT, job_id, last)


async def waiting(tx: Transaction, endpoint_id: UUID, *, at_most: int) -> int:
    """How many messages of an endpoint are due and not under way, counted no further than needed."""
    number: int = await tx.fetchval(_WAITING, endpoint_id, at_most)
    return number


def id_at(moment: datetime) -> UUID:
    """The smallest UUIDv7 of a moment."""
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)


async def _walked(tx: Transaction, statement: str, row: Row, after: UUID, looked_at: int, *more: int) -> Page:
    span = Span(row["endpoint_id"], row["since"], row["until"], row["everything"])
    walk = (span.endpoint_id, after, row["ids_end"], looked_at)
    found = await tx.fetchrow(statement, *walk, span.statuses, span.since, span.until, span.everything, *more)
    if found is None:
        raise AssertionError("a count is always a row")
    return Page(found["found"], found["last"])
