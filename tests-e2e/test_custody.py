"""Custody through the gateway: a load is shared, a handover has no network, and a recall finds every part."""

from __future__ import annotations

import importlib
import secrets
from datetime import UTC, datetime
from typing import Any

people = importlib.import_module("people")
eventually = people.eventually


async def test_a_shared_load_is_traced_to_the_last_part(town: Any) -> None:
    """Two volunteers share a delivery, one pickup comes by queue; the ledger holds, and the recall finds both parts."""
    first, second = town.volunteer, await town.world.volunteer()
    batch = await town.batch(40)
    delivery = await town.delivery(batch, 25)
    path = f"/v1/deliveries/{delivery['id']}"
    ten = [{"line_id": delivery["lines"][0]["line_id"], "quantity": 10}]

    mine = await first.post_soon(f"{path}/claim", {"lines": ten})
    rest = await second.get(f"/v1/deliveries/{mine['sibling_ids'][0]}")
    brought = await town.carry(rest, second)
    code = (await first.get(f"{path}/code?stage=pickup"))["code"]
    picked = {"code": code, "lines": [{"line_id": ten[0]["line_id"], "picked": 10}]}
    queue = {"commands": [queued(f"{path}/pickup", picked)]}
    given, again = await town.provider.post("/v1/sync", queue), await town.provider.post("/v1/sync", queue)

    assert [line["planned"] for line in (*mine["lines"], *rest["lines"])] == [10, 15]
    assert (brought["status"], given["results"][0]["body"]["status"]) == ("delivered", "in_transit")
    assert (again["results"][0]["replayed"], again["results"][0]["status"]) == (True, 200)

    async def ledger() -> None:
        found = await town.provider.get(f"/v1/batches/{batch['id']}")
        expected = {"total": 40, "available": 15, "held": 0, "in_transit": 10, "delivered": 15, "lost": 0}
        assert found["quantities"] == expected

    await eventually(ledger)
    await town.provider.post(f"/v1/batches/{batch['id']}/recall", {"severity": "critical", "reason": "listeria"})

    async def stopped() -> None:
        assert (await first.get(path))["status"] == "rerouting"

    async def told() -> None:
        for volunteer in (first, second):
            inbox = (await volunteer.get("/v1/notifications"))["items"]
            assert any(item["event"]["subject"] == batch["id"] for item in inbox)

    for check in (stopped, told):
        await eventually(check)
    holders = (await town.provider.get(f"/v1/batches/{batch['id']}/trace"))["items"]
    assert {(part["where"], part["quantity"], part["volunteer_id"] or part["place_id"]) for part in parts(holders)} == {
        ("in_transit", 10, first.id), ("delivered", 15, town.receiving_place),
    }  # fmt: skip
    calendar = await first.call("GET", "/v1/me/deliveries.ics")
    assert calendar.headers["content-type"].startswith("text/calendar")
    assert f"UID:{delivery['id']}@vouajudar.org" in calendar.text


def queued(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A command as an app keeps it until there is a network."""
    return {
        "id": secrets.token_hex(8),
        "idempotency_key": secrets.token_hex(16),
        "path": path,
        "body": body,
        "client_time": datetime.now(UTC).isoformat(),
    }


def parts(holders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every part of every holder."""
    return [part for holder in holders for part in holder["parts"]]
