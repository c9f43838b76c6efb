"""`bench matching`: one match of a ready batch among 1,000, 10,000 and 50,000 open needs within 20 km of it.

What is needed, how much, how urgently and where comes from the shelters of May 2024 that ship with the project: those
around Porto Alegre, repeated a few hundred metres apart until there are enough.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import uvloop
from chassis.database import Database
from chassis.inbox import keep_partitions
from chassis.kernel import new_id
from chassis.telemetry import in_context, start_context
from resources import repository
from resources.domain import MatchNotFound, cell_of
from resources.repository import KnownBatch
from resources.repository.requests import URGENCIES
from resources.usecases import MATCHING, Policy, batch_ready, call_off, pursue

from scripts.benchmarks.api import HOME
from scripts.benchmarks.report import Target, show
from scripts.databases import fresh_database
from scripts.demo_run import data
from scripts.stack import Stack

SIZES = (1_000, 10_000, 50_000)
ROUNDS, MATCHES, WARM_UP = 5, 60, 20  # matches of one round and size, in turns
AROUND_KM = 18.0  # of Porto Alegre: whatever the batch's place in the centre, every need is within reach or nearly so
JITTER_KM = 0.6
TIMES_AS_SLOW_MAX = 2.0
POLICY = Policy(answer=timedelta(hours=2))

_ORGANIZATIONS = """INSERT INTO access_organizations (organization_id, status, kinds, version)
SELECT o, 'verified', '{provider,receiver}', 1 FROM unnest($1::uuid[]) AS o"""
_PLACES = """INSERT INTO access_places (place_id, organization_id, roles, ibge_city, lat, lon, tz, accepts, people_served, version)
SELECT p, p, '{pickup,receiving}', '4314902', y, x, 'America/Sao_Paulo', '{}', s, 1
FROM unnest($1::uuid[], $2::float8[], $3::float8[], $4::int[]) AS t (p, y, x, s)"""
_REQUESTS = """INSERT INTO resource_requests (id, version, state, organization_id, place_id, status, title, urgency, created_at)
SELECT r, 1, '{}', p, p, 'open', 'Abrigo', u, now() FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS t (r, p, u)"""
_LINES = """INSERT INTO request_lines (request_id, line_id, organization_id, place_id, cell, open, urgency, position, name,
    category, unit, needed, reserved, received)
