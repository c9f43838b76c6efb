"""Loads on an S3 server, and what becomes of them while the object store is away or full."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest
from chassis.testing import Callers, LiveService, eventually
from chassis.testing.links import Link
from chassis.testing.live import free_port
from resources.usecases.load_chunks import TRIES

from services.resources.tests.loading import Expected, Partner, Row, a_partner, a_row, ndjson, packed, rows
from services.resources.tests.s3 import s3_server, s3_settings
from services.resources.tests.test_loads import done, payloads

REFUSED = "the object store was away a moment ago"
FILE_BYTES_MAX = 64 * 1024
ON_INSERT = """CREATE FUNCTION before_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {act} END $$;
CREATE TRIGGER before_insert BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION before_{table}()"""
NO_ROOM = "RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';"
STANDS_STILL = "PERFORM pg_sleep(60); RETURN NEW;"
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@asynccontextmanager
async def instead(live: LiveService, environment: dict[str, str], **changed: str) -> AsyncIterator[LiveService]:
    """A process told otherwise in the place of the one that all tests share, which would take chunks of its loads."""
    await asyncio.to_thread(live.stop)
    ports = {name: str(free_port()) for name in ("VAJ_API_PORT", "VAJ_OPS_PORT")}
    other = LiveService("resources", environment | ports | changed)
    await other.start_soon()
    try:
        yield other
    finally:
        await asyncio.to_thread(other.stop)
        await live.start_soon()


@asynccontextmanager
async def a_partner_of(
    live: LiveService, environment: dict[str, str], callers: Callers, **changed: str
) -> AsyncIterator[tuple[LiveService, Partner]]:
    """Such a process, and somebody who loads through it."""
    async with (
        instead(live, environment, **changed) as own,
        httpx.AsyncClient(base_url=own.url, timeout=30) as client,
    ):
        yield own, await a_partner(client, callers)


@pytest.mark.parametrize(
    "away_s", [6, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.fault("object store away for half a minute")])]
)
async def test_the_object_store_goes_away(
    live: LiveService, environment: dict[str, str], callers: Callers, tmp_path: Path, away_s: float
) -> None:
    """While it is read and while it is applied: the breaker opens, senders hear 503 at once, the load is done afterwards."""
    expected, sent = Expected(), rows(12_000)
    async with s3_server(tmp_path / "s3.log") as url, Link(url) as link:
        settings = s3_settings(link.url) | {"VAJ_LOAD_CHUNK_ROWS": "50"}
        async with (
            instead(live, environment, **settings) as own,
            httpx.AsyncClient(base_url=own.url, timeout=30) as client,
        ):
            partner = await a_partner(client, callers)
            answer = await partner.send(ndjson(sent))

            for counted in ("total", "processed"):
                await far_enough(partner, answer.headers["Location"], counted, len(sent) * 0.3)
                refused_before = own.log_path.read_text().count(REFUSED)
                await link.refuse()
                await eventually(lambda before=refused_before: own.log_path.read_text().count(REFUSED) > before)
                await is_told(partner)
                await for_a_while(away_s)
                await link.accept()

            load = await partner.reaches(answer, "applied")
            assert done(load) == expected.load(sent, full=True)
            assert load["chunks"]["failed"] == 0
            await partner.has(expected)


async def test_a_full_disk(live: LiveService, environment: dict[str, str], callers: Callers) -> None:
    """What cannot be kept is refused and leaves nothing; what was taken waits until there is room, and is done then."""
    expected, sent = Expected(), rows(3_000)
    async with (
        instead(live, environment, VAJ_LOAD_CHUNK_ROWS="1000") as own,
        httpx.AsyncClient(base_url=own.url, timeout=30) as client,
    ):
        partner, other = await a_partner(client, callers), await a_partner(client, callers)
        kept, small = payloads(environment), packed(ndjson(sent))
        assert len(small) < FILE_BYTES_MAX < len(ndjson(sent)) / 3

        resource.prlimit(own.pid, resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, resource.RLIM_INFINITY))
        refused = await partner.send(ndjson(sent))
        assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (503, "unavailable"), refused.text
        assert payloads(environment) == kept
        answer = await other.send(small, **{"Content-Encoding": "gzip"})
        await eventually(lambda: "catalogue_load.postponed" in own.log_path.read_text())
        resource.prlimit(own.pid, resource.RLIMIT_FSIZE, UNLIMITED)

        load = await other.reaches(answer, "applied")
        assert done(load) == expected.load(sent, full=True)
        await other.has(expected)


async def test_a_full_disk_of_the_database(live: LiveService, environment: dict[str, str], callers: Callers) -> None:
    """What PostgreSQL has no room for, of chunks that are read and of products, waits until there is, and is done then."""
    expected, sent = Expected(), rows(3_000)
    async with a_partner_of(live, environment, callers, VAJ_LOAD_CHUNK_ROWS="1000") as (own, partner):
        async with on_insert(environment["VAJ_DATABASE_URL"], "products", NO_ROOM):
            async with on_insert(environment["VAJ_DATABASE_URL"], "catalogue_chunks", NO_ROOM):
                answer = await partner.send(ndjson(sent))
                await eventually(lambda: said(own, "catalogue_load.postponed", "DiskFull") >= 2, timeout_s=20)
            await eventually(lambda: said(own, "catalogue_chunk.failed", "DiskFull") >= 3 * TRIES, timeout_s=20)

        load = await partner.reaches(answer, "applied")
        assert done(load) == expected.load(sent, full=True)
        assert load["chunks"]["failed"] == 0
        await partner.has(expected)


@pytest.mark.slow
@pytest.mark.fault("products are not written in time")
async def test_a_chunk_that_takes_too_long(live: LiveService, environment: dict[str, str], callers: Callers) -> None:
    """Three times longer than a statement may take: it has failed, the load ends, and can be tried again."""
    expected, sent = Expected(), rows(3_000)
    async with a_partner_of(live, environment, callers, VAJ_LOAD_CHUNK_ROWS="5000") as (own, partner):
        async with on_insert(environment["VAJ_DATABASE_URL"], "products", STANDS_STILL):
            failed = await partner.reaches(await partner.send(ndjson(sent)), "applied_with_errors", within_s=120)
        assert (failed["chunks"], failed["allowed"]) == ({"total": 1, "done": 0, "failed": 1}, ["retry"])
        await eventually(lambda: said(own, "catalogue_chunk.failed", "TimeoutError") == TRIES)

        load = await partner.decides(failed["id"], "retry", until="applied")
        assert done(load) == expected.load(sent, full=True)
        await partner.has(expected)


@pytest.mark.parametrize(
    "count", [5_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.fault("a million rejects")])]
)
async def test_many_rows_that_are_no_products(
    live: LiveService, environment: dict[str, str], callers: Callers, count: int
) -> None:
    """Every one of them is kept and told, in the order of the rows, in one download."""
    row, told = json.dumps(a_row(1, price_cents=-1)).encode() + b"\n", 0
    async with (
        instead(live, environment, VAJ_LOAD_CHUNK_ROWS="5000") as own,
        httpx.AsyncClient(base_url=own.url, timeout=60) as client,
    ):
        partner = await a_partner(client, callers)
        load = await partner.reaches(await partner.send(row * count, "DELTA"), "applied", within_s=300)
        assert load["rows"]["rejected"] == load["rows"]["total"] == count
        rejects = f"/v1/catalogue-loads/{load['id']}/rejects"
        async with client.stream("GET", rejects, headers=partner.caller.headers) as answer:
            async for line in answer.aiter_lines():
                told += 1
                assert line.startswith(f'{{"row":{told},'), line
                assert '"code":"out-of-range"' in line

    assert told == count


@asynccontextmanager
async def on_insert(database_url: str, table: str, act: str) -> AsyncIterator[None]:
    """Inside, PostgreSQL does this before every new row of a table."""
    database = await asyncpg.connect(database_url)
    await database.execute(ON_INSERT.format(table=table, act=act))
    try:
        yield
    finally:
        await database.execute(f"DROP FUNCTION before_{table} CASCADE")
        await database.close()


def said(live: LiveService, *words: str) -> int:
    """How many lines of its log have all these words."""
    return sum(all(word in line for word in words) for line in live.log_path.read_text().splitlines())


async def far_enough(partner: Partner, where: str, counted: str, least: float) -> None:
    """So many rows are read, or applied."""

    async def reached() -> bool:
        load: Row = (await partner.get(where)).json()
        assert load["status"] in ("received", "validating", "ready", "applying"), "too fast to be disturbed"
        return bool(load["rows"][counted] >= least)

    await eventually(reached, timeout_s=60)


async def is_told(partner: Partner) -> None:
    """A sender hears at once that its payload cannot be kept now."""
    answer = await partner.send(ndjson(rows(3)), "DELTA")
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


async def for_a_while(seconds: float) -> None:
    """The fault itself: that long the store is away."""
    await asyncio.sleep(seconds)
