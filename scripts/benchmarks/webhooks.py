"""`bench webhooks`: deliveries against a bare aiohttp loop that posts the same bytes to the same sink, lag, isolation, memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import aiohttp
import uvloop
from chassis.app import collect_rarely
from chassis.database import Database
from chassis.dispatch import Dispatcher
from chassis.kernel import new_id
from chassis.outbox import Announcement, envelope_bytes
from chassis.settings import TelemetrySettings
from chassis.telemetry import configure_telemetry
from chassis.testing import LiveService
from contracts.events.batches import BatchReady
from webhooks import dispatcher, repository, usecases
from webhooks.domain import RETRY_SCHEDULE, EndpointSettings, MessageStatus
from webhooks.repository import ENDPOINTS, Listener, StoredEvent
from webhooks.sender import Sender
from webhooks.url_policy import parse_networks

from scripts.benchmarks.api import HOME
from scripts.benchmarks.collector import collecting_as_python_comes
from scripts.benchmarks.report import Target, bounded, compared, show
from scripts.benchmarks.sink import Sink, sink
from scripts.stack import Stack
from scripts.webhook_rig import NETWORKS, Rig, a_producer, an_event, commit, environment, keyring, opened

ROUNDS = 5
ORGANIZATIONS, ENDPOINTS_EACH = 10, 10
DELIVERIES = 15_000  # a round: long enough that its beginning and its end are little of it
CONCURRENCY = dispatcher.SLOTS
PER_S, WARM_UP_S, MEASURED_S = 200, 3, 15
MEMORY_WARM_UP, MEMORY_MEASURED = 30_000, 90_000
WAIT_S_MAX = 120
P50_MS_MAX, P95_MS_MAX, HANGING_RATIO_MAX, RATE_MIN, GROWTH_MIB_MAX = 25, 80, 2.0, 1_500, 20


def run() -> list[Target]:
    """Servers and a sink beside this process, which does the deliveries itself; lag is of a real process."""
    stack = Stack(HOME, caller=os.environ)
    stack.up(infrastructure_only=True)
    try:
        with sink() as receiving, _logged_to(HOME / "webhooks.log"):
            targets: list[Target] = []
            for measure in MEASURES:
                found = uvloop.run(measure(stack, receiving))
                for target in found:
                    show(target)
                targets += found
            return targets
    finally:
        stack.down()


@contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    """The service's own logging, at its usual level, into a file."""
    with path.open("w", encoding="utf-8") as file:
        with contextlib.redirect_stdout(file):
            configure_telemetry("bench", TelemetrySettings())
        yield


# ---------------------------------------------------------------- deliveries a second


async def throughput(stack: Stack, receiving: Sink) -> list[Target]:
    """Ours and bare in turns: the same bytes, the same sink, the same concurrency, this process's one core."""
    async with (
        opened(stack, receiving, organizations=ORGANIZATIONS, endpoints_each=ENDPOINTS_EACH) as rig,
        _opened_deliveries(rig.database) as deliveries,
        _bare_session() as session,
    ):
        collect_rarely()  # as a service does when it starts
        await _round(rig, deliveries, session)  # connections are open and endpoints known from here on, in both
        rounds = [await _round(rig, deliveries, session) for _ in range(ROUNDS)]
    ours, bare = ([DELIVERIES / seconds for seconds in column] for column in zip(*rounds, strict=True))
    return [
        compared("deliveries against a bare aiohttp loop", ours, bare, at_least=0.4, unit="per s"),
        Target("deliveries, at least", statistics.median(ours), "per s", RATE_MIN, 1.0, at_least=True),
    ]


async def _round(
    rig: Rig, deliveries: dispatcher.Deliveries, session: aiohttp.ClientSession
) -> tuple[float, float]:  # fmt: skip
    bodies = await _fill(rig, DELIVERIES)
    ours = await _timed(lambda: _deliver(rig, deliveries, DELIVERIES))
    with collecting_as_python_comes():
        bare = await _timed(lambda: _post_plainly(rig, session, bodies))
    assert len(rig.sink.taken()) == 2 * DELIVERIES
    return ours, bare


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    began = time.monotonic()
    await work()
    return time.monotonic() - began


