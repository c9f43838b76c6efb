"""Every route answers whatever a client sends as its OpenAPI document says, and never with a server error."""

from __future__ import annotations

import asyncio

import httpx
from chassis.testing import Callers, LiveService
from chassis.testing.contract import schemathesis_report

from services.resources.tests.builders import Side, Steps, join

PAYLOADS = "^/v1/(catalogue-loads|inovafarma/products)$"


async def test_the_service_keeps_its_contract(
    live: LiveService, client: httpx.AsyncClient, callers: Callers, receiver: Side, donor: Side
) -> None:
    """Status codes, content types and bodies are the documented ones; invalid input is refused; nothing is a 500."""
    caller = await callers.person(member_of=receiver.organization_id, platform_role="admin")
    await join(callers, caller, donor.organization_id)
    steps = Steps(client, receiver, donor)
    request = await steps.opened()
    reservation = await steps.reserved(request, 1)

    known = {"path.request_id": request["id"], "path.reservation_id": reservation["id"]}
    report = await asyncio.to_thread(
        schemathesis_report, live, caller.headers, parameters=known, examples=10, read_later=PAYLOADS
    )

    assert report is None, report
