"""The partner's webhook endpoint: one for all runs, asleep between them; what was held meanwhile comes with the next."""

from __future__ import annotations

from scripts.demo_run.client import Gateway, Json, Key, Refused
from scripts.demo_run.receiver import Receiver
from scripts.demo_run.state import State

EVENT_TYPES = ["vouajudar.batches.*", "vouajudar.deliveries.*", "vouajudar.resources.*"]
NOT_HERE_YET = ("organization-not-found",)


async def wake(gateway: Gateway, key: Key, receiver: Receiver, known: State) -> str:
    """Have the platform call this process: a new endpoint, or the old one at its new address. Returns its id."""
    slug, url = receiver.address()
    if known.endpoint:
        receiver.know(slug, endpoint_id=known.endpoint["id"], secret=known.endpoint["secret"])
        route = "/v1/webhook-endpoints/{}"
        await gateway.send(key, "PATCH", route, known.endpoint["id"], json={"url": url})
        await gateway.post(key, f"{route}/enable", known.endpoint["id"], json={})
        return known.endpoint["id"]
    body: Json = {"url": url, "event_types": EVENT_TYPES, "description": "demonstração"}
    made = await gateway.post(key, "/v1/webhook-endpoints", json=body, patience=NOT_HERE_YET)
    known.endpoint = {"id": made["id"], "secret": made["secret"]}
    receiver.know(slug, endpoint_id=made["id"], secret=made["secret"])
    return str(made["id"])


async def rest(gateway: Gateway, known: State) -> None:
    """Nobody listens until the next run: messages wait there instead of failing."""
    if known.endpoint:
        try:
            await gateway.post(Key(known.partner_key), "/v1/webhook-endpoints/{}/pause", known.endpoint["id"], json={})
        except Refused as refused:
            if refused.status != 409:  # asleep already
                raise
