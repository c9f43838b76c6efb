"""Every route answers whatever a client sends as its OpenAPI document says, and never with a server error."""

from __future__ import annotations

import asyncio

import httpx
from chassis.testing import LiveService
from chassis.testing.contract import schemathesis_report
from notifications.domain import unsubscribe_token

from services.notifications.tests.people import People


async def test_the_service_keeps_its_contract(live: LiveService, client: httpx.AsyncClient, people: People) -> None:
    """Status codes, content types and bodies are the documented ones; invalid input is refused; nothing is a 500."""
    journey = await people.journey()
    event_id = await people.claimed(journey)
    await people.until_told(event_id)
    inbox = await client.get("/v1/notifications", headers=journey.manager.headers)
    known = {
        "path.notification_id": inbox.json()["items"][0]["id"],
        "path.token": unsubscribe_token(b"k" * 32, journey.manager.id),
    }

    report = await asyncio.to_thread(schemathesis_report, live, journey.manager.headers, parameters=known)

    assert report is None, report
