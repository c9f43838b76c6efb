"""The service under test, its tenants, and the facts that concern them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio
from chassis.database import Database
from chassis.kernel import new_id
from chassis.migrate import migrate
from chassis.testing import Bus, Callers, service_environment
from contracts.envelope import Event
from contracts.events.batches import BatchReady

from contracts import catalogue
from services.webhooks.tests import engine
from services.webhooks.tests.builders import Owner, Tenant
from services.webhooks.tests.receiver import Receiver

pytest_plugins = ["chassis.testing.plugin"]


@pytest.fixture(scope="session")
def service_name() -> str:
    """Which service these tests are of."""
    return "webhooks"


@pytest.fixture(scope="session")
def environment(database_url: str, broker_url: str, redis_url: str) -> dict[str, str]:
    """Loopback opened for the receivers, and three quick retries instead of three days."""
    return service_environment(
        database_url,
        broker_url,
        redis_url,
        VAJ_WEBHOOKS_ALLOWED_NETWORKS="127.0.0.0/8",
        VAJ_WEBHOOKS_RETRY_SCHEDULE_S="0.3,0.3,0.3",
    )


@pytest.fixture(scope="session")
def new_tenant(callers: Callers) -> Callable[[], Awaitable[Tenant]]:
    """Makes organizations that nobody else in the tests knows."""

    async def make() -> Tenant:
        tenant = Tenant()
        tenant.organization_id = await callers.organization()
        tenant.manager = await callers.person(member_of=tenant.organization_id)
        tenant.partner = await callers.partner(tenant.organization_id)
        return tenant

    return make


@pytest_asyncio.fixture(loop_scope="session")
async def tenant(new_tenant: Callable[[], Awaitable[Tenant]]) -> Tenant:
    """An organization of this test alone."""
    return await new_tenant()


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    """Where endpoints point to: it accepts everything unless told otherwise."""
    async with Receiver() as opened:
        yield opened


@pytest.fixture
def owner(client: httpx.AsyncClient, tenant: Tenant) -> Owner:
    """The partner whose key manages the tenant's endpoints."""
    return Owner(client, tenant)


@pytest.fixture
def endpoint_at(client: httpx.AsyncClient, tenant: Tenant) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Registers an endpoint of the tenant's at a URL."""

    async def register(url: str, **settings: Any) -> dict[str, Any]:
        answer = await client.post(
            "/v1/webhook-endpoints", json={"url": url, **settings}, headers=tenant.partner.headers
        )
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    return register


@pytest.fixture
def publish(bus: Bus, tenant: Tenant) -> Callable[..., Awaitable[UUID]]:
    """Publishes a fact that concerns the tenant: a ready batch, unless told otherwise; returns its id."""

    async def send(kind: type[Event] = BatchReady, **envelope: Any) -> UUID:
        event = kind.model_validate(catalogue.example(kind.type_name())["data"])
        return await bus.publish(event, **{"subject": new_id(), "organization_id": tenant.organization_id, **envelope})

    return send


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def quiet() -> AsyncIterator[Database]:
    """A database in which no dispatcher is at work."""
    admin_url = os.environ["VAJ_TEST_DATABASE_ADMIN_URL"]
    name = f"test_webhooks_{uuid4().hex[:8]}"
    connection = await asyncpg.connect(admin_url)
    await connection.execute(f"CREATE DATABASE {name}")
    url = f"{admin_url.rpartition('/')[0]}/{name}"
    try:
        await migrate(url, "webhooks")
        database = Database(url)
        await database.open()
        yield database
        await database.close()
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


@pytest_asyncio.fixture(loop_scope="session")
async def empty(quiet: Database) -> Database:
    """The quiet database with nothing in it."""
    await quiet.pool.execute(f"TRUNCATE {engine.TABLES}")
    return quiet
