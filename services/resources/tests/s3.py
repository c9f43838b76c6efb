"""An S3 server of our own, in memory, as a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from chassis.testing import eventually
from chassis.testing.live import free_port

BUCKET = "catalogues"


@asynccontextmanager
async def s3_server(log: Path) -> AsyncIterator[str]:
    """Its address, with an empty bucket."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - it only starts here
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=output, stderr=output
        )
    try:
        async with httpx.AsyncClient(base_url=url) as client:

            async def made() -> bool:
                try:
                    return (await client.put(f"/{BUCKET}", headers={"Host": f"127.0.0.1:{port}"})).is_success
                except httpx.TransportError:
                    return False

            await eventually(made, timeout_s=30)
        yield url
    finally:
        process.kill()
        process.wait()


def s3_settings(url: str) -> dict[str, str]:
    """What makes a service keep its objects there."""
    return {
        "VAJ_OBJECT_STORE_URL": f"s3://{BUCKET}/vouajudar",
        "VAJ_OBJECT_STORE_ENDPOINT": url,
        "VAJ_OBJECT_STORE_REGION": "us-east-1",
        "VAJ_OBJECT_STORE_KEY_ID": "test",
        "VAJ_OBJECT_STORE_SECRET": "test-secret",
    }
