"""Process managers: what each has done so far and by when it goes on, kept in a row; a durable timer wakes it at its deadline.

A process is named by its kind and what it is about (`key`); one runs at a time, and `run` orders those that follow each
other, so that an event heard twice or late begins none again. Whoever touches one holds its row first and the aggregates
it commands after it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from chassis import timers
from chassis.database import Row, Transaction, under_locks
from chassis.kernel import ConcurrentUpdate, DomainError, new_id
from chassis.telemetry import continue_context, current_context, in_context, log
from chassis.timers import TimerHandler

STEPS_MAX = 1_000  # of one run; more is a loop, not a process
ENDED_DAYS_KEPT = 30
BUSY_RETRY = timedelta(milliseconds=200)  # somebody else is at it, and will set the timer anew or not
LATE_AFTER_S = 60  # a running process past its deadline by more waits for a handler that fails

S = TypeVar("S")


class ProcessStatus(StrEnum):
    """Where a process is; every one but `running` is an end."""

    RUNNING = "running"
    DONE = "done"
    COMPENSATED = "compensated"  # a step was refused, and what was done before is undone


@dataclass(frozen=True, slots=True)
class Step:
    """Something a process did, when, and what an operator may want to know of it; ids and numbers, no personal data."""

    name: str
    at: datetime
    note: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Process(Generic[S]):
    """One run of a process manager. Change it by its methods, `state` and `deadline`, then save it by its kind."""

    id: UUID
    kind: str
    key: UUID
    run: int
    state: S
    deadline: datetime | None
    correlation_id: str
    started_at: datetime
    status: ProcessStatus = ProcessStatus.RUNNING
    steps: list[Step] = field(default_factory=list)
    outcome: str | None = None
    version: int = 0

    @property
    def running(self) -> bool:
        """It has not ended."""
        return self.status is ProcessStatus.RUNNING

    def took(self, name: str) -> bool:
        """The step is on record."""
        return any(step.name == name for step in self.steps)

    def take(self, name: str, *, now: datetime, **note: Any) -> bool:
        """Put a step on record; False when it was taken before and must have no second effect."""
        if self.took(name):
            return False
        if len(self.steps) >= STEPS_MAX:
            raise RuntimeError(f"the process {self.kind} of {self.key} does not end")
        self.steps.append(Step(name, now, note))
        return True

    def end(self, outcome: str, *, status: ProcessStatus = ProcessStatus.DONE) -> None:
        """It goes on no more; `outcome` says why, in a word. What has ended stays as it is."""
        if self.running:
            self.status, self.outcome, self.deadline = status, outcome, None


Act = Callable[[Transaction, Process[S], datetime], Awaitable[None]]
Undo = Callable[[Transaction, Process[S], DomainError, datetime], Awaitable[None]]

_COLUMNS = "id, kind, key, run, status, state, steps, deadline, correlation_id, outcome, version, started_at"
# Whoever begins waits for whoever begins the same, though there is no row to lock yet.
_BEGINNERS = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_LAST = f"SELECT {_COLUMNS} FROM processes WHERE kind = $1 AND key = $2 ORDER BY run DESC LIMIT 1"
_RUNNING = f"SELECT {_COLUMNS} FROM processes WHERE kind = $1 AND key = $2 AND status = 'running' FOR UPDATE"
_OF_KINDS = """SELECT kind FROM processes WHERE kind = ANY($1::text[]) AND key = $2 AND status = 'running' ORDER BY kind
FOR UPDATE"""
# A timer that fires holds its own row: it must not wait for who holds the process and is about to set that very timer.
_FREE = f"{_RUNNING} SKIP LOCKED"
_BUSY = "SELECT 1 FROM processes WHERE kind = $1 AND key = $2 AND run = $3 AND status = 'running'"
_INSERT = """INSERT INTO processes (id, kind, key, run, status, state, steps, deadline, correlation_id, outcome, version,
    started_at, changed_at)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb, $8, $9, $10, 1, $11, $12)"""
_UPDATE = """UPDATE processes SET status = $2, state = $3::text::jsonb, steps = $4::text::jsonb, deadline = $5, outcome = $6,
    version = $7, changed_at = $8 WHERE id = $1"""
_MANY = f"""SELECT {_COLUMNS}, changed_at FROM processes WHERE (cardinality($1::text[]) = 0 OR status = ANY($1))
    AND ($2::text IS NULL OR kind = $2) AND ($3::uuid IS NULL OR key = $3)
    AND (NOT $4 OR (status = 'running' AND deadline < now() - make_interval(secs => {LATE_AFTER_S})))
    AND ($5::uuid IS NULL OR id < $5)
