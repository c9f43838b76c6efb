"""The service under test, with a post office and an identity of the tests' own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from chassis.database import Database
from chassis.migrate import migrate
from chassis.testing import Bus, Callers, LiveService, service_environment

from services.notifications.tests.people import People
from services.notifications.tests.servers import Identity, PostOffice

pytest_plugins = ["chassis.testing.plugin"]


@pytest.fixture(scope="session")
def service_name() -> str:
    """Which service these tests are of."""
    return "notifications"


@pytest.fixture(scope="session")
def post_office() -> Iterator[PostOffice]:
    """A real SMTP server."""
    office = PostOffice()
    office.open()
    yield office
    office.close()


@pytest.fixture(scope="session")
def identity() -> Iterator[Identity]:
    """A real HTTP server with identity's internal route."""
    with Identity() as running:
        yield running


@pytest.fixture(scope="session")
def environment(
    database_url: str, broker_url: str, redis_url: str, post_office: PostOffice, identity: Identity
) -> dict[str, str]:
    """What the service under test is told."""
    return service_environment(
        database_url, broker_url, redis_url, VAJ_SMTP_URL=post_office.url, VAJ_IDENTITY_INTERNAL_URL=identity.url
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def people(
    callers: Callers, identity: Identity, bus: Bus, database: Database, live: LiveService, post_office: PostOffice
) -> People:
    """Everybody in these tests, while the service runs."""
    return People(callers, identity, bus, database)


@pytest.fixture(autouse=True)
def calm(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test did to the servers ends with it."""
    yield
    if "post_office" in request.fixturenames:
        request.getfixturevalue("post_office").calm()
        request.getfixturevalue("identity").calm()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def still_database(service_name: str) -> AsyncIterator[Database]:
    """A migrated database that no process works on."""
    admin_url = os.environ["VAJ_TEST_DATABASE_ADMIN_URL"]
    name = f"test_{service_name}_{uuid4().hex[:8]}"
    admin = await asyncpg.connect(admin_url)
    await admin.execute(f"CREATE DATABASE {name}")
    url = f"{admin_url.rpartition('/')[0]}/{name}"
    await migrate(url, service_name)
    database = Database(url)
    await database.open()
    yield database
    await database.close()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()