async def _deliver(rig: Rig, deliveries: dispatcher.Deliveries, count: int) -> None:
    """Return when so many more are recorded."""
    expected = _recorded() + count
    async with _dispatching(rig.database, deliveries):
        async with asyncio.timeout(WAIT_S_MAX):
            while _recorded() < expected:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def _opened_deliveries(database: Database) -> AsyncIterator[dispatcher.Deliveries]:
    async with Sender(parse_networks(NETWORKS)) as sender:
        yield dispatcher.Deliveries(database, keyring(), sender, RETRY_SCHEDULE)


@asynccontextmanager
async def _dispatching(database: Database, deliveries: dispatcher.Deliveries) -> AsyncIterator[None]:
    """The service's dispatcher, as `dispatcher.run` wires it."""
    running = Dispatcher(
        database, hint=usecases.MESSAGES_HINT, slots=dispatcher.SLOTS, claim=deliveries.claim, act=deliveries.act,
        pause_s=deliveries.pause_s,
    )  # fmt: skip
    task = asyncio.create_task(running.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _recorded() -> int:
    return int(dispatcher.ATTEMPTS.labels("delivered")._value.get())


@asynccontextmanager
async def _bare_session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


async def _post_plainly(rig: Rig, session: aiohttp.ClientSession, bodies: Sequence[tuple[UUID, bytes]]) -> None:
    """The least that aiohttp does for a POST: nothing signed, nothing kept, one header more than none."""
    waiting = iter(bodies)

    async def post_some() -> None:
        for event_id, body in waiting:
            headers = {"webhook-id": str(event_id), "Content-Type": "application/cloudevents+json"}
            async with session.post(rig.sink.url, data=body, headers=headers) as answer:
                await answer.read()

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(post_some())


# ---------------------------------------------------------------- from the commit to the receiver


async def lag(stack: Stack, receiving: Sink) -> list[Target]:
    """An event committed in a producer's database, its relay, the broker, a real worker, the sink."""
    async with _worker(stack, receiving, endpoints_each=1) as way:
        lags_s = await way.measured(endpoints=1, events_per_s=PER_S)
    cuts = statistics.quantiles(lags_s, n=100)
    return [
        bounded(f"committed → received at {PER_S}/s, p50", cuts[49] * 1000, at_most=P50_MS_MAX, unit="ms"),
        bounded(f"committed → received at {PER_S}/s, p95", cuts[94] * 1000, at_most=P95_MS_MAX, unit="ms"),
    ]


async def isolation(stack: Stack, receiving: Sink) -> list[Target]:
    """Ten of a hundred endpoints hang: what that does to the others."""
    async with _worker(stack, receiving, endpoints_each=ENDPOINTS_EACH) as way:
        alone = await way.measured(endpoints=ENDPOINTS_EACH, events_per_s=PER_S / ENDPOINTS_EACH)
        await way.hang_one_in_ten()
        beside = await way.measured(endpoints=ENDPOINTS_EACH - 1, events_per_s=PER_S / ENDPOINTS_EACH)
    p99_s = [statistics.quantiles(found, n=100)[98] for found in (beside, alone)]
    return [
        Target("p99 of 90 endpoints while 10 hang", p99_s[0] * 1000, "ms", p99_s[1] * 1000, HANGING_RATIO_MAX, False)
    ]


@dataclass
class Way:
    """From a producer's commit to the sink, through a worker of webhooks that runs beside."""

    rig: Rig
    producer: Database

    async def measured(self, *, endpoints: int, events_per_s: float) -> list[float]:
        """The lag of every delivery at a steady pace, each event to so many endpoints; the warm-up left out."""
        self.rig.sink.taken()
        organizations = self.rig.organizations
        committed: dict[str, float] = {}
        began, count = time.monotonic(), round((WARM_UP_S + MEASURED_S) * events_per_s)
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / events_per_s - time.monotonic()))
            event_id = new_id()
            await commit(self.producer, organizations[number % ORGANIZATIONS], event_id)
            committed[str(event_id)] = time.monotonic()
        received = await self._received(count * endpoints)
        counted = list(committed)[round(WARM_UP_S * events_per_s) :]
        return [max(0.0, at - committed[name]) for name in counted for at in received[name]]

    async def _received(self, count: int) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        async with asyncio.timeout(WAIT_S_MAX):
            while sum(map(len, found.values())) < count:
                await asyncio.sleep(0.1)
                for post in self.rig.sink.taken():
                    found.setdefault(post.webhook_id, []).append(post.at)
        return found

    async def hang_one_in_ten(self) -> None:
        """One endpoint of each organization points to where nobody answers."""
        for endpoint in self.rig.endpoints[::ENDPOINTS_EACH]:
            async with self.rig.database.command() as tx:
                now = await ENDPOINTS.get(tx, endpoint.id)
                now.change(EndpointSettings(url=self.rig.sink.hanging_url))
                ENDPOINTS.save(tx, now, now=datetime.now(UTC))


