"""What waits for somebody, through the gateway: volunteers are asked, tasks are given, and both are told."""

from __future__ import annotations

import importlib
from typing import Any

people = importlib.import_module("people")
eventually = people.eventually


async def _told(actor: Any, kind: str, subject: str) -> list[Any]:
    """Notifications of a kind that are about something."""
    found = (await actor.get("/v1/notifications?limit=200"))["items"]
    return [item for item in found if item["kind"] == kind and subject in str(item)]


async def test_those_who_can_act_are_asked_and_told(town: Any) -> None:
    """A free volunteer near the pickup is offered an open delivery; its stages give tasks, one after the other."""
    templates = [
        {"key": "pack", "stage": "claimed", "title": "Separar as caixas", "role": "provider_member", "due_minutes": 60,
         "next": "label"},
        {"key": "label", "stage": "claimed", "title": "Etiquetar", "role": "provider_member", "due_minutes": 60},
    ]  # fmt: skip
    wanted = await town.provider.call("PUT", f"/v1/task-templates/{town.provider_id}", {"templates": templates})
    assert wanted.status_code == 200, wanted.text
    neighbour = await town.world.volunteer()
    delivery = await town.delivery(await town.batch(8), 8)

    async def offered() -> bool:
        offers = (await neighbour.get("/v1/offers?mine=true"))["items"]
        return any(offer["delivery_id"] == delivery["id"] and offer["status"] == "offered" for offer in offers)

    await eventually(offered)
    await eventually(lambda: _told(neighbour, "delivery_offered", delivery["id"]))
    reasons = (await town.shelter.get(f"/v1/deliveries/{delivery['id']}/offers"))["items"][0]["reasons"]
    assert reasons["distance_m"] < 5_000

    await neighbour.post_soon(f"/v1/deliveries/{delivery['id']}/claim")
    pack = await eventually(lambda: _task(town.provider, delivery["id"], "pack"))
    await town.provider.post(f"/v1/tasks/{pack['id']}/complete", {"note": "duas caixas"})
    label = await eventually(lambda: _task(town.provider, delivery["id"], "label"))
    assert label["status"] == "open"
    await town.provider.post(f"/v1/deliveries/{delivery['id']}/cancel", {"reason": "chuva"})

    async def closed() -> bool:
        return str((await town.provider.get(f"/v1/tasks/{label['id']}"))["status"]) == "closed"

    await eventually(closed)
    taken = (await neighbour.get("/v1/offers?status=taken"))["items"]
    assert delivery["id"] in {offer["delivery_id"] for offer in taken}


async def _task(actor: Any, delivery_id: str, key: str) -> Any:
    found = (await actor.get(f"/v1/tasks?mine=true&delivery_id={delivery_id}"))["items"]
    return next((task for task in found if task["template_key"] == key), False)
