"""Every route answers whatever a client sends as its OpenAPI document says, and never with a server error."""

from __future__ import annotations

import asyncio

from chassis.testing import Callers, LiveService
from chassis.testing.contract import schemathesis_report


async def test_the_service_keeps_its_contract(live: LiveService, callers: Callers) -> None:
    """Status codes, content types and bodies are the documented ones; invalid input is refused; nothing is a 500."""
    organization_id = await callers.organization()
    caller = await callers.person(member_of=organization_id, platform_role="admin")

    known = {"query.organization_id": str(organization_id)}
    report = await asyncio.to_thread(schemathesis_report, live, caller.headers, parameters=known, examples=12)

    assert report is None, report
