"""Generations of a projection: one is live; another may be built beside it from its producers' replays, and takes its place.

Rows of `projection_generations` say which there are. Workers consume every generation that still gets messages; whether
a message has an effect is decided by its generation's row, locked in the very transaction of the effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.commands import CancelReplay, Replay, ReplayMark

from chassis import audit, green_tables, jobs
from chassis.database import Row, Transaction, under_locks
from chassis.kernel import ConcurrentUpdate, Conflict, InvalidTransition, new_id
from chassis.outbox import return_to_queue
from chassis.telemetry import log
from contracts import topology

KIND = "projection.rebuild"
HINT = "projections"
OVERDUE = "1 hour"  # a message that is overdue in the ladder by this much is in no ladder
FORGOTTEN_MAX = 10_000  # rows of one bookkeeping table removed at a time

_BIRTH = """INSERT INTO projection_generations (consumer, number, status, step, started_at, live_at)
VALUES ($1, 1, 'live', 'live', $2, $2) ON CONFLICT DO NOTHING"""
_KNOWN = "SELECT EXISTS (SELECT FROM projection_generations WHERE consumer = $1)"
_COLUMNS = "consumer, number, status, step, schema_revision, job_id, waits_for, error, started_at, live_at, ended_at"
_ALL = f"SELECT {_COLUMNS} FROM projection_generations WHERE status <> 'gone' ORDER BY consumer, number"
_REPLAYING = """SELECT DISTINCT g.consumer FROM projection_generations g JOIN projection_replays r USING (consumer, number)
WHERE g.status = 'building' AND r.ended_at IS NULL"""
_ONE = f"SELECT {_COLUMNS} FROM projection_generations WHERE consumer = $1 AND number = $2"
_COUNTS = """SELECT 1 FROM projection_generations
WHERE consumer = $1 AND number = $2 AND status IN ('building', 'live') FOR SHARE"""
_BEGIN = """INSERT INTO projection_generations (consumer, number, status, step, job_id, started_at)
SELECT $1, max(number) + 1, 'building', 'tables', $2, $3 FROM projection_generations WHERE consumer = $1 RETURNING number"""
_BUILDING = "SELECT number FROM projection_generations WHERE consumer = $1 AND status = 'building'"
_OF_JOB = f"SELECT {_COLUMNS} FROM projection_generations WHERE job_id = $1 FOR UPDATE"
_STEP = """UPDATE projection_generations SET step = $4, next_at = now(), waits_for = NULL
WHERE consumer = $1 AND number = $2 AND step = $3 RETURNING 1"""
_END = """UPDATE projection_generations SET status = $3, step = 'ended', error = $4, ended_at = $5, waits_for = NULL
WHERE consumer = $1 AND number = $2 AND status = 'building' RETURNING 1"""
_WAIT = """UPDATE projection_generations SET waits_for = $3, next_at = now() + make_interval(secs => $4)
WHERE consumer = $1 AND number = $2"""
_GONE = "UPDATE projection_generations SET status = 'gone', step = 'gone' WHERE consumer = $1 AND number = $2"
_DUE = f"""UPDATE projection_generations SET next_at = now() + make_interval(secs => $1) WHERE (consumer, number) = (
    SELECT consumer, number FROM projection_generations WHERE status NOT IN ('live', 'gone') AND next_at <= now()
    ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING {_COLUMNS}"""

_ASKED = (
    """INSERT INTO projection_replays (replay_id, consumer, number, producer, asked_at) VALUES ($1, $2, $3, $4, $5)"""
)
_MARK = """UPDATE projection_replays SET sent = greatest(sent, $2), total = $3, error = coalesce(error, $4),
    ended_at = CASE WHEN $5 THEN coalesce(ended_at, now()) ELSE ended_at END WHERE replay_id = $1"""
_REPLAYS = """SELECT replay_id, producer, sent, total, error, asked_at, ended_at FROM projection_replays
WHERE consumer = $1 AND number = $2 ORDER BY producer"""
_IN_THE_WAY = f"""SELECT
    (SELECT count(*) FROM projection_replays WHERE consumer = $1 AND number = $2 AND ended_at IS NULL) AS replays,
    (SELECT count(*) FROM parked_messages WHERE consumer = $3) AS parked,
    (SELECT count(*) FROM retrying_messages WHERE consumer = $3 AND due_at > now() - interval '{OVERDUE}') AS retrying,
    (SELECT count(*) FROM dead_letters WHERE consumer = $3 AND status IN ('open', 'redriving')) AS dead"""
_UNDER_WAY = f"""SELECT EXISTS (SELECT FROM outbox WHERE exchange = '' AND routing_key = $2)
    OR EXISTS (SELECT FROM retrying_messages WHERE consumer = $1 AND due_at > now() - interval '{OVERDUE}')"""

# So that no batch is in the middle of an effect, and none begins, while the tables change places.
_STAND_STILL = "LOCK TABLE projection_generations IN EXCLUSIVE MODE"
_LIVE = "SELECT number FROM projection_generations WHERE consumer = $1 AND status = 'live'"
_RETIRE = """UPDATE projection_generations SET status = 'retired', step = 'ended', ended_at = $2, next_at = $2
WHERE consumer = $1 AND status = 'live'"""
_GO_LIVE = """UPDATE projection_generations SET status = 'live', step = 'live', live_at = $3, waits_for = NULL
WHERE consumer = $1 AND number = $2"""
_CLOSE_LETTERS = """UPDATE dead_letters SET status = 'discarded', actor = 'projections', note = $2
WHERE consumer = $1 AND status IN ('open', 'redriving')"""
_BOOKS = ("stream_positions", "parked_messages", "retrying_messages", "suspects")


class NotAProjection(Conflict):
    """The consumer does more than write tables of its own: hearing everything once more would do it all again."""

    slug = "not-a-projection"


class RebuildUnderWay(Conflict):
    """The projection is being rebuilt already."""

    slug = "rebuild-under-way"


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation, as its row tells."""

    consumer: str
    number: int
    status: str
    step: str
    schema_revision: str | None
    job_id: UUID | None
    waits_for: str | None
    error: str | None
    started_at: datetime
    live_at: datetime | None
    ended_at: datetime | None

    @property
    def name(self) -> str:
        """The name under which it consumes."""
        return topology.generation(self.consumer, self.number)

    @property
    def schema(self) -> str:
        """Where its tables are before and after it is live."""
        return f"{self.consumer}_g{self.number}"

    @property
    def consumed(self) -> bool:
        """Its queue exists, and may have messages."""
        return self.step in ("replaying", "live", "draining")


async def all_of(tx: Transaction) -> list[Generation]:
    """Those that are not gone, by consumer, the oldest first."""
    return [Generation(*row.values()) for row in await tx.fetch(_ALL)]


async def replaying(tx: Transaction) -> set[str]:
    """The consumers whose next generation does not have everything from its producers yet."""
    return {row["consumer"] for row in await tx.fetch(_REPLAYING)}


async def replays_of(tx: Transaction, generation: Generation) -> list[Row]:
    """What was asked of each producer, and how far it is: producer, sent, total, error, asked_at, ended_at."""
    return await tx.fetch(_REPLAYS, generation.consumer, generation.number)


async def ensure(tx: Transaction, consumers: Sequence[str], *, now: datetime) -> None:
    """Queue the first generation of each; what is there stays."""
    for consumer in consumers:
        tx.write(_BIRTH, consumer, now)


async def born(
    tx: Transaction, consumer: str, queue: str, tables: Sequence[str], sources: Mapping[str, Iterable[str]], *, now: datetime
) -> None:  # fmt: skip
    """The first generation, unless it is known; in a new database it asks for all that was told before it was born."""
    if await tx.fetchval(_KNOWN, consumer):
        return
    tx.write(_BIRTH, consumer, now)
    await tx.flush()
    if await green_tables.all_empty(tx, tables):
        ask(tx, consumer, 1, queue, sources, now=now)


async def counts(tx: Transaction, consumer: str, number: int) -> bool:
    """Whether messages of this generation still have their effect; it stays so until the transaction ends."""
    return await tx.fetchrow(_COUNTS, consumer, number) is not None


async def begin(tx: Transaction, consumer: str, *, actor_id: UUID, reason: str, now: datetime) -> Row:
    """Start to build the next generation; returns the job."""
    under_locks(tx)
    if await tx.fetchval(_BUILDING, consumer) is not None:
        raise RebuildUnderWay
    tx.write(_BIRTH, consumer, now)
    await tx.flush()
    job_id = new_id()
    number = await tx.fetchval(_BEGIN, consumer, job_id, now)
    jobs.start(tx, job_id, KIND, total=0, now=now)
    wanted = {"consumer": consumer, "generation": number}
    audit.record(tx, KIND, actor_id=actor_id, now=now, wanted=wanted, count=0, reason=reason, job_id=job_id)
    await tx.flush()
    tx.hints.add(HINT)
    return await jobs.job(tx, job_id)


def ask(
    tx: Transaction, consumer: str, number: int, queue: str, sources: Mapping[str, Iterable[str]], *, now: datetime
) -> None:
    """Queue a replay by each producer (producer → aggregates) to the generation's queue."""
    for producer, aggregates in sorted(sources.items()):
        command = Replay(queue=queue, replay_id=new_id(), aggregates=sorted(aggregates))
        tx.write(_ASKED, command.replay_id, consumer, number, producer, now)
        tx.end_step()
        _command(tx, producer, command, now=now)


def _command(tx: Transaction, producer: str, command: Replay | CancelReplay, *, now: datetime) -> None:
    body = command.model_dump_json().encode()
    return_to_queue(tx, topology.control_queue(producer), [(new_id(), body)], now=now)
    tx.end_step()


async def cancel(tx: Transaction, job_id: UUID, *, actor_id: UUID, now: datetime) -> Row:
    """Give up the generation of a job that is not live yet; returns the job."""
    await jobs.running(tx, job_id)
    row = await tx.fetchrow(_OF_JOB, job_id)
    if row is None or row["status"] != "building":
        raise InvalidTransition(status="done" if row is None else row["status"], allowed=[])
    generation = Generation(*row.values())
    await end(tx, generation, "cancelled", None, now=now)
    audit.record(
        tx, f"{KIND}.cancel", actor_id=actor_id, now=now, wanted={"consumer": generation.consumer}, count=0, job_id=job_id
    )  # fmt: skip
    await tx.flush()
    return await jobs.job(tx, job_id)


async def end(tx: Transaction, generation: Generation, status: str, error: str | None, *, now: datetime) -> None:
    """A generation that is being built will not be live: `cancelled`, or `failed` with its error; nobody sends to it any more."""
    if await tx.fetchrow(_END, generation.consumer, generation.number, status, error, now) is None:
        return
    for replay in await replays_of(tx, generation):
        if replay["ended_at"] is None:
            _command(tx, replay["producer"], CancelReplay(replay_id=replay["replay_id"]), now=now)
    await tx.flush()
    await green_tables.drop(tx, generation.schema)
    if generation.job_id is not None:
        jobs.end(tx, generation.job_id, status, error)
    tx.hints.add(HINT)
    log.info("projection.ended", generation=generation.name, status=status, error=error)


def mark(tx: Transaction, told: ReplayMark) -> None:
    """Queue how far a producer's replay is; one that nobody asked for changes nothing."""
    tx.write(_MARK, told.replay_id, told.sent, told.total, told.error, told.ended)
    if told.ended:
        tx.hints.add(HINT)


async def due(tx: Transaction, *, lease_s: float) -> Generation | None:
    """A generation that has something to do, for this worker alone until the lease is over."""
    row = await tx.fetchrow(_DUE, lease_s)
    return None if row is None else Generation(*row.values())


async def step(tx: Transaction, generation: Generation, following: str) -> None:
    """Go on to the next step, at once; raises `ConcurrentUpdate` when somebody else did, or it was cancelled."""
    if await tx.fetchrow(_STEP, generation.consumer, generation.number, generation.step, following) is None:
        raise ConcurrentUpdate
    tx.hints.add(HINT)


def wait(tx: Transaction, generation: Generation, what: str | None, *, pause_s: float) -> None:
    """Queue that nothing can be done for a while, and what for."""
    tx.write(_WAIT, generation.consumer, generation.number, what, pause_s)


def remember_revision(tx: Transaction, generation: Generation, revision: str) -> None:
    """Queue which schema the generation's tables were made like."""
    tx.write(
        "UPDATE projection_generations SET schema_revision = $3 WHERE consumer = $1 AND number = $2",
        generation.consumer, generation.number, revision,
    )  # fmt: skip


async def in_the_way(tx: Transaction, generation: Generation) -> str | None:
    """What of a generation's messages has no effect yet, in words, or None; its queue is another matter."""
    row: Any = await tx.fetchrow(_IN_THE_WAY, generation.consumer, generation.number, generation.name)
    words = {
        "replays": "replays to end",
        "parked": "parked messages",
        "retrying": "messages in the retry ladder",
        "dead": "dead letters to be redriven or discarded",
    }
    found = [f"{row[name]} {what}" for name, what in words.items() if row[name]]
    return ", ".join(found) or None


async def progress(tx: Transaction, generation: Generation) -> None:
    """Bring the job to where the replays are; raises `ReplayFailed` when one ended without the rest."""
    replays = await replays_of(tx, generation)
    for replay in replays:
        if replay["error"] is not None:
            raise ReplayFailed(f"{replay['producer']}: {replay['error']}")
    if generation.job_id is not None:
        done = sum(replay["sent"] for replay in replays)
        jobs.move(tx, generation.job_id, done=done, total=max(done, sum(replay["total"] for replay in replays)))


class ReplayFailed(Exception):
    """A producer cannot tell everything again."""


async def switch(tx: Transaction, generation: Generation, tables: Sequence[str], *, now: datetime) -> str | None:
    """Put the generation in the place of the live one, all at once; or say what is in the way."""
    await tx.fetch(f"SET LOCAL lock_timeout = {green_tables.LOCK_TIMEOUT_MS}")
    await tx.fetch(_STAND_STILL)
    row = await tx.fetchrow(_ONE, generation.consumer, generation.number)
    if row is None or row["status"] != "building":
        raise ConcurrentUpdate
    waits_for = await in_the_way(tx, generation)
    if waits_for is not None:
        return waits_for
    live: int = await tx.fetchval(_LIVE, generation.consumer)
    old = f"{generation.consumer}_g{live}"
    await green_tables.swap(tx, tables, new=generation.schema, old=old)
    tx.write(_RETIRE, generation.consumer, now)
    tx.end_step()
    tx.write(_GO_LIVE, generation.consumer, generation.number, now)
    if generation.job_id is not None:
        jobs.end(tx, generation.job_id, "done")
    tx.hints.add(HINT)
    return None


async def under_way(tx: Transaction, generation: Generation, queue: str) -> bool:
    """Something may still come to the queue of a generation that ended: from the outbox, or from the ladder."""
    return bool(await tx.fetchval(_UNDER_WAY, generation.name, queue))


def close_letters(tx: Transaction, generation: Generation) -> None:
    """Queue the end of the dead letters of a generation that ended: nothing can bring them back."""
    tx.write(_CLOSE_LETTERS, generation.name, f"{generation.name} has ended")
    tx.end_step()


async def forget(tx: Transaction, generation: Generation) -> bool:
    """Remove what a generation left, a bounded number of rows at a time; True when nothing is left and it is gone."""
    for table in _BOOKS:
        gone = await tx.fetchval(
            f"WITH gone AS (DELETE FROM {table} WHERE ctid = ANY(ARRAY("
            f"SELECT ctid FROM {table} WHERE consumer = $1 LIMIT {FORGOTTEN_MAX})) RETURNING 1) SELECT count(*) FROM gone",
            generation.name,
        )
        if gone == FORGOTTEN_MAX:
            return False
    await green_tables.drop(tx, generation.schema)
    close_letters(tx, generation)
    tx.write(_GONE, generation.consumer, generation.number)
    return True
