"""Databases that benches and chaos fill: empty ones of a service's or the chassis's tables, dropped when they are done with."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg
from chassis.migrate import migrate


@asynccontextmanager
async def fresh_database(admin_url: str, name: str, package: str) -> AsyncIterator[str]:
    """The address of one with the tables of `package`; what an earlier run left of that name is gone."""
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    url = f"{admin_url.rpartition('/')[0]}/{name}"
    await migrate(url, package)
    try:
        yield url
    finally:
        connection = await asyncpg.connect(admin_url)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


async def declared(service: str, environment: Mapping[str, str]) -> None:
    """The service's schema and queues, as its own `migrate` makes them; raises RuntimeError."""
    command = [sys.executable, "-m", service, "migrate"]
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment})
    if await process.wait() != 0:
        raise RuntimeError(f"{service} could not be prepared")
