"""The floor of `bench loads`: a script that decodes, copies and upserts, and keeps nothing else in mind."""

from __future__ import annotations

import asyncio
import io
import time
from pathlib import Path

import asyncpg
import msgspec
from resources.catalogue.plain import plain

CONNECTIONS = 2
CHUNK_ROWS = 5000
COLUMNS = ("key", "gtin", "name", "brand", "category", "price_cents", "stock", "unit", "storage", "plain_name")
_STAGE = """CREATE TEMPORARY TABLE stage (key text, gtin text, name text, brand text, category text, price_cents bigint,
    stock bigint, unit text, storage text, plain_name text) ON COMMIT DELETE ROWS"""
_SET = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])
_UPSERT = f"""INSERT INTO products_bare AS p (cnpj, {", ".join(COLUMNS)}, active, load_id, changed_at)
SELECT '11222333000181', {", ".join(COLUMNS)}, true, '00000000-0000-0000-0000-000000000001', now() FROM stage ORDER BY key
ON CONFLICT (cnpj, key) DO UPDATE SET {_SET}, active = true
WHERE (p.{", p.".join(COLUMNS[1:])}, p.active) IS DISTINCT FROM (excluded.{", excluded.".join(COLUMNS[1:])}, true)"""


class Row(msgspec.Struct, gc=False):
    """A product as the bench writes it."""

    gtin: str
    name: str
    brand: str
    category: str
    price_cents: int
    stock: int


async def load_bare(url: str, payload: Path) -> float:
    """Seconds that the script takes for the payload, into a table made like the service's own."""
    connections = [await asyncpg.connect(url) for _ in range(CONNECTIONS)]
    try:
        await connections[0].execute("DROP TABLE IF EXISTS products_bare")
        await connections[0].execute("CREATE TABLE products_bare (LIKE products INCLUDING ALL)")
        for connection in connections:
            await connection.execute(_STAGE)
        began = time.monotonic()
        await _all(connections, payload)
        taken = time.monotonic() - began
        await connections[0].execute("DROP TABLE products_bare")
    finally:
        for connection in connections:
            await connection.close()
    return taken


async def _all(connections: list[asyncpg.Connection], payload: Path) -> None:
    chunks: asyncio.Queue[bytes | None] = asyncio.Queue(CONNECTIONS)

    async def work(connection: asyncpg.Connection) -> None:
        while (text := await chunks.get()) is not None:
            async with connection.transaction():
                await connection.copy_to_table("stage", source=io.BytesIO(text), columns=COLUMNS)
                await connection.execute(_UPSERT)

    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(work(connection))
        decode, lines = msgspec.json.Decoder(Row).decode, list[bytes]()
        with payload.open("rb") as file:
            for line in file:
                lines.append(line)
                if len(lines) == CHUNK_ROWS:
                    await chunks.put(_text([decode(each) for each in lines]))
                    lines = []
        if lines:
            await chunks.put(_text([decode(each) for each in lines]))
        for _ in connections:
            await chunks.put(None)


def _text(rows: list[Row]) -> bytes:
    return "".join([
        f"{r.gtin}\t{r.gtin}\t{r.name}\t{r.brand}\t{r.category}\t{r.price_cents}\t{r.stock}\tunit\tambient\t{plain(r.name)}\n" for r in rows
    ]).encode()  # fmt: skip
