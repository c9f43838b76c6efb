"""Projections: every process consumes their generations, and one of them at a time moves a rebuild on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import asyncpg
from contracts.commands import REPLAY_MARK_HEADER, ReplayMark
from pydantic import ValidationError

from chassis import generations, green_tables
from chassis.broker import (
    Bound,
    BrokerUnavailable,
    Incoming,
    Publisher,
    Subscriber,
    declare_queue,
    delete_queue,
    unbind_queue,
)
from chassis.consumer import Consumer, ConsumerRunner, Health, Patience
from chassis.crashpoints import reached
from chassis.database import TRANSIENT_ERRORS, Database, Transaction
from chassis.gaps import Gaps
from chassis.generations import Generation
from chassis.kernel import ConcurrentUpdate
from chassis.message_store import SqlMessageStore
from chassis.migrate import head_of
from chassis.telemetry import log
from chassis.waking import woken
from contracts import topology

POLL_S = 0.5
POOL_MAX = 2  # a generation's own connections: it handles one batch at a time
LEASE_S = 10.0  # longer than a step takes; two that do the same step do it once all the same
PAUSE_S = 0.5  # between two looks at a rebuild that waits
BUSY_PAUSE_S = 5.0  # after readers held the tables for too long
SWITCH_READY_MAX = 100  # messages in the queue at the switch: what is older than a moment is in the tables
PASSING_ERRORS: tuple[type[Exception], ...] = (
    BrokerUnavailable, ConcurrentUpdate, asyncpg.LockNotAvailableError, *TRANSIENT_ERRORS
)  # fmt: skip


def sources_of(consumer: Consumer) -> dict[str, set[str]]:
    """Whom a projection hears: producer → aggregates."""
    sources: dict[str, set[str]] = {}
    for event in consumer.handlers:
        sources.setdefault(event.producer, set()).add(event.aggregate)
    return sources


def bound(consumer: Consumer, generation: Generation) -> Bound:
    """A generation's queue. All but the first have one consumer at a time: an end mark comes after all before it."""
    return Bound(generation.name, consumer.bindings, single=generation.number > 1)


class GenerationRunner(ConsumerRunner):
    """Runs one generation: its own queue and books, its own tables, and no effect any more once it has ended."""

    def __init__(
        self, service: str, consumer: Consumer, generation: Generation, database: Database, publisher: Publisher, *,
        alone: asyncio.Lock | None = None,
    ) -> None:  # fmt: skip
        fence = partial(generations.counts, consumer=generation.consumer, number=generation.number)
        own = replace(consumer, name=generation.name, health=Health() if generation.number > 1 else consumer.health)
        store = SqlMessageStore(database)
        super().__init__(service, own, store, publisher, alone=alone, fence=fence)
        self._database = database
        self._marking = Patience(store, generation.name)

    async def handle(self, batch: Sequence[Incoming]) -> None:
        """As every consumer; what a mark says counts once everything before it has been handled."""
        facts: list[Incoming] = []
        for incoming in batch:
            if REPLAY_MARK_HEADER in incoming.headers:
                await self._handle_facts(facts)
                facts = []
                await self._marking.surely(partial(self._mark, incoming))
            else:
                facts.append(incoming)
        await self._handle_facts(facts)

    async def _handle_facts(self, facts: Sequence[Incoming]) -> None:
        if facts:
            await super().handle(facts)

    async def _mark(self, incoming: Incoming) -> None:
        try:
            told = ReplayMark.model_validate_json(incoming.body)
        except ValidationError as error:
            log.error("projection.no_mark", consumer=self.consumer.name, error=repr(error))
            return
        async with self._database.command() as tx:
            generations.mark(tx, told)


@dataclass
class _Running:
    """What one process holds of a generation."""

    runner: GenerationRunner
    own: Database | None
    gaps: asyncio.Task[None] | None = None


