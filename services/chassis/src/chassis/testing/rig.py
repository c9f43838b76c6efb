"""The ledger's producers and consumers as processes, on databases of their own; what tests and `scripts/chaos` break."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import asyncpg
import httpx

from chassis.consumer import Order
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing.callers import Callers
from chassis.testing.judge import Judge, Verdict, queues
from chassis.testing.ledger import CONSUMER, LOCK, PRODUCER
from chassis.testing.live import service_environment
from chassis.testing.patience import eventually
from chassis.testing.processes import Process, stop_all
from contracts import topology

SIDES = ("producer", "consumer")
CONSUMERS = tuple(order.value for order in Order)
MODULE = "chassis.testing.ledger"
REQUEST_S_MAX = 60
EMPTY_S_MAX = 20
KEEP_S = 0.05
LOOK_S = 0.1
SETTLED_LOOKS = 3  # in a row: what is delivered and not acknowledged does not show

_CUT_OTHERS = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""
_EMPTIED = """SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'outbox_leases'
AND NOT starts_with(tablename, 'alembic_version')"""
_FREE_LEASES = "UPDATE outbox_leases SET owner = '00000000-0000-0000-0000-000000000000', until = '-infinity'"


@dataclass(frozen=True)
class Servers:
    """Where the infrastructure is."""

    admin_url: str
    broker_url: str
    redis_url: str

    def database(self, name: str) -> str:
        """The address of one database."""
        return f"{self.admin_url.rpartition('/')[0]}/{name}"


@asynccontextmanager
async def made_databases(servers: Servers, folder: Path) -> AsyncIterator[Mapping[str, str]]:
    """The address of a migrated database per side, and the broker's topology; the databases are dropped at the end."""
    names = {side: f"ledger_{side}_{uuid4().hex[:8]}" for side in SIDES}
    await _execute(servers.admin_url, *(f"CREATE DATABASE {name}" for name in names.values()))
    try:
        urls = {side: servers.database(name) for side, name in names.items()}
        await Rig(servers, urls, folder).declare()
        yield urls
    finally:
        await _execute(servers.admin_url, *(f"DROP DATABASE {name} WITH (FORCE)" for name in names.values()))


@asynccontextmanager
async def opened_rig(servers: Servers, database_urls: Mapping[str, str], folder: Path) -> AsyncIterator[Rig]:
    """A rig on emptied databases and queues; at the end nothing of it runs any more."""
    for url in database_urls.values():
        await _empty(url)
    await empty_queues(servers.broker_url)
    rig = Rig(servers, database_urls, folder)
    keeping = asyncio.create_task(rig.keep())
    try:
        yield rig
    finally:
        keeping.cancel()
        rig.kill_all()


async def _empty(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_CUT_OTHERS)
        tables = [row["tablename"] for row in await connection.fetch(_EMPTIED)]
        await connection.execute("; ".join([*(f"DELETE FROM {table}" for table in tables), _FREE_LEASES]))
    finally:
        await connection.close()


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def empty_queues(broker_url: str) -> None:
    """Wait until nobody consumes the probe's queues, then empty them."""
    async with await aio_pika.connect(broker_url) as connection:
        channel = await connection.channel()
        existing = [name for name in queues(CONSUMERS) if not name.startswith("ctl.")]

        async def unused() -> None:
            for name in existing:
                found = (await channel.declare_queue(name, passive=True)).declaration_result
                assert not found.consumer_count, f"{name} is consumed"

        await eventually(unused, timeout_s=EMPTY_S_MAX)
        for name in existing:
            await (await channel.declare_queue(name, passive=True)).purge()


