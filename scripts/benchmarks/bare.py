"""The floor of `bench api`: the least FastAPI and asyncpg that does the same inserts and selects, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import uvicorn
from fastapi import FastAPI

# The statement that the service itself sends for one new batch with an idempotency key, as one CTE.
CREATE = """WITH e AS (INSERT INTO events (stream_id, version, event_id, type, data, meta, occurred_at)
    VALUES ($1, 1, $2, 'BatchCreated', $3::text::jsonb, '{}', $4)),
b AS (INSERT INTO batches (id, version, state, organization_id, place_id, status, kind, category, product_name, unit, storage,
    pickup_from, pickup_to, total, available, held, in_transit, delivered, lost, created_at)
    VALUES ($1, 1, $3::text::jsonb, $5, $6, 'producing', $7, $8, $9, $10, $11, $4, $4, $12, $12, 0, 0, 0, 0, $4)),
o AS (INSERT INTO outbox (part, order_key, message_id, exchange, routing_key, headers, body, created_at)
    VALUES ($13, $1, $2, 'evt.batches', 'batch.created.v1', '{}', $14, $4)),
k AS (INSERT INTO idempotency_keys (scope, fingerprint, answer) VALUES ($15, $15, $14)),
t AS (INSERT INTO timers (id, due_at, dedupe_key, payload) VALUES ($2, $16, $17, '{"kind": "expire-batch"}'))
SELECT 1"""
ONE = "SELECT * FROM batches WHERE id = $1"
LIST = "SELECT * FROM batches WHERE organization_id = $1 ORDER BY id DESC LIMIT 51"


@asynccontextmanager
async def _pool(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["VAJ_DATABASE_URL"], min_size=1, max_size=12) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=_pool, openapi_url=None)


@app.get("/livez")
async def livez() -> dict[str, str]:
    """What the gateway asks every few seconds."""
    return {"status": "alive"}


@app.post("/bare/batches", status_code=201)
async def create(body: dict[str, Any]) -> dict[str, Any]:
    """The same rows as the service writes."""
    batch_id, event_id, now, text = uuid4(), uuid4(), datetime.now(UTC), json.dumps(body)
    await app.state.pool.execute(
        CREATE, batch_id, event_id, text, now, UUID(body["organization_id"]), UUID(body["place_id"]), body["kind"],
        body["product"]["category"], body["product"]["name"], body["unit"], body["storage"], body["quantity"],
        batch_id.int % 64, text.encode(), os.urandom(32), datetime.fromisoformat(body["use_by_at"]), f"bare:{batch_id}",
    )  # fmt: skip
    return {"id": batch_id, "status": "producing", **body}


@app.get("/bare/batches/{batch_id}")
async def one(batch_id: UUID) -> dict[str, Any]:
    """A batch by key."""
    return _view(await app.state.pool.fetchrow(ONE, batch_id))


@app.get("/bare/batches")
async def many(organization_id: UUID) -> dict[str, Any]:
    """A page of batches."""
    return {"items": [_view(row) for row in await app.state.pool.fetch(LIST, organization_id)][:50]}


def _view(row: Any) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "state"}


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(os.environ["BARE_PORT"]), loop="uvloop", http="httptools", access_log=False
    )
