"""`bench path`: from the 201 of a batch to its webhook at a partner's endpoint, at 50 batches a second."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from typing import Any

import httpx
from aiohttp import web
from chassis.database import Database
from chassis.testing import Callers, free_port
from chassis.testing.callers import Caller

from scripts.benchmarks.api import HOME, OPEN_LIMITS, a_batch
from scripts.benchmarks.report import Target, bounded, show
from scripts.stack import Stack

PER_S = 50
WARM_UP = 100
MEASURED = 1_000
SETTLE_S = 20


def run() -> list[Target]:
    """The whole stack, one endpoint, a steady stream of batches."""
    stack = Stack(HOME, caller={**os.environ, **OPEN_LIMITS})
    stack.up()
    try:
        lags_s = asyncio.run(_measure(stack))
    finally:
        stack.down()
    cuts = statistics.quantiles(lags_s, n=100)
    targets = [
        bounded("201 → webhook received, p50", cuts[49] * 1000, at_most=50, unit="ms"),
        bounded("201 → webhook received, p95", cuts[94] * 1000, at_most=150, unit="ms"),
    ]
    for target in targets:
        show(target)
    return targets


async def _measure(stack: Stack) -> list[float]:
    partner, place_id = await _known(stack)
    received: dict[str, float] = {}
    port = free_port()
    runner = await _receiver(received, port)
    async with httpx.AsyncClient(
        base_url=stack.settings["VAJ_PUBLIC_URL"],
        headers=partner.headers,
        timeout=30,
        limits=httpx.Limits(max_connections=32),
    ) as client:
        answer = await client.post(
            "/v1/webhook-endpoints", json={"url": f"http://127.0.0.1:{port}/", "event_types": []}
        )
        answer.raise_for_status()
        created = await _stream(client, a_batch(place_id))
        deadline = time.monotonic() + SETTLE_S
        while not created.keys() <= received.keys() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
    await runner.cleanup()
    missing = created.keys() - received.keys()
    if missing:
        raise RuntimeError(f"{len(missing)} of {len(created)} webhooks did not come")
    return [max(0.0, received[batch_id] - at) for batch_id, at in created.items()][WARM_UP:]


async def _known(stack: Stack) -> tuple[Caller, str]:
    databases = [Database(stack.settings[f"VAJ_{name}_DATABASE_URL"]) for name in ("BATCHES", "WEBHOOKS")]
    for database in databases:
        await database.open()
    callers = Callers(*databases)
    organization_id = await callers.organization()
    place_id = await callers.place(organization_id)
    partner = await callers.partner(organization_id)
    for database in databases:
        await database.close()
    return partner, str(place_id)


async def _receiver(received: dict[str, float], port: int) -> web.AppRunner:
    async def take(request: web.Request) -> web.Response:
        envelope: dict[str, Any] = json.loads(await request.read())
        received.setdefault(envelope["subject"], time.monotonic())
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


async def _stream(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, float]:
    """Create batches at a steady pace, whatever the answers take; when each 201 was here, by batch id."""
    created: dict[str, float] = {}

    async def create() -> None:
        answer = await client.post("/v1/batches", json=body)
        created[answer.json()["id"]] = time.monotonic()

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(WARM_UP + MEASURED):
            await asyncio.sleep(max(0.0, began + number / PER_S - time.monotonic()))
            group.create_task(create())
    return created