SELECT r, l, p, p, c, true, u, 0, 'Item', k, m, n, 0, 0
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::smallint[], $6::text[], $7::text[], $8::bigint[])
    AS t (r, l, p, c, u, k, m, n)"""


@dataclass
class Measured:
    """One size: its database, and how long each match took."""

    needs: int
    database: Database
    places: list[UUID]
    taken_s: list[float] = field(default_factory=list)
    candidates: list[int] = field(default_factory=list)


def run() -> list[Target]:
    """The database alone; what is measured is in this process."""
    stack = Stack(HOME, caller=os.environ)
    stack.up(infrastructure_only=True)
    try:
        return uvloop.run(_measure(stack.settings["VAJ_DATABASE_ADMIN_URL"]))
    finally:
        stack.down()


async def _measure(admin_url: str) -> list[Target]:
    async with AsyncExitStack() as opened:
        sizes = [await opened.enter_async_context(_filled(admin_url, needs)) for needs in SIZES]
        wanted = _wanted(WARM_UP + ROUNDS * MATCHES)
        p95s: list[list[float]] = [[] for _ in sizes]
        p50s: list[list[float]] = [[] for _ in sizes]
        for number, batch in enumerate(wanted):
            for size in sizes:
                await _match(size, batch, number)
            if number < WARM_UP:
                for size in sizes:
                    size.taken_s.clear()
            elif (number - WARM_UP) % MATCHES == MATCHES - 1:
                for half, most, size in zip(p50s, p95s, sizes, strict=True):
                    half.append(statistics.median(size.taken_s))
                    most.append(statistics.quantiles(size.taken_s, n=20)[-1])
                    size.taken_s.clear()
        medians = ([statistics.median(column) * 1000 for column in columns] for columns in (p50s, p95s))
        return _lines(sizes, *medians)


def _lines(sizes: Sequence[Measured], p50_ms: Sequence[float], p95_ms: Sequence[float]) -> list[Target]:
    for size, half, most in zip(sizes, p50_ms, p95_ms, strict=True):
        looked_at = statistics.mean(size.candidates)
        print(
            f"  {size.needs:>6,} open needs: p50 {half:>6.1f}, p95 {most:>6.1f} ms a match, {looked_at:>4.0f} candidates looked at"
        )
    name = f"match among {SIZES[-1]:,} needs against {SIZES[0]:,}, p95"
    target = Target(name, p95_ms[-1], "ms", p95_ms[0], TIMES_AS_SLOW_MAX, at_least=False)
    show(target)
    return [target]


# -- one match ---------------------------------------------------------------------------------------------------------


async def _match(size: Measured, wanted: tuple[str, str, int], number: int) -> None:
    """A batch begins its process; the move that proposes it is timed, commit included; then everything is taken back."""
    category, unit, quantity = wanted
    now, batch_id = datetime.now(UTC), new_id()
    batch = KnownBatch(
        batch_id=batch_id,
        version=2,
        organization_id=new_id(),
        place_id=size.places[number % len(size.places)],
        status="ready",
        category=category,
        gtin=None,
        unit=unit,
        product_name="Item",
        use_by_at=now + timedelta(hours=20),
        pickup_from=now,
        pickup_to=now + timedelta(hours=8),
        available=quantity,
    )
    with in_context(start_context()):
        await size.database.pool.execute(_ORGANIZATIONS, [batch.organization_id])
        async with size.database.transaction() as tx:
            await batch_ready(tx, batch, now=now)
        began = time.perf_counter()
        async with size.database.transaction() as tx:
            process = await MATCHING.running(tx, batch_id)
            assert process is not None
            await pursue(POLICY, tx, process, now)
            MATCHING.save(tx, process, now=now)
        size.taken_s.append(time.perf_counter() - began)
        await _take_back(size, batch_id, now)


async def _take_back(size: Measured, batch_id: UUID, now: datetime) -> None:
    """The next match finds the same needs; no trace is left that would make it slower."""
    async with size.database.transaction() as tx:
        supply = await repository.supply_of(tx, batch_id)
        if supply is not None and supply.offer is not None:
            size.candidates.append(len(await repository.wanted(tx, supply.offer, now=now)))
        process = await MATCHING.running(tx, batch_id)
        assert process is not None
        await call_off(tx, process, MatchNotFound(), now)
    for statement in (
        "DELETE FROM outbox WHERE order_key IN (SELECT id FROM matches WHERE batch_id = $1)",
        "DELETE FROM matches WHERE batch_id = $1",
        "DELETE FROM supply WHERE batch_id = $1",
        "DELETE FROM processes WHERE key = $1",
    ):
        await size.database.pool.execute(statement, batch_id)
    await size.database.pool.execute("DELETE FROM timers WHERE payload->>'key' = $1", str(batch_id))


def _wanted(count: int) -> list[tuple[str, str, int]]:
    """Category, unit and quantity of batches, as often as the products of the demo have them."""
    products = data.products()
    chosen = [products[number * 7 % len(products)] for number in range(count)]
    return [(p.category, p.unit, data.quantity_of(p.category, f"{n}:{p.name}", 20, 200)) for n, p in enumerate(chosen)]


# -- needs as they were ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _filled(admin_url: str, needs: int) -> AsyncIterator[Measured]:
    """A database of resources with so many open needs."""
    async with fresh_database(admin_url, f"bench_matching_{needs}", "resources") as url:
        database = Database(url)
        await database.open()
        async with database.transaction() as tx:
            await keep_partitions(tx, datetime.now(UTC).date())
        places = await _fill(database, needs)
        await database.pool.execute("VACUUM ANALYZE")
        yield Measured(needs, database, places)
        await database.close()


async def _fill(database: Database, needs: int) -> list[UUID]:
    """Shelters and what they asked for, again and again some hundred metres away; returns places near the centre."""
    chance = random.Random(needs)  # noqa: S311 - the same needs every time
    shelters = [
        s for s in data.shelters() if s.needs and data.distance_km(data.PORTO_ALEGRE, (s.lat, s.lon)) < AROUND_KM
    ]
    places, requests, lines = (
        list[tuple[UUID, float, float, int]](),
        list[tuple[UUID, UUID, str]](),
        list[tuple[object, ...]](),
    )
    while len(lines) < needs:
        shelter = shelters[len(places) % len(shelters)]
        point = _nearby(shelter.lat, shelter.lon, chance)
        place_id = new_id()
        places.append((place_id, *point, chance.randint(20, 600)))
        for urgency in sorted({need.urgency for need in shelter.needs}):
            request_id = new_id()
            requests.append((request_id, place_id, urgency))
            rank = [each.value for each in URGENCIES].index(urgency)
            lines += [
                (request_id, new_id(), place_id, cell_of(*point), rank, need.category, need.unit, need.quantity)
                for need in shelter.needs
                if need.urgency == urgency
            ]
    del lines[needs:]
    pool = database.pool
    await pool.execute(_ORGANIZATIONS, [place_id for place_id, *_ in places])
    await pool.execute(_PLACES, *map(list, zip(*places, strict=True)))
    await pool.execute(_REQUESTS, *map(list, zip(*requests, strict=True)))
    await pool.execute(_LINES, *map(list, zip(*lines, strict=True)))
    return [place_id for place_id, lat, lon, _ in places if data.distance_km(data.PORTO_ALEGRE, (lat, lon)) < 5]


def _nearby(lat: float, lon: float, chance: random.Random) -> tuple[float, float]:
    away, direction = chance.uniform(0, JITTER_KM), chance.uniform(0, 2 * math.pi)
    north, east = away * math.cos(direction) / 111.2, away * math.sin(direction) / (111.2 * math.cos(math.radians(lat)))
    return lat + north, lon + east
