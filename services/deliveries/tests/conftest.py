"""The service under test."""

from __future__ import annotations

import httpx
import pytest
import pytest_asyncio
from chassis.app import Service
from chassis.database import Database
from chassis.testing import Bus, Callers, Tap
from deliveries.usecases import Following

from services.deliveries.tests.builders import World

pytest_plugins = ["chassis.testing.plugin"]


@pytest.fixture(scope="session")
def service_name() -> str:
    """Which service these tests are of."""
    return "deliveries"


@pytest_asyncio.fixture(loop_scope="session")
async def world(client: httpx.AsyncClient, bus: Bus, tap: Tap, callers: Callers, database: Database) -> World:
    """A provider, a receiver and their people, of this test alone."""
    made = World(client, bus, tap, callers, database)
    await made.settle()
    return made


@pytest.fixture
def following(service: Service) -> Following:
    """How patient the live service is."""
    return Following.of(service.settings)  # type: ignore[arg-type]
