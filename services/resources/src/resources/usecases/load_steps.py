"""How a worker moves a load on: read, surveyed in its turn, announced chunk by chunk, finished. A step is a transaction.

Every step holds the run first: when another worker has it by now, the step raises `Lost` and nothing happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from uuid import UUID, uuid5

from chassis.database import Transaction
from chassis.kernel import new_id
from chassis.outbox import enqueue
from chassis.telemetry import log

from resources import repository
from resources.catalogue.preparing import Prepared
from resources.domain import CatalogueLoad, LoadMode, LoadStatus, Outcome, Survey
from resources.public_events import chunk_stored
from resources.repository import LOADS, Run, RunState
from resources.usecases.load_intake import LOADS_HINT

RUN_LEASE_S = 6  # renewed while a worker lives; one that was killed is followed this soon
ANNOUNCED_AT_ONCE = 100
DEACTIVATED_AT_ONCE = 5000  # rows locked together, for some tens of milliseconds
SURVEYED_AT_ONCE = 500_000  # keys compared in one statement: about a second
WATCH_S = 5.0  # while chunks are applied; the last one wakes the load, this is for when that is lost


class Lost(Exception):
    """Another worker has the load by now, or it is over."""


class Step(Enum):
    """What is to be done about a load."""

    READ = auto()
    SURVEY = auto()
    ANNOUNCE = auto()
    FINISH = auto()
    NOTHING = auto()


def chunk_key(load_id: UUID, number: int, row_last: int) -> str:
    """Where a chunk lies; of the same rows, whoever read them."""
    return f"chunks/{load_id}/{number}-{row_last}"


async def claim_runs(tx: Transaction, limit: int) -> list[Run]:
    """At most `limit` loads of which something is due, for this worker alone."""
    return await repository.claim_runs(tx, limit, lease_s=RUN_LEASE_S)


def renew(tx: Transaction, run: Run) -> None:
    """The worker still has the load; without effect once it let go."""
    repository.renew_run(tx, run, lease_s=RUN_LEASE_S)


async def look_at(tx: Transaction, run: Run, *, stalled: timedelta, now: datetime) -> tuple[Step, CatalogueLoad]:
    """What is to be done about a load as it is now."""
    state, load = await _held(tx, run)
    if load.status is LoadStatus.RECEIVED:
        load.begin(now=now)
        LOADS.save(tx, load, now=now)
    if load.status is LoadStatus.VALIDATING:
        return (Step.SURVEY if state.read else Step.READ), load
    if load.status is LoadStatus.AWAITING_CONFIRMATION:
        await _await_confirmation(tx, run, state, load, now)
        return Step.NOTHING, load
    if load.status is LoadStatus.READY:
        load.start(now=now)
        LOADS.save(tx, load, now=now)
        return Step.ANNOUNCE, load
    return await _watch(tx, run, state, load, stalled, now), load


async def _held(tx: Transaction, run: Run) -> tuple[RunState, CatalogueLoad]:
    state = await repository.hold_run(tx, run)
    if state is None:
        raise Lost
    load = await LOADS.get(tx, run.load_id)
    if load.is_over:
        raise Lost
    return state, load


async def _await_confirmation(
    tx: Transaction, run: Run, state: RunState, load: CatalogueLoad, now: datetime
) -> None:  # fmt: skip
    load.lapse(now=now)
    if load.is_over:
        LOADS.save(tx, load, now=now)
        await _end(tx, load, now=now)
    else:
        _kept(tx, run, state, now=now, due_at=load.confirm_by or now)


async def _watch(
    tx: Transaction, run: Run, state: RunState, load: CatalogueLoad, stalled: timedelta, now: datetime
) -> Step:  # fmt: skip
    """Chunks are being applied: whether all were, or nothing moves any more."""
    known = await repository.sums(tx, load.id)
    if state.announced < known["chunks"]:
        return Step.ANNOUNCE
    if not known["waiting"]:
        return Step.FINISH
    moved = max(state.progress_at, known["done_at"] or state.progress_at)
    if now - moved > stalled:
        log.warning("catalogue_load.stalled", load_id=str(load.id), waiting=known["waiting"])
        repository.stalled_due(tx, load.id, now=now)
        state.progress_at = now
    _kept(tx, run, state, now=None, due_at=now + timedelta(seconds=WATCH_S))
    return Step.NOTHING


def _kept(tx: Transaction, run: Run, state: RunState, *, now: datetime | None, due_at: datetime) -> None:
    """Queue how far it came; with `now` it made progress, so what failed before does not count."""
    state.attempts = 0
    state.progress_at = now or state.progress_at
    repository.keep_run(tx, run, state, due_at=due_at)


def _leased(now: datetime) -> datetime:
    return now + timedelta(seconds=RUN_LEASE_S)


async def _end(tx: Transaction, load: CatalogueLoad, *, now: datetime) -> None:
    await repository.end_run(tx, load, now=now)
    tx.hints.add(LOADS_HINT)


# -- reading -------------------------------------------------------------------------------------------------------------


async def where_to_go_on(tx: Transaction, run: Run) -> tuple[int, int]:
    """(number, row) of the last chunk that a worker before this one stored."""
    return await repository.last_chunk(tx, run.load_id)


async def keep_chunk(tx: Transaction, run: Run, chunk: Prepared, *, now: datetime) -> None:
    """The chunk, which is safe in the object store, counts as read."""
    state, load = await _held(tx, run)
    await repository.store_chunk(
        tx,
        uuid5(load.id, str(chunk.number)),
        load_id=load.id,
        number=chunk.number,
        row_last=chunk.row_last,
        rows=chunk.rows,
        duplicates=chunk.duplicates,
        rejected=len(chunk.rejected),
        keys=chunk.keys,
        rejects=chunk.rejects,
    )
    _kept(tx, run, state, now=now, due_at=_leased(now))


async def read_through(tx: Transaction, run: Run, *, now: datetime) -> None:
    """All of it was read: it waits for its turn."""
    state, _ = await _held(tx, run)
    state.read = True
    _kept(tx, run, state, now=now, due_at=now)
    tx.hints.add(LOADS_HINT)


async def reject_load(
    tx: Transaction, run: Run, *, reason: str, row: int | None, offset: int | None, now: datetime
) -> None:  # fmt: skip
    """It cannot be read to its end, so nothing of it is applied."""
    _, load = await _held(tx, run)
    load.reject(reason=reason, row=row, offset=offset, now=now)
    LOADS.save(tx, load, now=now)
    await _end(tx, load, now=now)


# -- its turn ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Counting:
    """What a survey found so far, part by part."""

    parts: int
    active: int
    duplicates: int = 0
    missing: int = 0


async def begin_survey(tx: Transaction, run: Run, *, now: datetime) -> Counting:
    """How many parts there are to compare; what an earlier try found is forgotten."""
    state, load = await _held(tx, run)
    known = await repository.sums(tx, load.id)
    active = await repository.count_active(tx, load.cnpj) if load.mode is LoadMode.FULL else 0
    repository.forget_missing(tx, load.id)
    _kept(tx, run, state, now=now, due_at=_leased(now))
    return Counting(parts=1 + max(known["rows"], active) // SURVEYED_AT_ONCE, active=active)


async def survey_part(tx: Transaction, run: Run, counting: Counting, part: int, *, now: datetime) -> None:
    """Count the next part: keys that came in several chunks, active products that came in none."""
    state, load = await _held(tx, run)
    counting.duplicates += await repository.find_duplicates(tx, load.id, parts=counting.parts, part=part)
    if counting.active:
        counting.missing += await repository.find_missing(tx, load.id, load.cnpj, parts=counting.parts, part=part)
    _kept(tx, run, state, now=now, due_at=_leased(now))


async def decide(tx: Transaction, run: Run, counting: Counting, *, confirm_by: datetime, now: datetime) -> Step:
    """It is applied, or waits for a person; or an earlier load of the company came back, and it waits for that."""
    await repository.hold_feed(tx, run.cnpj)
    state, load = await _held(tx, run)
    if not await repository.has_turn(tx, run):
        _kept(tx, run, state, now=now, due_at=now)
        return Step.NOTHING
    known = await repository.sums(tx, load.id)
    survey = Survey(
        rows=known["rows"],
        accepted=known["accepted"] - counting.duplicates,
        duplicates=known["duplicates"] + counting.duplicates,
        rejected=known["rejected"],
        chunks=known["chunks"],
        active=counting.active,
        missing=counting.missing,
    )
    load.surveyed(survey, confirm_by=confirm_by, now=now)
    load.start(now=now)
    LOADS.save(tx, load, now=now)
    applying = load.status is LoadStatus.APPLYING
    _kept(tx, run, state, now=now, due_at=_leased(now) if applying else confirm_by)
    return Step.ANNOUNCE if applying else Step.NOTHING


async def announce_chunks(tx: Transaction, run: Run, *, now: datetime) -> bool:
    """The next chunks wait for workers, and these are told; whether there are more."""
    state, load = await _held(tx, run)
    chunks = await repository.chunks_after(tx, load.id, state.announced, limit=ANNOUNCED_AT_ONCE)
    for row in chunks:
        told = chunk_stored(row["id"], load_id=load.id, number=row["number"], rows=row["rows"])
        enqueue(tx, stream_id=row["id"], messages=[(new_id(), 1, told)], now=now)
        tx.end_step()
        state.announced = row["number"]
    more = len(chunks) == ANNOUNCED_AT_ONCE
    # An empty load has nothing to wait for.
    _kept(tx, run, state, now=now, due_at=_leased(now) if more else now + timedelta(seconds=WATCH_S if chunks else 0))
    return more


async def finish(tx: Transaction, run: Run, *, now: datetime) -> bool:
    """Deactivate the next products that a FULL lacks; whether all are, and the load is over."""
    state, load = await _held(tx, run)
    looked_at, gone = await repository.deactivate(tx, load.id, load.cnpj, limit=DEACTIVATED_AT_ONCE, now=now)
    state.deactivated += gone
    if looked_at:
        _kept(tx, run, state, now=now, due_at=_leased(now))
        return False
    known = await repository.sums(tx, load.id)
    before = 0 if load.outcome is None else load.outcome.deactivated
    outcome = Outcome(
        inserted=known["inserted"],
        updated=known["updated"],
        unchanged=known["unchanged"],
        deactivated=before + state.deactivated,
        failed_chunks=known["failed"],
    )
    load.finish(outcome, now=now)
    LOADS.save(tx, load, now=now)
    await _end(tx, load, now=now)
    return True


# -- what goes wrong -----------------------------------------------------------------------------------------------------


async def postpone(tx: Transaction, run: Run, *, for_s: float, counts: bool, now: datetime) -> None:
    """The load is looked at later; `counts` says whether this was its own failure."""
    state, _ = await _held(tx, run)
    if not counts:
        state.attempts -= 1
    repository.keep_run(tx, run, state, due_at=now + timedelta(seconds=for_s))


async def fail_load(tx: Transaction, run: Run, *, reason: str, now: datetime) -> None:
    """The load cannot be finished."""
    _, load = await _held(tx, run)
    load.fail(reason=reason, now=now)
    LOADS.save(tx, load, now=now)
    await _end(tx, load, now=now)
