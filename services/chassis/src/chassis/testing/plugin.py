"""Fixtures; a service's conftest names itself in the fixture `service_name`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio
from contracts.topology import queue
from hypothesis import HealthCheck, settings

from chassis.app import Runtime, Service
from chassis.broker import declare_topology
from chassis.database import Database
from chassis.migrate import migrate
from chassis.testing.bus import Bus, Tap, purge
from chassis.testing.callers import Callers
from chassis.testing.crowds import crowd_before
from chassis.testing.live import LiveService, free_port, service_environment

# Every run tries the same, so that what passes on one machine passes on all; `scripts/test --deep` looks further, five
# thousand times and elsewhere each time. Machines name no number of their own. Hypothesis' own defaults differ where CI
# is set: what depends on them is said here.
settings.register_profile("small", max_examples=60, deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile(
    "deep",
    max_examples=5_000,
    deadline=None,
    derandomize=False,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("small")


def _needed(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        pytest.exit(f"{name} is not set; run these tests through scripts/test", returncode=4)
    return value


@pytest.fixture(scope="session")
def broker_url() -> str:
    """A broker of our own."""
    return _needed("VAJ_TEST_BROKER_URL")


@pytest.fixture(scope="session")
def redis_url() -> str:
    """A Redis of our own."""
    return _needed("VAJ_TEST_REDIS_URL")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def database_url(service_name: str) -> AsyncIterator[str]:
    """A database of the service under test, migrated, dropped afterwards."""
    admin_url = _needed("VAJ_TEST_DATABASE_ADMIN_URL")
    name = f"test_{service_name}_{uuid4().hex[:8]}"
    connection = await asyncpg.connect(admin_url)
    await connection.execute(f"CREATE DATABASE {name}")
    url = f"{admin_url.rpartition('/')[0]}/{name}"
    try:
        await migrate(url, service_name)
        yield url
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def database(database_url: str, service: Service) -> AsyncIterator[Database]:
    """The open database, with the service's constraints."""
    opened = Database(database_url, constraints=service.constraints)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def environment(database_url: str, broker_url: str, redis_url: str) -> dict[str, str]:
    """What the service under test is told."""
    return service_environment(database_url, broker_url, redis_url)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def callers(database: Database) -> Callers:
    """Makes people and partners that the service knows."""
    return Callers(database)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def topology(service: Service, service_name: str, broker_url: str) -> None:
    """The service's exchange and queues, emptied of what an earlier run left."""
    bindings = Runtime(service).bindings
    await declare_topology(broker_url, service_name, bindings)
    await purge(broker_url, [queue(service_name, consumer) for consumer in bindings])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tap(topology: None, service_name: str, broker_url: str) -> AsyncIterator[Tap]:
    """Everything that the service publishes."""
    async with Tap(broker_url, service_name) as opened:
        yield opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bus(broker_url: str) -> AsyncIterator[Bus]:
    """Publishes facts as other services would."""
    async with Bus(broker_url) as opened:
        yield opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def live(service_name: str, environment: dict[str, str], tap: Tap) -> AsyncIterator[LiveService]:
    """The service as a real process."""
    process = LiveService(service_name, environment)
    await process.start_soon()
    yield process
    process.kill()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def replica(service_name: str, environment: dict[str, str], live: LiveService) -> AsyncIterator[LiveService]:
    """A second process of the service before the same database, which answers requests only."""
    ports = {name: str(free_port()) for name in ("VAJ_API_PORT", "VAJ_OPS_PORT")}
    process = LiveService(service_name, environment | ports, role="api")
    await process.start_soon()
    yield process
    process.kill()


@pytest_asyncio.fixture(loop_scope="session")
async def crowd(live: LiveService, replica: LiveService) -> AsyncIterator[httpx.AsyncClient]:
    """A client of both processes in turn, with as many connections as there are requests."""
    async with crowd_before(live, replica) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def client(live: LiveService) -> AsyncIterator[httpx.AsyncClient]:
    """An anonymous client of the live service."""
    async with httpx.AsyncClient(base_url=live.url, timeout=20) as opened:
        yield opened


@pytest.fixture(scope="session")
def service(environment: dict[str, str], service_name: str) -> Iterator[Service]:
    """The service as `main.build` wires it for the test environment."""
    module = __import__(f"{service_name}.main", fromlist=["build"])
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    yield module.build()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