@asynccontextmanager
async def _worker(stack: Stack, receiving: Sink, *, endpoints_each: int) -> AsyncIterator[Way]:
    """A worker of webhooks as a real process, and here a producer with its relay."""
    async with (
        opened(stack, receiving, organizations=ORGANIZATIONS, endpoints_each=endpoints_each) as rig,
        a_producer(stack, rig) as producer,
    ):
        live = LiveService("webhooks", environment(stack, rig), role="worker")
        try:
            await live.start_soon()
            yield Way(rig, producer)
        finally:
            live.kill()


# ---------------------------------------------------------------- memory


async def memory(stack: Stack, receiving: Sink) -> list[Target]:
    """Growth of this process while it delivers, after a warm-up."""
    async with opened(stack, receiving, organizations=ORGANIZATIONS, endpoints_each=ENDPOINTS_EACH) as rig:
        collect_rarely()
        await _pass(rig, MEMORY_WARM_UP)
        before = _resident_mib()
        await _pass(rig, MEMORY_MEASURED)
        grown = _resident_mib() - before
    name = f"memory growth over {MEMORY_MEASURED:,} deliveries"
    return [bounded(name, max(grown, 0.0), at_most=GROWTH_MIB_MAX, unit="MiB")]


async def _pass(rig: Rig, deliveries: int) -> None:
    async with _opened_deliveries(rig.database) as sent, _dispatching(rig.database, sent):
        for _ in range(0, deliveries, DELIVERIES):
            expected = _recorded() + DELIVERIES
            await _fill(rig, DELIVERIES)
            async with asyncio.timeout(WAIT_S_MAX):
                while _recorded() < expected:
                    await asyncio.sleep(0.02)
            rig.sink.taken()


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


# ---------------------------------------------------------------- messages


async def _fill(rig: Rig, count: int) -> list[tuple[UUID, bytes]]:
    """Messages as the consumer stores them, one event to one endpoint; the ids and bytes of their events."""
    events = []
    async with rig.database.transaction() as tx:
        for number in range(count):
            endpoint = rig.endpoints[number % len(rig.endpoints)]
            subject, event_id = new_id(), new_id()
            body = _body(subject, event_id, endpoint.organization_id)
            listener = Listener(endpoint.id, endpoint.organization_id, MessageStatus.PENDING)
            event = StoredEvent(event_id, BatchReady.type_name(), subject, 1, body, _TRACE, str(event_id))
            repository.store(tx, event, [listener])
            tx.end_step()
            events.append((event_id, body))
    return events


_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def _body(subject: UUID, event_id: UUID, organization_id: UUID) -> bytes:
    return envelope_bytes(Announcement(an_event(), organization_id), subject, event_id, 1, datetime.now(UTC))


MEASURES = (throughput, lag, isolation, memory)