@asynccontextmanager
async def retried(broker_url: str) -> AsyncIterator[list[str]]:
    """The ids of the messages that consumers put into the retry ladder meanwhile."""
    seen: list[str] = []

    async def keep(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        seen.append(message.message_id or "")

    async with await aio_pika.connect(broker_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        for delay_s in topology.RETRY_DELAYS_S:
            await queue.bind(topology.retry_queue(CONSUMER, delay_s))
        await queue.consume(keep, no_ack=True)
        yield seen


@dataclass
class Rig:
    """Starts processes of both sides, has events appended, and has the judge look."""

    servers: Servers
    database_urls: Mapping[str, str]
    folder: Path
    constants: dict[str, Any] = field(default_factory=dict)
    consumers: Sequence[str] = CONSUMERS
    processes: list[Process] = field(default_factory=list)
    kept: list[Process] = field(default_factory=list)
    verdict: Verdict | None = None

    @property
    def judge(self) -> Judge:
        """Who compares."""
        return Judge(
            self.database_urls["producer"],
            self.database_urls["consumer"],
            self.servers.broker_url,
            consumers=self.consumers,
        )

    def process(
        self, side: str, role: str = "worker", *, keep: bool = False, broker_url: str | None = None, database_url: str | None = None,
        **settings: Any,
    ) -> Process:  # fmt: skip
        """A process of one side, not started; `settings` are `VAJ_…` by their lower-case names.

        With `keep` it is started again whenever it dies, as a supervisor would.
        """
        name = f"{side}-{len(self.processes) + 1}"
        told = service_environment(
            database_url or self.database_urls[side], broker_url or self.servers.broker_url, self.servers.redis_url
        )
        own = {"ledger_worker": name, "ledger_orders": list(self.consumers), "database_pool_max": 6, **settings}
        texts = {
            f"VAJ_{key.upper()}": value if isinstance(value, str) else json.dumps(value) for key, value in own.items()
        }
        texts["VAJ_TEST_CONSTANTS"] = json.dumps(self.constants)
        made = Process(MODULE, [side, role], told | texts, name=name, log=self.folder / f"{name}.log")
        self.processes.append(made)
        if keep:
            self.kept.append(made)
        return made

    async def started(self, side: str, role: str = "worker", *, crash: str = "", **given: Any) -> Process:
        """A process that is ready; with `crash` it is not waited for, since it may be dead by then."""
        made = self.process(side, role, **given)
        made.start(**({"VAJ_TEST_CRASH": crash} if crash else {}))
        if not crash:
            await made.ready()
        return made

    async def keep(self) -> None:
        """Start again what died of those to be kept, until cancelled."""
        while True:
            for process in self.kept:
                if process.starts and not process.alive:
                    process.start()
            await asyncio.sleep(KEEP_S)

    async def pair(self, *, workers: int = 1) -> tuple[Process, list[Process]]:
        """A producer with everything and some consumers, all ready."""
        producer, *consumers = await asyncio.gather(
            self.started("producer"), *(self.started("consumer") for _ in range(workers))
        )
        return producer, list(consumers)

    async def declare(self) -> None:
        """Schema and topology of both sides."""
        made = [self.process(side, "migrate") for side in reversed(SIDES)]
        for process in made:
            process.start()
            code = await process.ended(timeout_s=60)
            assert code == 0, process.log.read_text()
            self.processes.remove(process)

    async def append(
        self, producer: Process, streams: Sequence[UUID] | int = 10, *, events: int = 1, held: bool = False,
        rolled_back: bool = False,
    ) -> list[UUID]:  # fmt: skip
        """Have `events` more appended to each stream by one command; returns the streams, new ones when told how many."""
        wanted = [new_id() for _ in range(streams)] if isinstance(streams, int) else list(streams)
        body = {"streams": [str(one) for one in wanted], "events": events, "held": held, "rolled_back": rolled_back}
        async with httpx.AsyncClient(timeout=REQUEST_S_MAX) as client:
            answer = await client.post(f"{producer.url}/append", json=body)
        assert answer.status_code == (409 if rolled_back else 204), answer.text
        return wanted

    @asynccontextmanager
    async def load(
        self, producers: Sequence[Process], *, streams: int = 50, pause_s: float = 0.02
    ) -> AsyncIterator[None]:
        """Events appended meanwhile, by whichever producer answers."""
        chosen = [new_id() for _ in range(streams)]

        async def append() -> None:
            for number in itertools.count():
                with contextlib.suppress(httpx.TransportError, AssertionError):
                    await self.append(producers[number % len(producers)], random.sample(chosen, 5), events=2)
                await asyncio.sleep(pause_s)

        appending = asyncio.create_task(append())
        try:
            yield
        finally:
            appending.cancel()
            await asyncio.gather(appending, return_exceptions=True)

    async def at_rest(self, *, timeout_s: float = 30.0, dead: Mapping[str, set[UUID]] | None = None) -> Verdict:
        """Wait until everything has settled, stop all processes, and return what the judge then says.

        Raises AssertionError with the offending ids unless the invariant holds and exactly `dead` are dead letters.
        """
        judge, deadline, looks = self.judge, time.monotonic() + timeout_s, 0
        while looks < SETTLED_LOOKS and time.monotonic() < deadline:
            looks = looks + 1 if await judge.settled() else 0
            await asyncio.sleep(LOOK_S)
        self.kept.clear()
        await stop_all([process for process in self.processes if process.alive])
        self.verdict = verdict = await judge.verdict()
        assert verdict.holds, str(verdict)
        assert verdict.dead == dict(dead or {}), f"{verdict}\ndead letters: {verdict.dead}"
        return verdict

    async def rows(self, side: str, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """What a query of a side's database finds."""
        connection = await asyncpg.connect(self.database_urls[side])
        try:
            found: list[asyncpg.Record] = await connection.fetch(query, *arguments)
            return found
        finally:
            await connection.close()

    async def count(self, side: str, table_and_condition: str, *arguments: Any) -> int:
        """How many rows there are."""
        [row] = await self.rows(side, f"SELECT count(*) FROM {table_and_condition}", *arguments)
        return int(row[0])

    async def until_applied(self, consumer: str, count: int, *, timeout_s: float = 20.0) -> None:
        """Wait until a consumer has applied at least this many."""

        async def check() -> None:
            found = await self.count("consumer", "applied WHERE consumer = $1", consumer)
            assert found >= count, f"{consumer} applied {found} of {count}"

        await eventually(check, timeout_s=timeout_s)

    @asynccontextmanager
    async def lock(self, side: str) -> AsyncIterator[None]:
        """Hold the lock that `held` appends and `wait` handlers of this side want."""
        connection = await asyncpg.connect(self.database_urls[side])
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
            yield
        finally:
            await connection.close()

    async def admin_headers(self) -> dict[str, str]:
        """Credentials of an operator whom the consumers' API knows."""
        database = Database(self.database_urls["consumer"])
        await database.open()
        admin = await Callers(database).person(platform_role="admin")
        await database.close()
        return admin.headers

    def kill_all(self) -> None:
        """Nothing of this rig runs any more."""
        self.kept.clear()
        for process in self.processes:
            process.kill()


async def waiting(rig: Rig) -> list[asyncpg.Record]:
    """What waits in the outbox, in order."""
    return await rig.rows("producer", "SELECT * FROM outbox ORDER BY id")


async def publish(servers: Servers, rows: Sequence[asyncpg.Record]) -> None:
    """Send outbox rows as the relay would, without taking them out."""
    async with await aio_pika.connect(servers.broker_url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(topology.exchange(PRODUCER))
        for row in rows:
            message = aio_pika.Message(row["body"], message_id=str(row["message_id"]), delivery_mode=2)
            await exchange.publish(message, row["routing_key"])
