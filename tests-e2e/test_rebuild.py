"""Projections are rebuilt from the real producers' event stores while everybody goes on working."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

people = importlib.import_module("people")
eventually = people.eventually


async def test_read_models_and_directory_are_rebuilt_beside_the_traffic(
    town: Any, stack: Any, settings: dict[str, str]
) -> None:
    """Batches are made all the time, the rebuilding and a producing process die on the way; the reconciliation is 0 and 0."""
    made: list[str] = []
    answers: list[int] = []
    over = asyncio.Event()

    async def supply() -> None:
        while not over.is_set():
            made.append((await town.batch(5))["id"])

    async def look() -> None:
        while not over.is_set():
            answers.append((await town.partner.call("GET", "/v1/batches?limit=1")).status_code)
            await asyncio.sleep(0.05)

    for _ in range(10):
        await town.batch(1)
    traffic = [asyncio.create_task(supply()), asyncio.create_task(look())]
    jobs = [await _rebuild(town, "analytics", "events"), await _rebuild(town, "batches", "access")]
    for victim in ("analytics", "resources"):
        await asyncio.to_thread(stack.kill, victim)
        await asyncio.to_thread(stack.await_ready, victim)
    ended = [await _ended(town, job) for job in jobs]
    over.set()
    await asyncio.gather(*traffic)

    assert [job["status"] for job in ended] == ["done", "done"]
    assert [job["done"] == job["total"] > 0 for job in ended] == [True, True]
    assert set(answers) == {200}
    [events] = [each for each in await _projections(town, "analytics") if each["consumer"] == "events"]
    assert [one["name"] for one in events["generations"] if one["status"] == "live"] == ["events.g2"]
    await people.reconciled(settings)
    trail = await town.world.admin.get(f"/v1/timeline/{made[-1]}")
    assert len(trail["items"]) >= 2


async def _rebuild(town: Any, service: str, consumer: str) -> str:
    """The job's address."""
    job = await town.world.admin.post(
        f"/v1/ops/{service}/projections/{consumer}/rebuild", {"reason": "the journey wants it"}
    )
    return f"/v1/ops/{service}/jobs/{job['id']}"


async def _ended(town: Any, job: str) -> Any:
    async def check() -> Any:
        answer = await town.world.admin.call("GET", job)  # its service may be on its way back
        assert answer.status_code == 200
        assert answer.json()["status"] != "running"
        return answer.json()

    return await eventually(check, timeout_s=90)


async def _projections(town: Any, service: str) -> Any:
    return (await town.world.admin.call("GET", f"/v1/ops/{service}/projections")).json()
