"""The service under test."""

from __future__ import annotations

import httpx
import pytest
import pytest_asyncio
from chassis.testing import Callers, service_environment

from services.resources.tests.builders import Grounds, Side, Steps, a_side
from services.resources.tests.loading import Partner, a_partner

pytest_plugins = ["chassis.testing.plugin"]


@pytest.fixture(scope="session")
def service_name() -> str:
    """Which service these tests are of."""
    return "resources"


@pytest.fixture(scope="session")
def environment(database_url: str, broker_url: str, redis_url: str) -> dict[str, str]:
    """What the service under test is told: small chunks, so that small loads have many."""
    return service_environment(database_url, broker_url, redis_url, VAJ_LOAD_CHUNK_ROWS="10")


@pytest_asyncio.fixture(loop_scope="session")
async def partner(client: httpx.AsyncClient, callers: Callers) -> Partner:
    """A chain with a company of its own."""
    return await a_partner(client, callers)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def receiver(callers: Callers) -> Side:
    """A shelter."""
    return await a_side(callers, "receiver")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def donor(callers: Callers) -> Side:
    """A donor."""
    return await a_side(callers, "donor")


@pytest_asyncio.fixture(loop_scope="session")
async def steps(client: httpx.AsyncClient, receiver: Side, donor: Side) -> Steps:
    """What receiver and donor do."""
    return Steps(client, receiver, donor)


@pytest.fixture(scope="session")
def grounds() -> Grounds:
    """Where tests of matching put their places."""
    return Grounds()
