"""Every route answers whatever a client sends as its OpenAPI document says, and never with a server error."""

from __future__ import annotations

import asyncio

from chassis.testing import LiveService
from chassis.testing.contract import schemathesis_report

from services.deliveries.tests.builders import World


async def test_the_service_keeps_its_contract(world: World, live: LiveService) -> None:
    """Status codes, content types and bodies are the documented ones; invalid input is refused; nothing is a 500."""
    delivery = await world.opened()

    known = {"path.delivery_id": delivery["id"]}
    report = await asyncio.to_thread(schemathesis_report, live, world.coordinator.headers, parameters=known, examples=6)

    assert report is None, report
