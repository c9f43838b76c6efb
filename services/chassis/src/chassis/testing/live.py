"""A service as a real process on free ports, for tests that need one."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import httpx

START_TIMEOUT_S = 30


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def service_environment(database_url: str, broker_url: str, redis_url: str, **extra: str) -> dict[str, str]:
    """The environment that makes a service run against the test infrastructure."""
    return {
        "VAJ_DATABASE_URL": database_url,
        "VAJ_BROKER_URL": broker_url,
        "VAJ_REDIS_URL": redis_url,
        "VAJ_HOST": "127.0.0.1",
        "VAJ_API_PORT": str(free_port()),
        "VAJ_OPS_PORT": str(free_port()),
        "VAJ_SECRET_KEY": base64.urlsafe_b64encode(b"k" * 32).decode(),
        "VAJ_INTERNAL_TOKEN": "internal-token-for-tests-only-0000",
        "VAJ_RATE_PER_MINUTE": "1000000",
        "VAJ_OBJECT_STORE_URL": Path(tempfile.mkdtemp(prefix="objects-")).as_uri(),
        **extra,
    }


class LiveService:
    """`python -m <service> <role>` as a process; `url` is its public address, `ops_url` its internal one."""

    def __init__(self, name: str, environment: dict[str, str], *, role: str = "all") -> None:
        self.name = name
        self._environment = environment
        self._role = role
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{environment['VAJ_API_PORT']}"
        self.ops_url = f"http://127.0.0.1:{environment['VAJ_OPS_PORT']}"
        self.log_path = Path(tempfile.mkstemp(prefix=f"{name}-", suffix=".log")[1])

    @property
    def pid(self) -> int:
        """The process that runs now."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    def start(self) -> None:
        """Start and wait until ready; raises RuntimeError with the end of the log."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.name, self._role],
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.name} did not start:\n{self.log_path.read_text()[-4000:]}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.ops_url}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> int:
        """SIGTERM, then wait; returns the exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=30)

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is said."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    async def start_soon(self) -> None:
        """`start` without blocking the loop. What a killed process had leased of the outbox is free: nobody waits for it."""
        if self._process is not None:
            connection = await asyncpg.connect(self._environment["VAJ_DATABASE_URL"])
            for table in ("outbox_leases", "outbox_relays"):
                await connection.execute(f"UPDATE {table} SET until = now() - interval '1 second'")
            await connection.close()
        await asyncio.to_thread(self.start)
