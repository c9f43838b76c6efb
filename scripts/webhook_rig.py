"""What benches and chaos of webhooks stand on: a database with endpoints in it, and a producer that commits events."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from uuid import UUID

from chassis.app import prepare
from chassis.broker import Publisher, declare_topology
from chassis.database import Database
from chassis.idempotency import secret_bytes
from chassis.kernel import new_id
from chassis.outbox import Announcement, OutboxTables, Relay, enqueue
from chassis.telemetry import in_context, start_context
from chassis.testing import service_environment
from contracts.events.batches import BatchReady
from webhooks.domain import Endpoint, EndpointId, EndpointSettings, OrganizationId
from webhooks.keyring import Keyring
from webhooks.main import build
from webhooks.repository import ENDPOINTS

from contracts import catalogue
from scripts.benchmarks.sink import Sink
from scripts.databases import fresh_database
from scripts.stack import Stack

NETWORKS = "127.0.0.0/8"
SECRET = service_environment("", "", "")["VAJ_SECRET_KEY"]


@dataclass(frozen=True)
class Rig:
    """A database of webhooks with endpoints in it, and where they point to."""

    database: Database
    sink: Sink
    endpoints: Sequence[Endpoint]

    @property
    def organizations(self) -> list[UUID]:
        """Whose they are, each once."""
        return list(dict.fromkeys(endpoint.organization_id for endpoint in self.endpoints))


@asynccontextmanager
async def opened(
    stack: Stack, receiving: Sink, *, organizations: int, endpoints_each: int, timeout_s: int = 15
) -> AsyncIterator[Rig]:
    """A fresh one; each endpoint has a path of its own at the sink."""
    async with fresh_database(stack.settings["VAJ_DATABASE_ADMIN_URL"], "bench_webhooks", "webhooks") as url:
        database = Database(url)
        await database.open()
        try:
            owners = [owner for owner in (new_id() for _ in range(organizations)) for _ in range(endpoints_each)]
            urls = [f"{receiving.url}/{number}" for number in range(len(owners))]
            endpoints = [
                await _an_endpoint(database, owner, EndpointSettings(url=url, timeout_s=timeout_s))
                for owner, url in zip(owners, urls, strict=True)
            ]
            yield Rig(database, receiving, endpoints)
        finally:
            await database.close()


@asynccontextmanager
async def a_producer(stack: Stack, rig: Rig) -> AsyncIterator[Database]:
    """A database where events are committed, and the relay that brings them to the queue of webhooks."""
    broker_url = stack.settings["VAJ_BROKER_URL"]
    os.environ.update(environment(stack, rig))
    await prepare(build())  # queues and exchange, as `migrate` declares them
    await declare_topology(broker_url, BatchReady.producer, {})
    publisher = Publisher(broker_url, name="rig")
    async with fresh_database(stack.settings["VAJ_DATABASE_ADMIN_URL"], "bench_producer", "chassis") as url:
        producer = Database(url)
        await producer.open()
        relay = Relay(OutboxTables(producer), publisher, owner=new_id())
        tasks = [asyncio.create_task(publisher.run()), asyncio.create_task(relay.run())]
        try:
            await publisher.ready.wait()
            yield producer
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await producer.close()


async def _an_endpoint(database: Database, organization_id: UUID, settings: EndpointSettings) -> Endpoint:
    endpoint = Endpoint.create(
        EndpointId(new_id()), organization_id=OrganizationId(organization_id), settings=settings,
        sealed_secret=keyring().seal(os.urandom(32)), now=datetime.now(UTC),
    )  # fmt: skip
    async with database.command() as tx:
        ENDPOINTS.save(tx, endpoint, now=datetime.now(UTC))
    return endpoint


def environment(stack: Stack, rig: Rig) -> dict[str, str]:
    """What a process of webhooks is told."""
    settings = stack.settings
    return service_environment(
        rig.database.url, settings["VAJ_BROKER_URL"], settings["VAJ_REDIS_URL"],
        VAJ_WEBHOOKS_ALLOWED_NETWORKS=NETWORKS, VAJ_SECRET_KEY=SECRET,
    )  # fmt: skip


async def commit(producer: Database, organization_id: UUID, event_id: UUID) -> None:
    """One event of the organization's in a producer's outbox; once more under the same id is the same event."""
    with in_context(start_context(sample_ratio=0.05)):
        async with producer.command() as tx:
            message = (event_id, 1, Announcement(an_event(), organization_id))
            enqueue(tx, stream_id=new_id(), messages=[message], now=datetime.now(UTC))


@cache
def keyring() -> Keyring:
    """What seals the endpoints' secrets, here and in the processes."""
    return Keyring(secret_bytes(SECRET))


@cache
def an_event() -> BatchReady:
    """A ready batch."""
    return BatchReady.model_validate(catalogue.example(BatchReady.type_name())["data"])
