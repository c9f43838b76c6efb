"""A service of nothing but chassis: one event type, one consumer, one counter as its effect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from chassis.app import Runtime, Service
from chassis.broker import Publisher
from chassis.consumer import Consumer
from chassis.database import Database, Transaction
from chassis.roles import Role
from chassis.settings import ServiceSettings
from chassis.testing import Tap
from contracts.events.webhooks import EndpointTest
from contracts.registry import Received

from services.chassis.tests.probe import running

pytest_plugins = ["chassis.testing.plugin"]


@pytest.fixture(scope="session")
def service_name() -> str:
    return "chassis"


async def _count(tx: Transaction, received: Received) -> None:
    event: Any = received.event
    tx.write(
        "INSERT INTO effects (subject, times) VALUES ($1, 1) ON CONFLICT (subject) DO UPDATE SET times = effects.times + 1",
        event.endpoint_id,
    )


@pytest.fixture(scope="session")
def service(environment: dict[str, str]) -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        consumer = Consumer("probe", {EndpointTest: _count})
        yield Service(name="webhooks", settings=ServiceSettings(), consumers=[consumer], replicates_access=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def effects(database: Database) -> Database:
    """The database with the table of effects."""
    await database.pool.execute("CREATE TABLE IF NOT EXISTS effects (subject uuid PRIMARY KEY, times int NOT NULL)")
    return database


@pytest_asyncio.fixture(loop_scope="session")
async def publisher(broker_url: str) -> AsyncIterator[Publisher]:
    made = Publisher(broker_url, name="test")
    async with running(Role("publisher", made.run)):
        await made.ready.wait()
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def declared(service: Service, broker_url: str) -> None:
    """The probe's exchange and queue."""
    from chassis.broker import declare_topology
    from chassis.testing.bus import purge

    bindings = Runtime(service).bindings
    await declare_topology(broker_url, "webhooks", bindings)
    await purge(broker_url, ["q.webhooks.probe"])


@pytest_asyncio.fixture(loop_scope="session")
async def heard(broker_url: str, declared: None) -> AsyncIterator[Tap]:
    """What the probe's exchange was sent during the test."""
    async with Tap(broker_url, "webhooks") as tap:
        yield tap
