"""A catalogue through workers that are killed every few seconds and a broker restart; then the table must be the fold.

`python -m scripts.loads_chaos --rows 1000000 [--every 3]` on servers of its own; exits 1 unless every product and every
counter is as computed from the rows alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from chassis.database import Database
from chassis.testing import Callers, LiveService, service_environment
from chassis.testing.live import free_port

from scripts.benchmarks.loads import catalogue_line, new_cnpj
from scripts.chaos import killed_and_back
from scripts.databases import declared, fresh_database
from scripts.stack import REPOSITORY, Stack

WORKERS = 2
TWICE_EVERY, BROKEN_EVERY = 100, 1000  # rows that come again with another price, and rows that are no products
SETTLE_S = 1800.0
LOOK_S = 0.2
MIB = 1 << 20
_TABLE = "SELECT key, price_cents, stock, active FROM products WHERE cnpj = $1"


@dataclass
class Sent:
    """The rows, and what must come of them."""

    path: Path
    products: dict[str, tuple[int, int]] = field(default_factory=dict)
    rows: int = 0
    rejected: int = 0

    def write(self, count: int) -> None:
        """A million products, some twice, some broken: key, price and stock of each are remembered, the last counts."""
        with self.path.open("wb") as file:
            for number in range(count):
                self._row(file, number, price_cents=100 + number % 9973)
                if number % TWICE_EVERY == 0:
                    self._row(file, number // 2, price_cents=7)
                if number % BROKEN_EVERY == 0:
                    file.write(b'{"sku":"B","name":"x","price_cents":-1,"stock":1}\n')
                    self.rows, self.rejected = self.rows + 1, self.rejected + 1

    def _row(self, file: Any, number: int, *, price_cents: int) -> None:
        line, gtin = catalogue_line(number, price_cents=price_cents)
        file.write(line)
        self.rows += 1
        self.products[gtin] = (price_cents, number % 311)

    async def body(self) -> AsyncIterator[bytes]:
        """The file, piece by piece."""
        with self.path.open("rb") as file:
            while piece := file.read(MIB):
                yield piece


@dataclass
class ChaosOfLoads:
    """One load while its workers die."""

    stack: Stack
    environment: dict[str, str]
    every_s: float
    kills: int = 0
    broker_restarts: int = 0

    def __post_init__(self) -> None:
        self.api = LiveService("resources", self.environment, role="api")
        self.workers = [LiveService("resources", self.environment | _ports(), role="worker") for _ in range(WORKERS)]

    async def run(self, sent: Sent) -> list[str]:
        """What is wrong at the end; nothing when all is as computed."""
        database = Database(self.environment["VAJ_DATABASE_URL"])
        await database.open()
        for process in (self.api, *self.workers):
            await process.start_soon()
        try:
            async with httpx.AsyncClient(base_url=self.api.url, timeout=120) as client:
                load, cnpj = await self._loaded(client, Callers(database), sent)
            return [*_counters(load, sent), *await _table(database, cnpj, sent)]
        finally:
            await database.close()
            for process in (self.api, *self.workers):
                process.kill()

    async def _loaded(self, client: httpx.AsyncClient, callers: Callers, sent: Sent) -> tuple[dict[str, Any], str]:
        cnpj = new_cnpj()
        caller = await callers.partner(await callers.organization(kinds=["partner"]), cnpjs=[cnpj])
        told = {"X-Load-Type": "FULL", "X-CNPJ": cnpj, "Content-Type": "application/x-ndjson", **caller.headers}
        answer = await client.post("/v1/catalogue-loads", content=sent.body(), headers=told)
        answer.raise_for_status()
        killing = asyncio.create_task(self._kill())
        restarting: asyncio.Task[None] | None = None
        deadline, shown = time.monotonic() + SETTLE_S, ""
        try:
            while time.monotonic() < deadline:
                load = (await client.get(answer.headers["Location"], headers=caller.headers)).json()
                where = f"{load['status']}: {load['rows']['total']:,} rows read, {load['rows']['processed']:,} applied"
                if where != shown and int(time.monotonic()) % 5 == 0:
                    shown = where
                    print(f"  {where}; kills {self.kills}", flush=True)
                if restarting is None and load["rows"]["processed"] > sent.rows / 2:
                    restarting = asyncio.create_task(self._restart_broker())
                if load["status"] in ("applied", "applied_with_errors", "failed", "rejected", "awaiting_confirmation"):
                    if restarting is not None:
                        await restarting
                    return load, cnpj
                await asyncio.sleep(LOOK_S)
        finally:
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
        raise RuntimeError("the load did not end in time")

    async def _kill(self) -> None:
        """One of them at every beat, whether it is up again or still starting."""
        dead = [asyncio.Event() for _ in self.workers]
        async with asyncio.TaskGroup() as group:
            for worker, event in zip(self.workers, dead, strict=True):
                group.create_task(_back_again(worker, event))
            for worker, event in itertools.cycle(zip(self.workers, dead, strict=True)):
                await asyncio.sleep(self.every_s)
                worker.kill()
                event.set()
                self.kills += 1

    async def _restart_broker(self) -> None:
        await killed_and_back(self.stack, "rabbitmq")
        self.broker_restarts += 1


async def _back_again(worker: LiveService, dead: asyncio.Event) -> None:
    """Start a worker each time it was killed; one that is killed while it starts did not start."""
    while True:
        await dead.wait()
        dead.clear()
        with contextlib.suppress(RuntimeError):
            await worker.start_soon()


def _counters(load: dict[str, Any], sent: Sent) -> list[str]:
    """Every counter of the load against the rows."""
    wanted = {
        "status": "applied",
        "rows.total": sent.rows,
        "rows.rejected": sent.rejected,
        "rows.duplicates": sent.rows - sent.rejected - len(sent.products),
        "result.inserted": len(sent.products),
        "result.updated": 0,
        "result.unchanged": 0,
        "result.deactivated": 0,
        "result.failed_chunks": 0,
    }
    found = {name: _at(load, name) for name in wanted}
    for name, value in found.items():
        print(f"  {name:24} {value:>12}  computed {wanted[name]:>12}")
    return [f"{name} is {found[name]}, not {wanted[name]}" for name in wanted if found[name] != wanted[name]]


def _at(load: Any, name: str) -> Any:
    for part in name.split("."):
        load = load[part]
    return load


async def _table(database: Database, cnpj: str, sent: Sent) -> list[str]:
    """The products against the last row of each key."""
    rows = await database.pool.fetch(_TABLE, cnpj)
    found = {row["key"]: (row["price_cents"], row["stock"]) for row in rows if row["active"]}
    lost, foreign = sent.products.keys() - found.keys(), found.keys() - sent.products.keys()
    wrong = [key for key in found if sent.products.get(key) != found[key]]
    doubled = len(rows) - len({row["key"] for row in rows})
    print(
        f"  table: {len(rows):,} products; lost {len(lost)}, doubled {doubled}, not sent {len(foreign)}, wrong {len(wrong)}"
    )
    return (
        [f"the table differs: {sorted(lost)[:3]} {sorted(foreign)[:3]} {wrong[:3]}"] if lost or wrong or doubled else []
    )


def _ports() -> dict[str, str]:
    return {name: str(free_port()) for name in ("VAJ_API_PORT", "VAJ_OPS_PORT")}


async def run(stack: Stack, *, rows: int, every_s: float) -> int:
    """One run on a stack that is up; 0 when all is as computed."""
    settings = stack.settings
    async with fresh_database(settings["VAJ_DATABASE_ADMIN_URL"], "chaos_loads", "resources") as url:
        with tempfile.TemporaryDirectory(dir=stack.home) as folder:
            environment = service_environment(
                url, settings["VAJ_BROKER_URL"], settings["VAJ_REDIS_URL"],
                VAJ_OBJECT_STORE_URL=(Path(folder) / "objects").as_uri(),
            )  # fmt: skip
            await declared("resources", environment)
            sent = Sent(Path(folder) / "catalogue.ndjson")
            sent.write(rows)
            chaos, began = ChaosOfLoads(stack, environment, every_s), time.monotonic()
            wrong = await chaos.run(sent)
    print(f"kills {chaos.kills}, broker restarts {chaos.broker_restarts}, {time.monotonic() - began:.0f} s", flush=True)
    for each in wrong:
        print(each)
    print("ok" if not wrong else "FAILED")
    return 1 if wrong else 0


def main() -> int:
    """0 when no row was lost or doubled and every counter is right."""
    parser = argparse.ArgumentParser(prog="scripts/chaos --loads", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between kills")
    told = parser.parse_args()
    stack = Stack(REPOSITORY / ".local/chaos")
    stack.down()
    shutil.rmtree(stack.home, ignore_errors=True)
    try:
        stack.up(infrastructure_only=True)
        return asyncio.run(run(stack, rows=told.rows, every_s=told.every))
    finally:
        stack.down()


if __name__ == "__main__":
    sys.exit(main())
