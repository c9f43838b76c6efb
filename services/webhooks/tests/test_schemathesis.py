"""Every route answers whatever a client sends as its OpenAPI document says, and never with a server error."""

from __future__ import annotations

import asyncio

import httpx
from chassis.testing import Callers, LiveService
from chassis.testing.contract import schemathesis_report


async def test_the_service_keeps_its_contract(live: LiveService, client: httpx.AsyncClient, callers: Callers) -> None:
    """Status codes, content types and bodies are the documented ones; invalid input is refused; nothing is a 500."""
    organization_id = await callers.organization()
    caller = await callers.person(member_of=organization_id)
    body = {"url": "http://127.0.0.1:9/hook", "organization_id": str(organization_id), "ed25519": True}
    endpoint = (await client.post("/v1/webhook-endpoints", json=body, headers=caller.headers)).json()
    message = (await client.post(f"/v1/webhook-endpoints/{endpoint['id']}/test", headers=caller.headers)).json()

    span = {"since": endpoint["created_at"]}
    job = await client.post(f"/v1/webhook-endpoints/{endpoint['id']}/recover", json=span, headers=caller.headers)

    known = {"path.endpoint_id": endpoint["id"], "path.message_id": message["id"], "path.job_id": job.json()["id"]}
    report = await asyncio.to_thread(schemathesis_report, live, caller.headers, parameters=known)

    assert report is None, report