ORDER BY id DESC LIMIT $6"""
_FORGET = "DELETE FROM processes WHERE status <> 'running' AND changed_at < now() - make_interval(days => $1)"


class ProcessKind(Generic[S]):
    """One kind of process manager: begins, loads, saves and wakes its processes. `state` is a dataclass that msgspec takes.

    All of it happens in real transactions; a command without locks gives way and runs again with them.
    """

    def __init__(self, name: str, state: type[S]) -> None:
        self.name = name
        self._decoder = msgspec.json.Decoder(state)

    @property
    def timer_kind(self) -> str:
        """What a service's `timers` call the handler that `on_deadline` makes."""
        return f"process:{self.name}"

    async def running(self, tx: Transaction, key: UUID) -> Process[S] | None:
        """The process that runs, locked until the transaction ends."""
        under_locks(tx)
        row = await tx.fetchrow(_RUNNING, self.name, key)
        return None if row is None else self._process(row)

    async def last(self, tx: Transaction, key: UUID) -> Process[S] | None:
        """The last run, ended or not, to look at: it is not locked, and not to be saved."""
        row = await tx.fetchrow(_LAST, self.name, key)
        return None if row is None else self._process(row)

    async def begin(
        self, tx: Transaction, key: UUID, *, run: int, state: S, deadline: datetime | None, now: datetime
    ) -> Process[S] | None:
        """A new process, not saved yet; None when this run, or a later one, has begun before.

        An earlier one that still runs ends as `superseded`.
        """
        under_locks(tx)
        await tx.fetch(_BEGINNERS, f"{self.timer_kind}:{key}")
        row = await tx.fetchrow(f"{_LAST} FOR UPDATE", self.name, key)
        if row is not None and row["run"] >= run:
            return None
        if row is not None and row["status"] == ProcessStatus.RUNNING:
            earlier = self._process(row)
            earlier.end("superseded")
            self.save(tx, earlier, now=now)
            await tx.flush()  # its timer and the new one's have one key
        return Process(
            id=new_id(),
            kind=self.name,
            key=key,
            run=run,
            state=state,
            deadline=deadline,
            correlation_id=current_context().correlation_id,
            started_at=now,
        )

    def save(self, tx: Transaction, process: Process[S], *, now: datetime) -> None:
        """Queue the row, and the timer that its deadline asks for; at most once between two flushes."""
        state = msgspec.json.encode(process.state).decode()
        steps = msgspec.json.encode([asdict(step) for step in process.steps]).decode()
        if process.version == 0:
            tx.write(
                _INSERT, process.id, process.kind, process.key, process.run, process.status, state, steps,
                process.deadline, process.correlation_id, process.outcome, process.started_at, now,
            )  # fmt: skip
        else:
            tx.write(
                _UPDATE, process.id, process.status, state, steps, process.deadline, process.outcome,
                process.version + 1, now,
            )  # fmt: skip
        process.version += 1
        self._set_timer(tx, process)

    async def attempt(self, tx: Transaction, process: Process[S], act: Act[S], undo: Undo[S], *, now: datetime) -> None:
        """Act and save, as a whole. A rule that says no takes the act back, undoes what was done before, and ends the process."""
        try:
            async with tx.savepoint():
                await act(tx, process, now)
                self.save(tx, process, now=now)
        except ConcurrentUpdate:
            raise
        except DomainError as error:
            log.warning("process.refused", kind=self.name, key=str(process.key), error=error.slug)
            kept = await self.running(tx, process.key)
            if kept is None:  # its very beginning was refused: nothing was done before
                raise
            await undo(tx, kept, error, now)
            kept.end(error.slug, status=ProcessStatus.COMPENSATED)
            self.save(tx, kept, now=now)

    def on_deadline(self, act: Act[S], undo: Undo[S]) -> TimerHandler:
        """The handler of this kind's timers. It acts when the process still runs and is due, in the process's own context."""

        async def fire(tx: Transaction, payload: dict[str, Any]) -> None:
            now, key = datetime.now(UTC), UUID(payload["key"])
            row = await tx.fetchrow(_FREE, self.name, key)
            if row is None and await tx.fetchrow(_BUSY, self.name, key, payload["run"]):
                timers.schedule(tx, due_at=now + BUSY_RETRY, key=self._timer_key(key), payload=payload)
                return
            process = None if row is None else self._process(row)
            if process is None or process.run != payload["run"]:
                return
            if process.deadline is None or process.deadline > now:
                self._set_timer(tx, process)
                return
            context = continue_context(None, correlation_id=process.correlation_id, causation_id=str(process.id))
            with in_context(context):
                await self.attempt(tx, process, act, undo, now=now)

        return fire

    def _set_timer(self, tx: Transaction, process: Process[S]) -> None:
        key = self._timer_key(process.key)
        if process.deadline is None:
            timers.cancel(tx, key=key)
        else:
            payload = {"kind": self.timer_kind, "key": str(process.key), "run": process.run}
            timers.schedule(tx, due_at=process.deadline, key=key, payload=payload)

    def _timer_key(self, key: UUID) -> str:
        return f"{self.timer_kind}:{key}"

    def _process(self, row: Row) -> Process[S]:
        values = dict(row)
        values["state"] = self._decoder.decode(msgspec.json.encode(row["state"]))
        values["steps"] = msgspec.convert(row["steps"], list[Step])
        values["status"] = ProcessStatus(row["status"])
        return Process(**values)


async def lock_running(tx: Transaction, key: UUID, kinds: Sequence[str]) -> list[str]:
    """Which of these kinds run about `key`; locked in one order, so that whoever needs several waits for nobody in a ring."""
    under_locks(tx)
    return [row["kind"] for row in await tx.fetch(_OF_KINDS, list(kinds), key)]


async def many(
    tx: Transaction,
    *,
    status: Sequence[str] = (),
    kind: str | None = None,
    key: UUID | None = None,
    late: bool = False,
    before: UUID | None = None,
    limit: int,
) -> list[Row]:
    """Rows as operators see them, the newest first; one more than `limit` when there are more."""
    return await tx.fetch(_MANY, list(status), kind, key, late, before, limit + 1)


def forget_ended(tx: Transaction) -> None:
    """Queue the removal of what ended long ago."""
    tx.write(_FORGET, ENDED_DAYS_KEPT)
