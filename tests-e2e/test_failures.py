"""Faults in the middle of work: what was promised still happens, once."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

people = importlib.import_module("people")
eventually = people.eventually


async def test_with_identity_stopped_keys_and_people_keep_working(town: Any, stack: Any) -> None:
    """The other services know whom they serve."""
    await town.batch(1)
    await asyncio.to_thread(stack.stop, "identity")
    try:
        by_key = await town.partner.call("GET", "/v1/batches")
        by_person = await town.shelter.call("GET", "/v1/deliveries?mine=true")
        of_identity = await town.shelter.call("GET", "/v1/me")
    finally:
        await asyncio.to_thread(stack.start, "identity")
        await eventually(lambda: town.shelter.get("/v1/me"))  # the gateway sees it a moment later

    assert (by_key.status_code, by_person.status_code) == (200, 200)
    assert of_identity.status_code in (502, 503)
    assert of_identity.headers["content-type"] == "application/problem+json"


async def test_killed_workers_and_a_restarted_broker_lose_and_double_nothing(
    town: Any, stack: Any, receiver: Any, settings: dict[str, str]
) -> None:
    """Deliveries are planned and carried while services die and the broker restarts; the reconciliation is 0 and 0."""
    endpoint = await town.partner.post_soon("/v1/webhook-endpoints", {"url": receiver.url, "event_types": []})
    receiver.secret = endpoint["secret"]
    batch = await town.batch(40)
    carried: list[str] = []

    async def carry(number: int) -> None:
        volunteer = await town.world.volunteer()
        body = {"receiving_place_id": town.receiving_place, "lines": [{"batch_id": batch["id"], "quantity": 2}]}
        planned = await town.shelter.post_soon("/v1/deliveries", body, timeout_s=60)

        async def opened() -> None:
            assert (await town.shelter.get(f"/v1/deliveries/{planned['id']}"))["status"] == "open"

        await eventually(opened, timeout_s=90)
        delivery = await town.shelter.get(f"/v1/deliveries/{planned['id']}")
        await _insist(town, delivery, volunteer)
        carried.append(planned["id"])

    async def break_things() -> None:
        for victim in ("deliveries", "batches", "webhooks", "analytics"):
            await asyncio.to_thread(stack.kill, victim)
            await asyncio.to_thread(stack.await_ready, victim)
        await asyncio.to_thread(stack.restart, "rabbitmq")
        for victim in ("notifications", "resources"):
            await asyncio.to_thread(stack.kill, victim)
            await asyncio.to_thread(stack.await_ready, victim)

    await asyncio.gather(break_things(), *(carry(number) for number in range(10)))

    assert len(carried) == 10

    async def ledger() -> None:
        found = await town.provider.get(f"/v1/batches/{batch['id']}")
        expected = {"total": 40, "available": 20, "held": 0, "in_transit": 0, "delivered": 20, "lost": 0}
        assert found["quantities"] == expected

    await eventually(ledger, timeout_s=60)
    completed = "vouajudar.deliveries.delivery.completed.v1"
    await eventually(lambda: all(receiver.of(completed, one) for one in carried), timeout_s=60)
    await people.reconciled(settings)


async def _insist(town: Any, delivery: Any, volunteer: Any) -> None:
    """Carry a delivery although services disappear now and then: each step is asked for until it is true."""
    path, line = f"/v1/deliveries/{delivery['id']}", delivery["lines"][0]

    async def step(status: str, act: Any) -> None:
        async def reached() -> None:
            try:
                found = await town.shelter.get(path)
                if found["status"] != status:
                    await act()
                    found = await town.shelter.get(path)
            except OSError as error:
                raise AssertionError(repr(error)) from error
            assert found["status"] == status

        await eventually(reached, timeout_s=90)

    async def pick_up() -> None:
        code = (await volunteer.get(f"{path}/code?stage=pickup"))["code"]
        lines = [{"line_id": line["line_id"], "picked": line["planned"]}]
        await town.provider.post(f"{path}/pickup", {"code": code, "lines": lines})

    async def drop_off() -> None:
        code = (await town.shelter.get(f"{path}/code?stage=dropoff"))["code"]
        lines = [{"line_id": line["line_id"], "delivered": line["planned"], "rejected": 0}]
        await volunteer.post(f"{path}/dropoff", {"code": code, "lines": lines})

    await step("claimed", lambda: volunteer.post(f"{path}/claim"))
    await step("in_transit", pick_up)
    await step("delivered", drop_off)
