"""What works on catalogue loads besides requests and messages: reads payloads and applies chunks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from chassis.database import FULL_ERRORS, UNAVAILABLE_ERRORS, Database
from chassis.dispatch import Dispatcher
from chassis.kernel import ConcurrentUpdate
from chassis.telemetry import in_context, log, start_context
from prometheus_client import Counter as MetricCounter
from prometheus_client import Gauge, Histogram

from resources import usecases
from resources.catalogue import CatalogueUnreadable, Limits, rows_of
from resources.catalogue.preparing import Prepared, Rows
from resources.decoding import PROCESSES, Decoders
from resources.domain import CatalogueLoad, Payload
from resources.objects import ObjectStore, ObjectStoreUnavailable
from resources.usecases import Chunk, LoadPolicy, Lost, Run, Step

LOADS_AT_ONCE = 2  # of one process: reading one takes more than a core
READ_AHEAD = PROCESSES + 2  # chunks of a load in memory: one is being stored while others are decoded
CHUNK_BYTES_MAX = 4 << 20  # ten times what five thousand products have; so much for those whose rows are endless
AWAY_PAUSE_S = 5.0  # until a store without room or answer is asked again
TRIES = 3  # of a step that fails through its own fault
TRIES_KILLED = 20  # of one that never ends: it takes its process with it
RETRY_PAUSE_S = 5.0
COUNTING_S = 15.0
# Not the load's fault, so that tries do not count; a database that is away altogether cannot be told of them.
AWAY_ERRORS: tuple[type[Exception], ...] = (ObjectStoreUnavailable, *FULL_ERRORS)

ROWS_READ = MetricCounter(
    "catalogue_rows_read_total", "Rows of catalogue loads read, by what became of them", ["outcome"]
)
ROWS_REJECTED = MetricCounter("catalogue_rows_rejected_total", "Rows of catalogue loads refused", ["reason"])
ROWS_APPLIED = MetricCounter("catalogue_rows_applied_total", "Rows of catalogue loads applied", ["outcome"])
CHUNK_SECONDS = Histogram("catalogue_chunk_seconds", "Time to apply a chunk", buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10))
CHUNKS_FAILED = MetricCounter("catalogue_chunks_failed_total", "Tries of chunks that failed", ["final"])
WAITING = Gauge("catalogue_waiting", "Loads that are not over, and chunks that wait for a worker", ["what"])
LOADS_ENDED = MetricCounter("catalogue_loads_failed_total", "Loads that could not be read or finished", ["reason"])


class Loads:
    """Moves loads on until cancelled: any number of processes may do so, and any may be killed at any moment."""

    def __init__(self, database: Database, objects: ObjectStore, policy: LoadPolicy) -> None:
        self._database = database
        self._objects = objects
        self._policy = policy
        self._limits = Limits(body_bytes_max=policy.bytes_max)
        self._decoders = Decoders()

    async def run(self) -> None:
        """Both kinds of work side by side, so that a long payload does not keep chunks waiting."""
        database, hints = self._database, (usecases.LOADS_HINT, usecases.CHUNKS_HINT)
        loads: Dispatcher[Run] = Dispatcher(
            database, hint=hints[0], slots=LOADS_AT_ONCE, claim=self._claim_loads, act=self.move
        )
        chunks: Dispatcher[Chunk] = Dispatcher(
            database, hint=hints[1], slots=self._policy.workers, claim=self._claim_chunks, act=self.apply
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(loads.run())
                group.create_task(chunks.run())
                group.create_task(self._count_for_ever())
        finally:
            self._decoders.close()

    async def _claim_loads(self, limit: int) -> Sequence[Run]:
        async with self._database.transaction() as tx:
            return await usecases.claim_runs(tx, limit)

    async def _claim_chunks(self, limit: int) -> Sequence[Chunk]:
        async with self._database.transaction() as tx:
            return await usecases.claim_chunks(tx, limit)

    # -- loads -----------------------------------------------------------------------------------------------------------

    async def move(self, run: Run) -> None:
        """Do what is to be done about a load now, as far as it goes."""
        with in_context(start_context()):
            try:
                if run.attempts > TRIES_KILLED:
                    await self._fail(run, "worker-killed")
                else:
                    await self._step(run)
            except Lost:
                log.info("catalogue_load.lost", load_id=str(run.load_id))
            except AWAY_ERRORS as error:
                await self._postpone(run, error, AWAY_PAUSE_S, counts=False)
            except ConcurrentUpdate as error:
                await self._postpone(run, error, 0.1, counts=False)
            except UNAVAILABLE_ERRORS:
                raise  # nothing can be written: the lease runs out
            except Exception as error:
                if run.attempts < TRIES:
                    await self._postpone(run, error, RETRY_PAUSE_S * run.attempts, counts=True)
                else:
                    log.error("catalogue_load.failed", load_id=str(run.load_id), error=repr(error), exc_info=True)
                    await self._fail(run, "internal")

    async def _step(self, run: Run) -> None:
        """While this process lives the load is its own, however long a statement or the object store takes."""
        renewing = asyncio.create_task(self._renew_for_ever(run))
        try:
            await self._next(run)
        finally:
            renewing.cancel()

    async def _renew_for_ever(self, run: Run) -> None:
        while True:
            await asyncio.sleep(usecases.RUN_LEASE_S / 3)
            try:
                async with self._database.command() as tx:
                    usecases.renew(tx, run)
            except UNAVAILABLE_ERRORS as error:
                log.warning("catalogue_load.not_renewed", load_id=str(run.load_id), error=repr(error))

    async def _next(self, run: Run) -> None:
        async with self._database.transaction() as tx:
            step, load = await usecases.look_at(tx, run, stalled=self._policy.stalled, now=_now())
        if step is Step.READ:
            await self._read(run, load)
        if step is Step.SURVEY:
            step = await self._survey(run)
        if step is Step.ANNOUNCE:
            await self._announce(run)
        if step is Step.FINISH:
            await self._finish(run)

    async def _read(self, run: Run, load: CatalogueLoad) -> None:
        """Cut the payload into chunks from where a worker before this one ended."""
        if load.payload is None:
            raise AssertionError("a load that was received has a payload")
        async with self._database.transaction() as tx:
            number, row = await usecases.where_to_go_on(tx, run)
        try:
            await self._store_chunks(run, load.payload, number=number, row=row)
        except CatalogueUnreadable as error:
            return await self._reject(run, error)
        async with self._database.transaction() as tx:
            return await usecases.read_through(tx, run, now=_now())

    async def _store_chunks(self, run: Run, payload: Payload, *, number: int, row: int) -> None:
        """All chunks behind this one; those before a place that cannot be read are stored, for their rejects."""
        storing: deque[asyncio.Task[None]] = deque()
        try:
            async for row_first, data in self._chunks_of(payload, after=row):
                number += 1
                rows = Rows(run.load_id, run.cnpj, number, row_first, data)
                before = storing[-1] if storing else None
                storing.append(asyncio.create_task(self._store(run, rows, before)))
                if len(storing) == READ_AHEAD:
                    await storing.popleft()
            await asyncio.gather(*storing)
        except CatalogueUnreadable:
            await asyncio.gather(*storing)  # one that could not be stored is tried again first
            raise
        finally:
            await asyncio.gather(*storing, return_exceptions=True)

    async def _chunks_of(self, payload: Payload, *, after: int) -> AsyncIterator[tuple[int, list[bytes]]]:
        """(number of the first row, rows) of each chunk behind a row."""
        first, kept, size = after + 1, list[bytes](), 0
        async for rows in rows_of(
            self._objects.read(payload.object_key),
            media_type=payload.media_type,
            content_encoding=payload.content_encoding or None,
            limits=self._limits,
        ):
            for row in rows:
                if row.number <= after:
                    continue
                kept.append(row.data)
                size += len(row.data)
                if len(kept) == self._policy.chunk_rows or size >= CHUNK_BYTES_MAX:
                    yield first, kept
                    first, kept, size = row.number + 1, [], 0
        if kept:
            yield first, kept

    async def _store(self, run: Run, rows: Rows, before: asyncio.Task[None] | None) -> None:
        """Keep a chunk, after the one before it: a worker that follows goes on behind the last that is kept."""
        chunk = await self._decoders.prepare(rows)
        await self._objects.put(usecases.chunk_key(run.load_id, chunk.number, chunk.row_last), chunk.products)
        if before is not None:
            await before
        async with self._database.transaction() as tx:
            await usecases.keep_chunk(tx, run, chunk, now=_now())
        _count(chunk)

    async def _reject(self, run: Run, error: CatalogueUnreadable) -> None:
        log.info("catalogue_load.unreadable", load_id=str(run.load_id), reason=error.reason, row=error.row)
        LOADS_ENDED.labels(error.reason).inc()
        async with self._database.transaction() as tx:
            await usecases.reject_load(tx, run, reason=error.reason, row=error.row, offset=error.offset, now=_now())

    async def _survey(self, run: Run) -> Step:
        async with self._database.transaction() as tx:
            counting = await usecases.begin_survey(tx, run, now=_now())
        for part in range(counting.parts):
            async with self._database.transaction() as tx:
                await usecases.survey_part(tx, run, counting, part, now=_now())
        async with self._database.transaction() as tx:
            return await usecases.decide(tx, run, counting, confirm_by=_now() + self._policy.confirm, now=_now())

    async def _announce(self, run: Run) -> None:
        more = True
        while more:
            async with self._database.transaction() as tx:
                more = await usecases.announce_chunks(tx, run, now=_now())

    async def _finish(self, run: Run) -> None:
        over = False
        while not over:
            async with self._database.transaction() as tx:
                over = await usecases.finish(tx, run, now=_now())

    async def _postpone(self, run: Run, error: Exception, for_s: float, *, counts: bool) -> None:
        log.warning("catalogue_load.postponed", load_id=str(run.load_id), error=repr(error), counts=counts)
        try:
            async with self._database.transaction() as tx:
                await usecases.postpone(tx, run, for_s=for_s, counts=counts, now=_now())
        except Lost:
            return

    async def _fail(self, run: Run, reason: str) -> None:
        LOADS_ENDED.labels(reason).inc()
        try:
            async with self._database.transaction() as tx:
                await usecases.fail_load(tx, run, reason=reason, now=_now())
        except Lost:
            return

    # -- chunks ----------------------------------------------------------------------------------------------------------

    async def apply(self, chunk: Chunk) -> None:
        """Apply a chunk, or note that it could not be."""
        started = time.monotonic()
        with in_context(start_context()):
            try:
                products = await self._objects.get(usecases.chunk_key(chunk.load_id, chunk.number, chunk.row_last))
                async with self._database.transaction() as tx:
                    counts = await usecases.apply_chunk(tx, chunk, products, now=_now())
            except AWAY_ERRORS as error:
                await self._note_failure(chunk, error, counts=False)
            except TimeoutError as error:  # of a statement; when the database is away, this cannot be noted either
                await self._note_failure(chunk, error, counts=True)
            except UNAVAILABLE_ERRORS:
                raise
            except Exception as error:
                await self._note_failure(chunk, error, counts=True)
            else:
                CHUNK_SECONDS.observe(time.monotonic() - started)
                for outcome, count in zip(("inserted", "updated", "unchanged"), counts or (0, 0, 0), strict=True):
                    ROWS_APPLIED.labels(outcome).inc(count)
            async with self._database.command() as tx:
                usecases.after_chunk(tx, chunk, now=_now())

    async def _note_failure(self, chunk: Chunk, error: Exception, *, counts: bool) -> None:
        async with self._database.transaction() as tx:
            final = await usecases.chunk_failed(tx, chunk, error, counts=counts, now=_now())
        CHUNKS_FAILED.labels(str(final).lower()).inc()
        log.warning(
            "catalogue_chunk.failed", load_id=str(chunk.load_id), number=chunk.number, final=final, error=repr(error)
        )

    async def _count_for_ever(self) -> None:
        while True:
            try:
                loads, chunks = await usecases.waiting(self._database.reading())
                WAITING.labels("loads").set(loads)
                WAITING.labels("chunks").set(chunks)
            except UNAVAILABLE_ERRORS as error:
                log.warning("catalogue.counting_postponed", error=repr(error))
            await asyncio.sleep(COUNTING_S)


def _count(chunk: Prepared) -> None:
    ROWS_READ.labels("accepted").inc(len(chunk.keys))
    ROWS_READ.labels("duplicate").inc(chunk.duplicates)
    ROWS_READ.labels("rejected").inc(len(chunk.rejected))
    for reason, count in Counter(chunk.rejected).items():
        ROWS_REJECTED.labels(reason).inc(count)


def _now() -> datetime:
    return datetime.now(UTC)
