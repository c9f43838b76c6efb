"""The read models are rebuilt while everybody goes on working: row by row the same, mended where they were wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import cycle
from random import Random
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from analytics.consumers import EVENTS
from chassis.access import ACCESS_TABLES
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import Callers, LiveService, eventually
from chassis.testing.replays import Playing
from chassis.testing.replays import Told as Kept
from contracts.events import batches, deliveries, identity, resources

from services.analytics.tests.story import NOON, BatchStory, DeliveryStory, RequestStory, Told

OPS = "/v1/ops/analytics"
PRODUCERS = ("batches", "deliveries", "resources", "identity", "webhooks")
MINUTE = timedelta(minutes=1)
Rows = dict[str, list[str]]


class Town:
    """The other services, played; an admin; and what analytics has of it all."""

    def __init__(self, database: Database, api: httpx.AsyncClient, live: LiveService) -> None:
        self.database = database
        self.api = api
        self.live = live
        self.producers: dict[str, Playing] = {}

    async def tell(self, told: Iterable[Told], *, per_s: float | None = None) -> None:
        """Everything in order, at once or at a rate."""
        for each in told:
            subject = UUID(json.loads(each.body)["subject"])
            kept = Kept(subject, each.version, each.body, each.routing_key, each.id)
            await self.producers[each.event.producer].say(kept)
            if per_s:
                await asyncio.sleep(1 / per_s)

    async def audited(self, schema: str) -> int:
        """How many events are in a generation's audit trail."""
        if not await self.database.reading().fetchval("SELECT to_regclass($1)", f"{schema}.audit_events"):
            return 0
        count: int = await self.database.reading().fetchval(f"SELECT count(*) FROM {schema}.audit_events")
        return count

    async def built(self, least: int) -> bool:
        """The new generation has so many events."""
        return await self.audited("events_g2") >= least

    async def heard(self, ids: Sequence[UUID], schema: str = "public") -> None:
        """Wait until the audit trail has all of these."""

        async def check() -> None:
            assert await self.database.reading().fetchval("SELECT to_regclass($1)", f"{schema}.audit_events")
            sql = f"SELECT count(*) FROM {schema}.audit_events WHERE event_id = ANY($1::uuid[])"
            found = await self.database.reading().fetchval(sql, list(ids))
            assert found == len(ids), f"{found} of {len(ids)}"

        await eventually(check, timeout_s=60)

    async def rows(self, schema: str = "public", tables: Sequence[str] = EVENTS.projection) -> Rows:
        """Every row of every table, as text, in one order."""
        return {
            table: [
                row["t"]
                for row in await self.database.reading().fetch(
                    f'SELECT t::text FROM {schema}.{table} AS t ORDER BY t::text COLLATE "C"'
                )
            ]
            for table in tables
        }

    async def rebuild(self, consumer: str = "events") -> str:
        """The admin asks for it; returns the job's address."""
        answer = await self.api.post(f"{OPS}/projections/{consumer}/rebuild", json={"reason": "test"})
        assert answer.status_code == 202, answer.text
        location: str = answer.headers["location"]
        return location

    async def ends(self, location: str) -> dict[str, Any]:
        """The job, once it does."""

        async def check() -> Any:
            job = (await self.api.get(location)).json()
            return job if job["status"] != "running" else None

        found: dict[str, Any] = await eventually(lambda: _truthy(check), timeout_s=60)
        return found

    async def generations(self, consumer: str = "events") -> dict[str, str]:
        """Which there are, and how they stand."""
        shown = (await self.api.get(f"{OPS}/projections")).json()
        [found] = [each for each in shown if each["consumer"] == consumer]
        return {one["name"]: one["status"] for one in found["generations"]}

    async def restart(self) -> None:
        """The process is killed, and comes back."""
        self.live.kill()
        await self.live.start_soon()

    def hold_replays(self, *, held: bool) -> None:
        """No producer comes to the end of its replay while they are held."""
        for playing in self.producers.values():
            if held:
                playing.may_end.clear()
            else:
                playing.may_end.set()


async def _truthy(check: Any) -> Any:
    found = await check()
    assert found
    return found


