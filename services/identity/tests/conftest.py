"""The service under test, and its people signed in as they would be."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from chassis.testing import LiveService

from services.identity.tests.people import People

pytest_plugins = ["chassis.testing.plugin"]


@pytest.fixture(scope="session")
def service_name() -> str:
    """Which service these tests are of."""
    return "identity"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def people(live: LiveService, database_url: str) -> AsyncIterator[People]:
    """Signs people up and in, and makes admins as an operator would."""
    async with httpx.AsyncClient(base_url=live.url, timeout=20) as client:
        yield People(client, database_url)
