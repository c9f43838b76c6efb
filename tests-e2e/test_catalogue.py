"""A partner's catalogue through the gateway: streamed in, applied, listed, and told by webhook."""

from __future__ import annotations

import gzip
import importlib
import json
from typing import Any

import httpx

people = importlib.import_module("people")
eventually = people.eventually
ROWS = 2_500


def a_payload(count: int) -> bytes:
    """Products with codes of the partner's own."""
    lines = [{"sku": f"S{n:06d}", "name": f"Café {n}", "price_cents": 100 + n, "stock": n % 9} for n in range(count)]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def test_a_catalogue_is_loaded_and_told(town: Any, receiver: Any, public: httpx.AsyncClient) -> None:
    """A FULL becomes products; one that lacks a third waits, is confirmed, deactivates them; each step is a signed webhook."""
    erp = town.partner
    endpoint = await erp.post_soon("/v1/webhook-endpoints", {"url": receiver.url, "event_types": []})
    receiver.secret = endpoint["secret"]
    told = {**erp.headers, "X-Inova-Load-Type": "FULL", "Content-Type": "application/x-ndjson"}

    async def sent(count: int) -> str:
        body = gzip.compress(a_payload(count))
        headers = {**told, "Content-Encoding": "gzip"}

        async def taken() -> str:  # once the service has heard of the key
            answer = await public.post("/v1/inovafarma/products", content=body, headers=headers)
            assert answer.status_code == 202, answer.text
            return str(answer.headers["Location"])

        return str(await eventually(taken))

    async def reaches(where: str, status: str) -> Any:
        async def found() -> Any:
            load = await erp.get(where)
            return load if load["status"] == status else False

        return await eventually(found, timeout_s=60)

    first = await reaches(await sent(ROWS), "applied")
    where = await sent(ROWS * 2 // 3)
    waiting = await reaches(where, "awaiting_confirmation")
    await erp.post(f"{where}/confirm")
    second = await reaches(where, "applied")

    assert first["result"]["inserted"] == ROWS
    assert second["result"]["deactivated"] == waiting["survey"]["missing"] == ROWS - ROWS * 2 // 3
    found = await erp.get("/v1/products?q=cafe%202499&status=inactive")
    assert [each["sku"] for each in found["items"]] == ["S002499"]
    for load, fact in ((first, "ready"), (first, "applied"), (second, "awaiting_confirmation"), (second, "applied")):
        kind = f"vouajudar.resources.catalogue_load.{fact}.v1"
        await eventually(lambda kind=kind, load=load: len(receiver.of(kind, load["id"])) == 1)
    assert receiver.unverified == 0