class Projections:
    """Has this process consume every generation that takes messages, whichever process began or ended one."""

    def __init__(
        self, service: str, consumers: Sequence[Consumer], database: Database, publisher: Publisher,
        subscriber: Subscriber, healths: dict[str, Health], *, alone: asyncio.Lock | None = None,
    ) -> None:  # fmt: skip
        self._service = service
        self._alone = alone
        self._healths = healths
        self._consumers = {consumer.name: consumer for consumer in consumers if consumer.projection}
        self._database = database
        self._publisher = publisher
        self._subscriber = subscriber
        self._running: dict[str, _Running] = {}
        self._wake = asyncio.Event()
        database.listen(generations.HINT, self._wake.set)

    async def run(self) -> None:
        """Consume until cancelled."""
        try:
            while True:
                try:
                    await self.round()
                except TRANSIENT_ERRORS as error:
                    log.warning("projections.postponed", error=repr(error))
                await woken(self._wake, within_s=POLL_S)
        finally:
            for name in [*self._running]:
                await self._stop(name)

    async def round(self) -> None:
        """Begin with what is new, leave what is over."""
        found = {one.name: one for one in await self._found() if one.consumed and one.consumer in self._consumers}
        for name in self._running.keys() - found.keys():
            await self._stop(name)
        for name in found.keys() - self._running.keys():
            await self._start(found[name])
        replaying = await generations.replaying(self._database.reading())
        for name, one in found.items():
            if one.status == "live" or (one.status == "building" and one.consumer not in replaying):
                self._look_after(self._running[name])

    def _look_after(self, running: _Running) -> None:
        """What a replay brings is not missing; from now on gaps are asked for."""
        if running.gaps is None:
            running.gaps = asyncio.create_task(Gaps([running.runner], self._publisher).run())

    async def _found(self) -> list[Generation]:
        found = await generations.all_of(self._database.reading())
        if self._consumers.keys() <= {one.consumer for one in found}:
            return found
        async with self._database.command() as tx:
            await generations.ensure(tx, [*self._consumers], now=datetime.now(UTC))
        return await generations.all_of(self._database.reading())

    async def _start(self, generation: Generation) -> None:
        own = None
        if generation.status != "live":  # its tables are in a schema of their own, and in public once it is live
            own = self._database.beside(f"{generation.schema}, {green_tables.PUBLIC}", pool_max=POOL_MAX)
            await own.open()
        consumer = self._consumers[generation.consumer]
        runner = GenerationRunner(
            self._service, consumer, generation, own or self._database, self._publisher, alone=self._alone
        )
        self._running[generation.name] = _Running(runner, own)
        self._healths[generation.name] = runner.consumer.health
        self._subscriber.add(runner.subscription)
        log.info("projection.consumed", generation=generation.name, status=generation.status)

    async def _stop(self, name: str) -> None:
        running = self._running.pop(name)
        self._healths.pop(name, None)
        await self._subscriber.remove(running.runner.queue)
        if running.gaps is not None:
            running.gaps.cancel()
            await asyncio.gather(running.gaps, return_exceptions=True)
        if running.own is not None:
            await running.own.close()


