"""The service under test."""

from __future__ import annotations

import httpx
import pytest
from chassis.testing import Callers

from services.batches.tests.builders import Supply, a_batch

pytest_plugins = ["chassis.testing.plugin"]


@pytest.fixture(scope="session")
def service_name() -> str:
    """Which service these tests are of."""
    return "batches"


@pytest.fixture
async def supply(client: httpx.AsyncClient, callers: Callers) -> Supply:
    """A ready batch of this test alone."""
    organization_id = await callers.organization()
    partner = await callers.partner(organization_id)
    body = a_batch(await callers.place(organization_id))
    batch = (await client.post("/v1/batches", json=body, headers=partner.headers)).json()
    await client.post(f"/v1/batches/{batch['id']}/ready", json={}, headers=partner.headers)
    return Supply(batch, partner.headers)
