"""The main job through the gateway: goods reach a shelter, and everybody who should know knows."""

from __future__ import annotations

import importlib
import json
import mailbox
import secrets
from pathlib import Path
from typing import Any

import httpx

people = importlib.import_module("people")
eventually = people.eventually


async def test_goods_reach_the_shelter_and_everybody_knows(town: Any, receiver: Any, settings: dict[str, str]) -> None:
    """Batch, hold, claim, custody codes at both ends; ledger, inbox, e-mail, dashboard and a signed webhook agree."""
    endpoint = await town.partner.post_soon("/v1/webhook-endpoints", {"url": receiver.url, "event_types": []})
    receiver.secret = endpoint["secret"]
    batch = await town.batch(40)
    delivery = await town.delivery(batch, 25)

    done = await town.carry(delivery)

    assert (done["status"], done["lines"][0]["delivered"]) == ("delivered", 25)

    async def ledger() -> None:
        found = await town.provider.get(f"/v1/batches/{batch['id']}")
        expected = {"total": 40, "available": 15, "held": 0, "in_transit": 0, "delivered": 25, "lost": 0}
        assert found["quantities"] == expected

    async def dashboard() -> None:
        found = await town.shelter.get(f"/v1/analytics/dashboard?organization_id={town.shelter_id}")
        assert [q["delivered"] for q in found["quantities"] if q["unit"] == "portion"] == [25]

    async def inbox() -> None:
        found = await town.shelter.get("/v1/notifications")
        assert any(item["event"]["subject"] == delivery["id"] for item in found["items"])

    async def mail() -> None:
        box = mailbox.Maildir(settings["VAJ_MAILDIR"])
        subjects = {(m["To"] or "", m["Subject"] or "") for m in box}
        assert any(town.shelter.email in to for to, _ in subjects)
        assert any(town.provider.email in to for to, _ in subjects)

    for check in (ledger, dashboard, inbox, mail):
        await eventually(check)
    completed = "vouajudar.deliveries.delivery.completed.v1"
    await eventually(lambda: len(receiver.of(completed, delivery["id"])) == 1)
    assert receiver.unverified == 0
    assert len(receiver.ids) == len(set(receiver.ids))


async def test_one_trace_leads_from_the_request_to_the_webhook(
    town: Any, receiver: Any, settings: dict[str, str]
) -> None:
    """The log line of the POST and the line of the webhook attempt have one trace id; an outsider's is dropped."""
    endpoint = await town.partner.post_soon("/v1/webhook-endpoints", {"url": receiver.url, "event_types": []})
    receiver.secret = endpoint["secret"]
    outside = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    body, request_id = people.a_batch(town.pickup_place), f"trace-{secrets.token_hex(8)}"
    headers = {"X-Request-Id": request_id, "traceparent": outside}
    answer = await town.partner.call("POST", "/v1/batches", body, **headers)
    batch_id = answer.json()["id"]
    created = "vouajudar.batches.batch.created.v1"
    await eventually(lambda: receiver.of(created, batch_id))
    event_id = receiver.of(created, batch_id)[0]["id"]

    def trace_of(log: str, **wanted: str) -> str:
        for line in Path(settings["VAJ_LOGS"], log).read_text().splitlines():
            if line.startswith("{"):
                entry = json.loads(line)
                if all(entry.get(name) == value for name, value in wanted.items()):
                    return str(entry["trace_id"])
        raise AssertionError(f"no line {wanted} in {log}")

    asked = trace_of("batches.log", event="request.served", request_id=request_id)
    attempted: str = await eventually(lambda: trace_of("webhooks.log", event="webhook.attempted", event_id=event_id))
    assert asked == attempted != "a" * 32


async def test_a_revoked_key_stops_working_within_two_seconds(town: Any) -> None:
    """Issued, used, revoked, refused."""
    partner, key_id = await town.world.partner(town.provider, town.provider_id)

    async def works() -> None:
        assert (await partner.call("GET", "/v1/batches")).status_code == 200

    async def refused() -> None:
        assert (await partner.call("GET", "/v1/batches")).status_code == 401

    await eventually(works)
    assert (await town.provider.call("DELETE", f"/v1/api-keys/{key_id}")).status_code == 204

    await eventually(refused, timeout_s=2)


async def test_strangers_find_nothing(town: Any) -> None:
    """What belongs to others is 404 for a signed-in stranger, whatever the route."""
    batch = await town.partner.post_soon("/v1/batches", people.a_batch(town.pickup_place))
    ready = await town.batch(5)
    delivery = await town.delivery(ready, 5)
    await town.carry(delivery)
    stranger = await town.world.person()

    paths = [
        f"/v1/batches/{batch['id']}",
        f"/v1/batches/{batch['id']}/history",
        f"/v1/deliveries/{delivery['id']}",
        f"/v1/deliveries/{delivery['id']}/history",
        f"/v1/deliveries/{delivery['id']}/code?stage=pickup",
        f"/v1/timeline/{delivery['id']}",
        f"/v1/analytics/dashboard?organization_id={town.provider_id}",
    ]
    answers = {path: (await stranger.call("GET", path)).status_code for path in paths}

    assert set(answers.values()) == {404}, answers


async def test_bad_credentials_are_problems_at_the_gateway(public: httpx.AsyncClient) -> None:
    """Every service answers junk in the same shape."""
    for path in (
        "/v1/me",
        "/v1/batches",
        "/v1/deliveries",
        "/v1/resource-requests",
        "/v1/notifications",
        "/v1/webhook-endpoints",
    ):
        answer = await public.get(path, headers={"Authorization": "Bearer junk"})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), path
        assert answer.headers["content-type"] == "application/problem+json"