class Rebuilder:
    """Moves generations that are built or have ended on, step by step; each may be interrupted, and is done again.

    tables → queue → replaying → live, and then, or from anywhere before: ended → draining → leaving → gone.
    """

    def __init__(
        self, service: str, consumers: Sequence[Consumer], database: Database, publisher: Publisher, broker_url: str
    ) -> None:
        self._service = service
        self._consumers = {consumer.name: consumer for consumer in consumers if consumer.projection}
        self._database = database
        self._publisher = publisher
        self._broker_url = broker_url
        self._wake = asyncio.Event()
        self._steps = {
            "tables": self._make_tables, "queue": self._declare, "replaying": self._switch,
            "ended": self._unbind, "draining": self._drain, "leaving": self._leave,
        }  # fmt: skip
        database.listen(generations.HINT, self._wake.set)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self._publisher.ready.wait()
                while await self.turn():
                    pass
            except PASSING_ERRORS as error:
                log.warning("projections.postponed", error=repr(error))
            await woken(self._wake, within_s=POLL_S)

    async def turn(self) -> bool:
        """One step of a generation that is due; False when none is. A rebuild that cannot go on fails, and says why."""
        async with self._database.command() as tx:
            generation = await generations.due(tx, lease_s=LEASE_S)
        if generation is None:
            return False
        try:
            if generation.consumer in self._consumers:
                await self._steps[generation.step](self._consumers[generation.consumer], generation)
        except PASSING_ERRORS as error:
            log.warning("projection.postponed", generation=generation.name, step=generation.step, error=repr(error))
            await self._wait(generation, repr(error), pause_s=BUSY_PAUSE_S)
        except Exception as error:
            log.error(
                "projection.failed", generation=generation.name, step=generation.step, error=repr(error), exc_info=True
            )
            async with self._database.transaction() as tx:
                await generations.end(tx, generation, "failed", str(error) or repr(error), now=datetime.now(UTC))
                generations.wait(tx, generation, repr(error), pause_s=LEASE_S if generation.ended_at else 0.0)
        return True

    async def _wait(self, generation: Generation, what: str | None, *, pause_s: float = PAUSE_S) -> None:
        async with self._database.command() as tx:
            generations.wait(tx, generation, what, pause_s=pause_s)

    async def _step(self, generation: Generation, following: str) -> None:
        async with self._database.command() as tx:
            await generations.step(tx, generation, following)

    async def _make_tables(self, consumer: Consumer, generation: Generation) -> None:
        async with self._database.transaction() as tx:
            await generations.step(tx, generation, "queue")
            await green_tables.make(tx, consumer.projection, generation.schema)
            generations.remember_revision(tx, generation, head_of(self._service))

    async def _declare(self, consumer: Consumer, generation: Generation) -> None:
        """From here on what happens comes to the new queue; what happened before is asked for."""
        await declare_queue(self._broker_url, self._service, bound(consumer, generation))
        queue = self._queue(generation)
        try:
            async with self._database.transaction() as tx:
                await generations.step(tx, generation, "replaying")
                generations.ask(
                    tx, generation.consumer, generation.number, queue, sources_of(consumer), now=datetime.now(UTC)
                )
        except ConcurrentUpdate:
            if await self._is_over(generation):
                await delete_queue(self._broker_url, queue)  # nobody else knows of it
            raise

    async def _is_over(self, generation: Generation) -> bool:
        known = {one.name: one.status for one in await generations.all_of(self._database.reading())}
        return known.get(generation.name, "gone") not in ("building", "live")

    async def _switch(self, consumer: Consumer, generation: Generation) -> None:
        async with self._database.transaction() as tx:
            await generations.progress(tx, generation)
            waits_for = await generations.in_the_way(tx, generation)
        state = await self._publisher.look(self._queue(generation))
        if waits_for is None and (state is None or state.ready > SWITCH_READY_MAX):
            waits_for = "its queue" if state is None else f"{state.ready} messages in its queue"
        if waits_for is None:
            waits_for = await self._switch_now(consumer, generation)
        if waits_for is not None:
            await self._wait(generation, waits_for)

    async def _switch_now(self, consumer: Consumer, generation: Generation) -> str | None:
        if generation.schema_revision != head_of(self._service):
            raise green_tables.NotRebuildable("the tables changed meanwhile: rebuild again")
        async with self._database.transaction() as tx:
            waits_for = await generations.switch(tx, generation, consumer.projection, now=datetime.now(UTC))
        if waits_for is None:
            reached("projection.switched")
            log.info("projection.switched", generation=generation.name)
        return waits_for

    async def _unbind(self, consumer: Consumer, generation: Generation) -> None:
        if await self._publisher.look(self._queue(generation)) is None:
            return await self._step(generation, "leaving")
        await unbind_queue(self._broker_url, self._service, bound(consumer, generation))
        async with self._database.transaction() as tx:
            generations.close_letters(tx, generation)
            await generations.step(tx, generation, "draining")
        return None

    async def _drain(self, consumer: Consumer, generation: Generation) -> None:
        """Workers acknowledge, without effect, what still comes."""
        del consumer
        queue = self._queue(generation)
        under_way = await generations.under_way(self._database.reading(), generation, queue)
        state = await self._publisher.look(queue)
        if under_way or (state is not None and state.ready):
            return await self._wait(generation, "messages under way")
        return await self._step(generation, "leaving")

    async def _leave(self, consumer: Consumer, generation: Generation) -> None:
        """Once no worker consumes it any more, queue and tables go."""
        del consumer
        queue = self._queue(generation)
        state = await self._publisher.look(queue)
        if state is not None and state.consumers:
            return await self._wait(generation, f"{state.consumers} workers to leave its queue")
        await delete_queue(self._broker_url, queue)
        async with self._database.transaction() as tx:
            gone = await generations.forget(tx, generation)
        if gone:
            log.info("projection.gone", generation=generation.name)
            return None
        return await self._wait(generation, "rows to be removed", pause_s=0.0)

    def _queue(self, generation: Generation) -> str:
        return topology.queue(self._service, generation.name)


async def be_born(tx: Transaction, service: str, consumers: Sequence[Consumer], *, now: datetime) -> None:
    """The first generations of a new service's projections, asking for what was told before."""
    for consumer in consumers:
        if consumer.projection:
            queue = topology.queue(service, consumer.name)
            await generations.born(tx, consumer.name, queue, consumer.projection, sources_of(consumer), now=now)


def queues_of(consumers: Sequence[Consumer], found: Sequence[Generation]) -> list[Bound]:
    """Every queue that a service consumes now, live and being built; a projection that is unknown yet has its first."""
    known: dict[str, list[Generation]] = {}
    for one in found:
        if one.status in ("building", "live") and one.step not in ("tables", "queue"):
            known.setdefault(one.consumer, []).append(one)
    return [
        each
        for consumer in consumers
        for each in (
            [bound(consumer, one) for one in known[consumer.name]]
            if consumer.name in known
            else [Bound(consumer.name, consumer.bindings)]
        )
    ]


__all__ = ["GenerationRunner", "Projections", "Rebuilder", "be_born", "bound", "queues_of", "sources_of"]
