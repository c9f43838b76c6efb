"""Every route answers whatever a client sends as its OpenAPI document says, and never with a server error."""

from __future__ import annotations

import asyncio

import httpx
from chassis.testing import Callers, LiveService
from chassis.testing.contract import schemathesis_report

from services.batches.tests.builders import a_batch


async def test_the_service_keeps_its_contract(live: LiveService, client: httpx.AsyncClient, callers: Callers) -> None:
    """Status codes, content types and bodies are the documented ones; invalid input is refused; nothing is a 500."""
    organization_id = await callers.organization()
    caller = await callers.person(member_of=organization_id, platform_role="admin")
    body = a_batch(await callers.place(organization_id))
    batch = (await client.post("/v1/batches", json=body, headers=caller.headers)).json()

    known = {"path.batch_id": batch["id"]}
    report = await asyncio.to_thread(schemathesis_report, live, caller.headers, parameters=known)

    assert report is None, report
