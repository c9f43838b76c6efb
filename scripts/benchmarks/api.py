"""`bench api`: create, by key and list through Traefik, against a bare app doing the same inserts and selects."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from chassis.database import Database
from chassis.testing import Callers, LiveService, free_port

from scripts.benchmarks.load import Call, rate
from scripts.benchmarks.report import Target, compared, show
from scripts.stack import REPOSITORY, Stack

HOME = REPOSITORY / ".local" / "bench"
ROUNDS = 5
SECONDS = 4
OPEN_LIMITS = {
    "VAJ_RATE_PER_MINUTE": "100000000",
    "VAJ_GATEWAY_RATE_PER_S": "1000000",
    "VAJ_GATEWAY_RATE_BURST": "1000000",
}
BARE_ROUTE = """http:
  routers:
    bare: {priority: 100, service: bare, rule: "PathPrefix(`/bare/`)"}
  services:
    bare:
      middlewares: [too-large]
      failover: {service: admission, fallback: bare-guarded, errors: {status: ["200"], maxRequestBodyBytes: 1048576}}
    bare-guarded:
      middlewares: [unreachable]
      failover: {service: bare-server, fallback: unavailable, healthCheck: {}}
    bare-server:
      loadBalancer:
        strategy: p2c
        serversTransport: services
        healthCheck: {path: /livez, interval: 5s, timeout: 2s}
        servers: [{url: "http://127.0.0.1:%d"}]
"""


def a_batch(place_id: str) -> dict[str, Any]:
    """What is created over and over."""
    now = datetime.now(UTC)
    return {
        "place_id": place_id,
        "kind": "food",
        "product": {"name": "Arroz branco tipo 1, pacote de 5 kg", "category": "dry"},
        "unit": "g",
        "quantity": 500_000,
        "storage": "ambient",
        "use_by_at": (now + timedelta(days=90)).isoformat(),
        "pickup_window": {"from": now.isoformat(), "to": (now + timedelta(hours=8)).isoformat()},
    }


def run() -> list[Target]:
    """Bring up what is needed, measure, take it down."""
    stack = Stack(HOME, caller={**os.environ, **OPEN_LIMITS})
    stack.up(services=["batches"])
    try:
        with _bare(stack):
            return asyncio.run(_measure(stack))
    finally:
        stack.down()


@contextmanager
def _bare(stack: Stack) -> Iterator[None]:
    port = free_port()
    environment = {**os.environ, "BARE_PORT": str(port), "VAJ_DATABASE_URL": stack.settings["VAJ_BATCHES_DATABASE_URL"]}
    process = subprocess.Popen([sys.executable, Path(__file__).with_name("bare.py")], env=environment)
    route = stack.home / "traefik" / "dynamic" / "bare.yaml"
    route.write_text(BARE_ROUTE % port, encoding="utf-8")
    try:
        yield
    finally:
        route.unlink()
        process.terminate()
        process.wait()


async def _measure(stack: Stack) -> list[Target]:
    database = Database(stack.settings["VAJ_BATCHES_DATABASE_URL"])
    await database.open()
    await _bind_a_reader(stack)
    callers = Callers(database)
    organization_id = await callers.organization()
    place_id = await callers.place(organization_id)
    partner = await callers.partner(organization_id)
    await database.close()
    public, body = stack.settings["VAJ_PUBLIC_URL"], a_batch(str(place_id))
    bare_body = body | {"organization_id": str(organization_id)}
    async with httpx.AsyncClient(base_url=public, headers=partner.headers, timeout=30) as client:
        batches = [(await client.post("/v1/batches", json=body)).json() for _ in range(60)]
        await _answers(client, "/bare/batches?organization_id=" + str(organization_id))
    batch_id, tail = batches[0]["id"], f"?organization_id={organization_id}"
    pairs = {
        "create batch": (
            Call(f"{public}/v1/batches", partner.headers, 201, body, keyed=True),
            Call(f"{public}/bare/batches", {}, 201, bare_body),
        ),
        "batch by key": (
            Call(f"{public}/v1/batches/{batch_id}", partner.headers),
            Call(f"{public}/bare/batches/{batch_id}", {}),
        ),
        "list of 50": (Call(f"{public}/v1/batches{tail}", partner.headers), Call(f"{public}/bare/batches{tail}", {})),
    }
    targets = [_interleaved(name, *pair) for name, pair in pairs.items()]
    return [*targets, _sampling(stack, partner.headers, f"/v1/batches/{batch_id}")]


def _interleaved(name: str, ours: Call, bare: Call) -> Target:
    for call in (ours, bare):
        rate(call, seconds=1)
    rounds = [(rate(ours, seconds=SECONDS), rate(bare, seconds=SECONDS)) for _ in range(ROUNDS)]
    target = compared(name, [a for a, _ in rounds], [b for _, b in rounds], at_least=0.5)
    show(target)
    return target


def _sampling(stack: Stack, headers: dict[str, str], path: str) -> Target:
    """The same service twice, with 5 % of the requests traced and with none, asked directly."""
    shared = {f"VAJ_{name}": stack.settings[f"VAJ_{key}"] for name, key in _SETTINGS.items()}
    processes = {}
    for ratio in ("0.05", "0"):
        ports = {"VAJ_API_PORT": str(free_port()), "VAJ_OPS_PORT": str(free_port()), "VAJ_HOST": "127.0.0.1"}
        processes[ratio] = LiveService(
            "batches", shared | ports | OPEN_LIMITS | {"VAJ_TRACE_SAMPLE_RATIO": ratio}, role="api"
        )
        processes[ratio].start()
    try:
        calls = {ratio: Call(process.url + path, headers) for ratio, process in processes.items()}
        for call in calls.values():
            rate(call, seconds=1)
        rounds = [(rate(calls["0.05"], seconds=SECONDS), rate(calls["0"], seconds=SECONDS)) for _ in range(ROUNDS)]
    finally:
        for process in processes.values():
            process.kill()
    target = compared("tracing 5 % against none", [a for a, _ in rounds], [b for _, b in rounds], at_least=0.85)
    show(target)
    return target


_SETTINGS = {
    "DATABASE_URL": "BATCHES_DATABASE_URL",
    "BROKER_URL": "BROKER_URL",
    "REDIS_URL": "REDIS_URL",
    "SECRET_KEY": "BATCHES_SECRET_KEY",
}


async def _bind_a_reader(stack: Stack) -> None:
    """The other services are not up: somebody must be bound to the exchange, or nothing could leave the outbox."""
    import aio_pika

    async with await aio_pika.connect(stack.settings["VAJ_BROKER_URL"]) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(
            "bench.sink",
            durable=True,
            arguments={"x-queue-type": "quorum", "x-max-length": 1000, "x-overflow": "drop-head"},
        )
        exchange = await channel.declare_exchange("evt.batches", aio_pika.ExchangeType.TOPIC, durable=True)
        await queue.bind(exchange, "#")


async def _answers(client: httpx.AsyncClient, path: str) -> None:
    deadline = time.monotonic() + 20
    while (await client.get(path)).status_code != 200:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} does not answer through the gateway")
        await asyncio.sleep(0.2)
