"""`bench loads`: a million products from the first byte to applied, against a script that does nothing but decode and upsert.

The service is one process (`all`) before servers of its own, asked directly. The floor reads the same file with msgspec,
copies over two connections and runs the same upsert into a table with the same indexes. `VAJ_BENCH_ROWS` makes all of it
smaller, to try it out.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvloop
from chassis.broker import declare_topology
from chassis.database import Database
from chassis.testing import Callers, LiveService, service_environment
from chassis.testing.callers import Caller
from contracts.values import cnpj_is_valid, gtin_is_valid

from scripts.benchmarks.api import HOME
from scripts.benchmarks.loads_floor import load_bare
from scripts.benchmarks.report import Target, bounded, show
from scripts.databases import declared, fresh_database
from scripts.stack import Stack

ROWS = int(os.environ.get("VAJ_BENCH_ROWS", "1000000"))
PRESENT = 10 * ROWS  # products of others that are there when it is asked whether a full table is slower
PARTNERS = 10
BODY_BYTES = 200 * 1024 * 1024
SETTLE_S = 600
MIB = 1024 * 1024
CATEGORIES = ("dry", "beverage", "dairy", "hygiene", "cleaning", "medicine", "baby", "pet")
WORDS = (
    "Arroz",
    "Feijão",
    "Açúcar",
    "Café",
    "Leite",
    "Óleo",
    "Macarrão",
    "Farinha",
    "Sabão",
    "Biscoito",
    "Molho",
    "Água",
)
BRANDS = ("Tio João", "Camil", "União", "Pilão", "Italac", "Soya", "Renata", "Dona Benta", "Ypê", "Bauducco")
_FILL = """INSERT INTO products (cnpj, key, gtin, name, brand, category, price_cents, stock, unit, storage, plain_name, active,
    load_id, changed_at)
SELECT $1, lpad(n::text, 14, '0'), NULL, 'Produto ' || n || ' ' || substr(md5(n::text), 1, 12), NULL, 'dry', n % 100000, n % 500,
    'unit', 'ambient', 'produto ' || n, true, gen_random_uuid(), now() FROM generate_series($2::bigint, $3::bigint) AS n"""


def run() -> list[Target]:
    """Servers alone; the service is started once they are prepared."""
    stack = Stack(HOME, caller=os.environ)
    stack.up(infrastructure_only=True)
    try:
        return uvloop.run(_measure(stack.settings))
    finally:
        stack.down()


@dataclass
class Bench:
    """The service, a client of it, and its database."""

    live: LiveService
    client: httpx.AsyncClient
    callers: Callers
    database: Database

    async def company(self) -> tuple[Caller, str]:
        """A partner with a company of its own."""
        cnpj = new_cnpj()
        return await self.callers.partner(await self.callers.organization(kinds=["partner"]), cnpjs=[cnpj]), cnpj

    async def load(self, caller: Caller, cnpj: str, body: Callable[[], AsyncIterator[bytes]]) -> float:
        """Seconds from the first byte sent to applied."""
        began = time.monotonic()
        headers = {"X-Load-Type": "FULL", "X-CNPJ": cnpj, "Content-Type": "application/x-ndjson", **caller.headers}
        answer = await self.client.post("/v1/catalogue-loads", content=body(), headers=headers)
        answer.raise_for_status()
        while time.monotonic() < began + SETTLE_S:
            found = (await self.client.get(answer.headers["Location"], headers=caller.headers)).json()
            if found["status"] == "applied":
                return time.monotonic() - began
            if found["status"] not in ("received", "validating", "ready", "applying"):
                raise RuntimeError(f"the load is {found}")
            await asyncio.sleep(0.05)
        raise RuntimeError("the load was not applied in time")


async def _measure(settings: dict[str, str]) -> list[Target]:
    with tempfile.TemporaryDirectory() as folder:
        payload, small = Path(folder) / "catalogue.ndjson", Path(folder) / "small.ndjson"
        _write(payload, ROWS)
        _write(small, ROWS // PARTNERS)
        async with fresh_database(settings["VAJ_DATABASE_ADMIN_URL"], "bench_loads", "resources") as url:
            environment = _environment(settings, url, folder)
            await declared("resources", environment)
            heard = {"all": [("resources", "#")]}  # else nobody hears what is told
            await declare_topology(settings["VAJ_BROKER_URL"], "bench", heard)
            floor = ROWS / await load_bare(url, payload)
            return [*await _loaded(environment, payload, small, floor), await _api_memory(environment)]


async def _loaded(environment: dict[str, str], payload: Path, small: Path, floor: float) -> list[Target]:
    targets: list[Target] = []
    async with _begun(environment) as bench:
        for part in (_fast, _many, _full_table):
            targets += await part(bench, payload, small, floor)
        targets.append(bounded("worker, most memory", _memory(bench.live, "VmHWM") / MIB, at_most=250, unit="MiB"))
        show(targets[-1])
    return targets


async def _fast(bench: Bench, payload: Path, _: Path, floor: float) -> list[Target]:
    caller, cnpj = await bench.company()
    first = ROWS / await bench.load(caller, cnpj, _sent(payload))
    again = ROWS / await bench.load(caller, cnpj, _sent(payload, tail=b"\n"))
    found = [
        Target("first FULL against the bare script", first, "rows/s", floor, 0.6, at_least=True),
        Target("first FULL", first, "rows/s", 30_000, 1.0, at_least=True),
        Target("the same FULL again against the first", again, "rows/s", first, 1.5, at_least=True),
    ]
    for target in found:
        show(target)
    return found


async def _many(bench: Bench, payload: Path, small: Path, _: float) -> list[Target]:
    """One partner with all rows, then ten with a tenth each at once."""
    one = await bench.load(*await bench.company(), _sent(payload, tail=b"\n\n"))
    partners = [await bench.company() for _ in range(PARTNERS)]
    began = time.monotonic()
    await asyncio.gather(*(bench.load(caller, cnpj, _sent(small)) for caller, cnpj in partners))
    taken = time.monotonic() - began
    target = Target(f"{PARTNERS} partners at once against one", taken, "s", one, 1.3, at_least=False)
    show(target)
    return [target]


async def _full_table(bench: Bench, _: Path, small: Path, __: float) -> list[Target]:
    """A tenth of the rows while few products are there, and while very many are."""
    few = await bench.load(*await bench.company(), _sent(small, tail=b"\n"))
    other, step = new_cnpj(), 100_000
    for first in range(1, PRESENT + 1, step):
        await bench.database.pool.execute(_FILL, other, first, min(first + step - 1, PRESENT), timeout=600)
    await bench.database.pool.execute("VACUUM ANALYZE products", timeout=1800)
    many = await bench.load(*await bench.company(), _sent(small, tail=b"\n\n\n"))
    rows = ROWS // PARTNERS
    target = Target(f"with {PRESENT:,} products there", rows / many, "rows/s", rows / few, 0.8, at_least=True)
    show(target)
    return [target]


async def _api_memory(environment: dict[str, str]) -> Target:
    """What a process that only takes in grows by while it takes 200 MB."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(BODY_BYTES // MIB):
            yield b" " * MIB

    async with _begun(environment, role="api") as bench:
        caller, cnpj = await bench.company()
        await bench.client.get("/v1/catalogue-loads", headers=caller.headers)
        before = _memory(bench.live, "VmRSS")
        headers = {"X-Load-Type": "DELTA", "X-CNPJ": cnpj, "Content-Type": "application/x-ndjson", **caller.headers}
        (await bench.client.post("/v1/catalogue-loads", content=body(), headers=headers)).raise_for_status()
        grown = _memory(bench.live, "VmHWM") - before
    target = bounded("api, growth over a body of 200 MB", grown / MIB, at_most=50, unit="MiB")
    show(target)
    return target