@pytest_asyncio.fixture(loop_scope="session")
async def town(
    database: Database, live: LiveService, client: httpx.AsyncClient, callers: Callers, broker_url: str
) -> AsyncIterator[Town]:
    await database.pool.execute(f"TRUNCATE {', '.join((*EVENTS.projection, 'inbox'))}")
    admin = await callers.person(platform_role="admin")
    client.headers.update(admin.headers)
    made = Town(database, client, live)
    async with AsyncExitStack() as stack:
        for name in PRODUCERS:
            playing = Playing(broker_url, name, pace_s=0.1, page=20)
            made.producers[name] = await stack.enter_async_context(playing)
        yield made


def _day(number: int) -> list[Told]:
    """What happens around one batch: offered, carried in parts, lost in part, and a need that changes."""
    random = Random(number)
    batch = BatchStory(new_id(), new_id(), unit=random.choice(["portion", "g"]), total=random.randint(50, 500))
    at = NOON + number * 7 * MINUTE
    told = [batch.tell(batches.BatchCreated, at, "producing"), batch.tell(batches.BatchReady, at + MINUTE)]
    for part in range(1 + number % 3):
        delivery = DeliveryStory([(batch, 10)], new_id(), new_id())
        told += [
            delivery.tell(deliveries.DeliveryPlanned, at + 2 * MINUTE, "planned"),
            delivery.tell(deliveries.DeliveryOpened, at + 3 * MINUTE),
            delivery.tell(deliveries.DeliveryClaimed, at + 5 * MINUTE, "claimed"),
            delivery.pick([10 - part], at + 9 * MINUTE),
            delivery.complete([8], at + 30 * MINUTE),
        ]
    told.append(batch.lose(random.randint(1, 9), at + 40 * MINUTE))
    request = RequestStory(new_id(), new_id())
    told += [
        request.tell(resources.ResourceRequestOpened, at, [("dry", "g", 900, 0, 0), ("prepared", "portion", 30, 5, 0)]),
        request.tell(resources.ResourceRequestChanged, at + MINUTE, [("dry", "g", 700, 100, 0)]),
    ]
    return told


def _days(first: int, count: int) -> list[Told]:
    """Several days, each in its own order, mixed."""
    days = [_day(number) for number in range(first, first + count)]
    told: list[Told] = []
    for day in cycle(days):
        if day:
            told.append(day.pop(0))
        elif not any(days):
            break
    return told


@pytest.mark.fault("replay under live traffic and crash mid-rebuild")
async def test_a_projection_rebuilt_under_load_equals_the_live_one_row_by_row(town: Town) -> None:
    """A hundred events a second before, during and after; the worker is killed twice on the way: every row of every table."""
    before, during, after = _days(0, 45), _days(45, 45), _days(90, 10)
    await town.tell(before)
    await town.heard([each.id for each in before])
    town.hold_replays(held=True)

    traffic = asyncio.create_task(town.tell(during, per_s=100))
    job = await town.rebuild()
    for least in (50, 150):  # of more than five hundred
        await eventually(lambda least=least: town.built(least), timeout_s=30)
        await town.restart()
        assert await town.audited("events_g2") < len(before)
    await traffic
    everything = [each.id for each in (*before, *during)]
    await town.heard(everything)
    await town.heard(everything, "events_g2")

    live, built = await town.rows(), await town.rows("events_g2")
    assert {name: len(rows) for name, rows in built.items()} == {name: len(rows) for name, rows in live.items()}
    assert built == live
    assert len(live["audit_events"]) >= 1_000
    assert all(live.values())

    dashboard = (
        await town.api.get("/v1/analytics/dashboard", params={"from": "2026-03-01", "to": "2026-03-31"})
    ).json()
    town.hold_replays(held=False)
    assert (await town.ends(job))["status"] == "done"
    assert await town.rows() == live
    assert (await town.generations())["events.g2"] == "live"
    shown = await town.api.get("/v1/analytics/dashboard", params={"from": "2026-03-01", "to": "2026-03-31"})
    assert shown.json() == dashboard

    await town.tell(after)
    await town.heard([each.id for each in after])
    assert len((await town.rows())["audit_events"]) == len(live["audit_events"]) + len(after)
    await eventually(lambda: _only(town, "events.g2"), timeout_s=60)


async def _only(town: Town, name: str) -> None:
    assert [*await town.generations()] == [name]


async def test_rows_that_were_spoilt_are_right_after_a_rebuild(town: Town) -> None:
    """Counters too high, rows lost, rows made up, while facts go on coming: afterwards the tables are what was told."""
    first, second = _days(200, 20), _days(220, 20)
    await town.tell(first)
    await town.heard([each.id for each in first])
    right = await town.rows()
    await town.database.pool.execute(
        "UPDATE quantities_daily SET offered = offered + 1000; DELETE FROM batches_seen WHERE batch_id IN"
        " (SELECT batch_id FROM batches_seen LIMIT 5); UPDATE deliveries_seen SET completed_at = NULL;"
        " DELETE FROM audit_events WHERE type LIKE '%claimed%';"
        " INSERT INTO need_lines VALUES (gen_random_uuid(), gen_random_uuid(), 1, 'dry', 'g', 5, 0, 0)"
    )
    spoilt = await town.rows()
    assert all(spoilt[table] != right[table] for table in ("quantities_daily", "batches_seen", "need_lines"))

    traffic = asyncio.create_task(town.tell(second, per_s=200))
    job = await town.ends(await town.rebuild())
    await traffic
    await town.heard([each.id for each in (*first, *second)])
    mended = await town.rows()
    assert job["status"] == "done"

    assert (await town.ends(await town.rebuild()))["status"] == "done"
    assert await town.rows() == mended
    missing = {
        name: set(right[name]) - set(mended[name]) for name in ("audit_events", "batches_seen", "deliveries_seen")
    }
    assert missing == {"audit_events": set(), "batches_seen": set(), "deliveries_seen": set()}
    assert len(mended["audit_events"]) == len(first) + len(second)


async def test_the_directory_is_rebuilt_too(town: Town, callers: Callers) -> None:
    """Credentials are read from it on every request, and count before, during and after; what it does not handle it leaves alone."""
    playing = town.producers["identity"]
    organization, key, person = new_id(), new_id(), new_id()
    facts: list[tuple[Any, UUID, int]] = [
        (identity.OrganizationRegistered(organization_id=organization, cnpj="11222333000181", kinds=["provider"]), organization, 1),
        (identity.MembershipGranted(organization_id=organization, user_id=person, role="manager"), organization, 2),
        (identity.OrganizationSuspended(organization_id=organization), organization, 3),
        (_issued(key, organization, "a" * 64), key, 1),
        (_issued(key, organization, "b" * 64), key, 2),
        (identity.UserRegistered(user_id=person, locale="pt-BR"), person, 1),
        (identity.VolunteerProfileChanged(user_id=person, vehicle="car", capacity_g=9_000, lat=-30, lon=-51, radius_m=900), person, 2),
    ]  # fmt: skip
    for event, subject, version in facts:
        await playing.tell(event, subject, version, owner=organization)
    for event, version in callers.known:  # as if identity had told of these tests' people
        await playing.tell(event, new_id(), version)
    tables = [table for table in ACCESS_TABLES if table != "access_sessions_ended"]
    known = "SELECT count(*) FROM access_keys WHERE key_sha256 = $1"
    await eventually(lambda: town.database.reading().fetchval(known, "b" * 64), timeout_s=20)
    await eventually(
        lambda: town.database.reading().fetchval("SELECT count(*) FROM access_users WHERE user_id = $1", person)
    )
    before = await town.rows(tables=tables)

    assert (await town.ends(await town.rebuild("access")))["status"] == "done"

    assert await town.rows(tables=tables) == before
    assert (await town.generations("access"))["access.g2"] == "live"


def _issued(key: UUID, organization: UUID, digest: str) -> identity.ApiKeyIssued:
    return identity.ApiKeyIssued(
        api_key_id=key, organization_id=organization, key_sha256=digest, env="live", scopes=[], cnpjs=[],
        rate_per_minute=None, expires_at=None,
    )  # fmt: skip