def _environment(settings: dict[str, str], url: str, folder: str) -> dict[str, str]:
    return service_environment(
        url, settings["VAJ_BROKER_URL"], settings["VAJ_REDIS_URL"],
        VAJ_OBJECT_STORE_URL=(Path(folder) / "objects").as_uri(), VAJ_LOADS_PER_MINUTE="1000000",
    )  # fmt: skip


@asynccontextmanager
async def _begun(environment: dict[str, str], *, role: str = "all") -> AsyncIterator[Bench]:
    live = LiveService("resources", environment, role=role)
    await live.start_soon()
    database = Database(environment["VAJ_DATABASE_URL"])
    await database.open()
    try:
        async with httpx.AsyncClient(base_url=live.url, timeout=SETTLE_S) as client:
            yield Bench(live, client, Callers(database), database)
    finally:
        await database.close()
        live.kill()


def _memory(live: LiveService, word: str) -> int:
    status = Path(f"/proc/{live.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(word))


def _sent(path: Path, *, tail: bytes = b"") -> Callable[[], AsyncIterator[bytes]]:
    async def pieces() -> AsyncIterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(MIB):
                yield piece
        if tail:
            yield tail

    return pieces


def new_cnpj() -> str:
    """A company that no earlier run knows."""
    return next(_CNPJS)


def _cnpjs() -> Iterator[str]:
    for number in itertools.count(int(time.time()) % 10**7):  # not those of an earlier run that was cut off
        body = f"{number:08d}0001"
        yield next(cnpj for n in range(100) if cnpj_is_valid(cnpj := f"{body}{n:02d}"))


_CNPJS = _cnpjs()


def _write(path: Path, count: int) -> None:
    with path.open("wb") as file:
        for first in range(0, count, 10_000):
            numbers = range(first, min(first + 10_000, count))
            file.write(b"".join(catalogue_line(number, price_cents=100 + number % 9973)[0] for number in numbers))


def catalogue_line(number: int, *, price_cents: int) -> tuple[bytes, str]:
    """A product as a line of JSON, and its GTIN."""
    body = f"789{number:09d}"
    odd, even = (sum(map(int, body[n::2])) for n in (0, 1))
    gtin = f"{body}{-(odd + 3 * even) % 10}"
    name = f"{WORDS[number % 12]} {BRANDS[number // 7 % 10]} {number % 97} g tipo {number % 1013}"
    line = (
        f'{{"gtin":"{gtin}","name":"{name}","brand":"{BRANDS[number // 7 % 10]}","category":"{CATEGORIES[number % 8]}",'
        f'"price_cents":{price_cents},"stock":{number % 311}}}\n'
    )
    return line.encode(), gtin


assert gtin_is_valid(catalogue_line(4242, price_cents=1)[1])  # else every row would be refused, and fast
