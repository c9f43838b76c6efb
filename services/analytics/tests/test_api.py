"""The routes of analytics on a live process: status, problem code and rights per role."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from chassis.kernel import new_id
from chassis.testing import Bus, Callers, LiveService, eventually
from chassis.testing.callers import Caller
from contracts.events import batches, deliveries, resources

from services.analytics.tests.story import NOON, BatchStory, DeliveryStory, RequestStory, Told

PERIOD = {"from": "2026-03-09", "to": "2026-03-15"}
DAY = timedelta(days=1)


class World:
    """A giver in Porto Alegre, a receiver in Canoas, a stranger, and one delivery between the first two."""

    giver: UUID
    receiver: UUID
    manager: Caller
    partner: Caller
    receiver_manager: Caller
    stranger: Caller
    volunteer: Caller
    coordinator: Caller
    admin: Caller
    delivery: DeliveryStory
    told: list[Told]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(callers: Callers, live: LiveService, bus: Bus) -> AsyncIterator[World]:
    made = World()
    made.giver, made.receiver = await callers.organization(), await callers.organization()
    made.manager = await callers.person(member_of=made.giver)
    made.partner = await callers.partner(made.giver, scopes=["analytics:read"])
    made.receiver_manager = await callers.person(member_of=made.receiver, role="staff")
    made.stranger = await callers.person(member_of=await callers.organization())
    made.volunteer = await callers.person()
    made.coordinator = await callers.person(platform_role="coordinator")
    made.admin = await callers.person(platform_role="admin")
    batch = BatchStory(made.giver, await callers.place(made.giver))
    receiving = await callers.place(made.receiver, ibge_city="4304606")
    made.delivery = delivery = DeliveryStory([(batch, 10)], made.receiver, receiving)
    request = RequestStory(made.receiver, receiving)
    made.told = [
        batch.tell(batches.BatchCreated, NOON - DAY, "producing"),
        batch.tell(batches.BatchReady, NOON),
        delivery.tell(deliveries.DeliveryPlanned, NOON, "planned"),
        delivery.tell(deliveries.DeliveryOpened, NOON),
        delivery.tell(deliveries.DeliveryClaimed, NOON + timedelta(minutes=10), "claimed"),
        delivery.pick([10], NOON + timedelta(hours=1)),
        delivery.complete([9], NOON + DAY),
        batch.lose(1, NOON + DAY),
        request.tell(resources.ResourceRequestOpened, NOON, [("prepared", "portion", 30, 5, 9)]),
    ]
    for each in reversed(made.told):
        await _publish(bus, each)
        await _publish(bus, each)

    async def counted() -> None:
        async with httpx.AsyncClient(base_url=live.url) as client:
            answer = await client.get("/v1/audit-events/counts", headers=made.admin.headers)
            assert answer.status_code == 200, answer.text
            assert answer.json()["total"] >= len(made.told)

    await eventually(counted)
    yield made


async def _publish(bus: Bus, told: Told) -> None:
    await bus.send(told.body, producer=told.event.producer, routing_key=told.routing_key, message_id=str(told.id))


async def _get(client: httpx.AsyncClient, caller: Caller, path: str, **parameters: Any) -> Any:
    answer = await client.get(path, params=parameters, headers=caller.headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_dashboard_shows_what_an_organization_did(client: httpx.AsyncClient, world: World) -> None:
    """Every part of the dashboard, for the giver's own key."""
    found = await _get(client, world.partner, "/v1/analytics/dashboard", organization_id=world.giver, **PERIOD)

    goods = {"offered": 40, "rescued": 10, "delivered": 9, "lost": 1}
    assert found["quantities"] == [{"unit": "portion", **goods}]
    assert found["batches"] == {"created": 1, "ready": 1, "closed": 0, "cancelled": 0, "expired": 0, "recalled": 0}
    assert found["deliveries"]["completed"] == 1
    assert (found["deliveries"]["on_time_rate"], found["deliveries"]["no_show_rate"]) == (1.0, 0.0)
    assert found["needs"] == []
    assert found["time_to_claim_s"] == {"mean": 600.0, "p50": 600.0}
    nothing_needed = {"needed": 0, "reserved": 0, "received": 0}
    assert found["by_category"] == [{"category": "prepared", "unit": "portion", **goods, **nothing_needed}]
    assert (found["from"], found["to"], found["organization_id"]) == ("2026-03-09", "2026-03-15", str(world.giver))
    assert found["as_of"] is not None


async def test_the_receiver_sees_its_side(client: httpx.AsyncClient, world: World) -> None:
    """What came and what is needed, not what the giver offered or lost."""
    found = await _get(
        client, world.receiver_manager, "/v1/analytics/dashboard", organization_id=world.receiver, **PERIOD
    )

    assert found["quantities"] == [{"unit": "portion", "offered": 0, "rescued": 10, "delivered": 9, "lost": 0}]
    assert found["needs"] == [{"unit": "portion", "needed": 30, "reserved": 5, "received": 9}]
    assert found["batches"]["created"] == 0


@pytest.mark.parametrize("path", ["dashboard", "timeseries?metric=offered", "export"])
async def test_totals_of_the_platform_are_for_everybody_signed_in(
    client: httpx.AsyncClient, world: World, path: str
) -> None:
    """Without an organization anybody signed in and any key with the scope may look; nobody else."""
    for caller in (world.volunteer, world.stranger, world.partner, world.coordinator):
        assert (await client.get(f"/v1/analytics/{path}", headers=caller.headers)).status_code == 200
    anonymous = await client.get(f"/v1/analytics/{path}")
    assert (anonymous.status_code, anonymous.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("path", ["dashboard", "timeseries?metric=offered", "export"])
async def test_a_foreign_organization_is_not_found(
    client: httpx.AsyncClient, world: World, callers: Callers, path: str
) -> None:
    """Another tenant's figures are 404, like those of an organization that does not exist; coordinators see them."""
    foreign_key = await callers.partner(world.receiver, scopes=["analytics:read"])
    url = httpx.URL(f"/v1/analytics/{path}")
    for caller, organization_id in (
        (world.stranger, world.giver), (world.volunteer, world.giver), (foreign_key, world.giver), (world.manager, new_id()),
    ):  # fmt: skip
        answer = await client.get(
            url.copy_merge_params({"organization_id": str(organization_id)}), headers=caller.headers
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "organization-not-found")
    for caller in (world.coordinator, world.admin, world.manager):
        answer = await client.get(url.copy_merge_params({"organization_id": str(world.giver)}), headers=caller.headers)
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/v1/analytics/dashboard", "/v1/analytics/timeseries?metric=lost", "/v1/analytics/export", "/v1/audit-events",
     f"/v1/timeline/{UUID(int=1)}"],
)  # fmt: skip
async def test_a_key_needs_the_scope(client: httpx.AsyncClient, world: World, callers: Callers, path: str) -> None:
    """A key without `analytics:read` is refused on every route."""
    key = await callers.partner(world.giver, scopes=["batches:read"])

    answer = await client.get(path, headers=key.headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope")


# -- series and export -------------------------------------------------------------------------------------------------


async def test_a_series_has_a_point_for_every_interval(client: httpx.AsyncClient, world: World) -> None:
    """Days without anything are zero, not missing; weeks begin on Monday, months on the first."""
    ask = {"metric": "delivered", "organization_id": world.giver}
    days = await _get(client, world.manager, "/v1/analytics/timeseries", **ask, **PERIOD)
    weeks = await _get(client, world.manager, "/v1/analytics/timeseries", interval="week", **ask, **PERIOD)
    months = await _get(client, world.manager, "/v1/analytics/timeseries", interval="month", **ask, **PERIOD)

    (series,) = days["series"]
    assert (series["unit"], series["group"], len(series["points"])) == ("portion", None, 7)
    assert [point["value"] for point in series["points"]] == [0, 0, 9, 0, 0, 0, 0]
    assert weeks["series"][0]["points"] == [{"day": "2026-03-09", "value": 9}]
    assert months["series"][0]["points"] == [{"day": "2026-03-01", "value": 9}]


@pytest.mark.parametrize(
    ("metric", "group_by", "series"),
    [
        ("rescued", "city", ("portion", "4314902", 10)),  # where it was fetched
        ("delivered", "city", ("portion", "4304606", 9)),  # where it arrived
        ("offered", "category", ("portion", "prepared", 40)),
        ("lost", "unit", ("portion", None, 1)),
        ("needed", "city", None),
        ("batches_ready", "city", (None, "4314902", 1)),
        ("batches_created", "unit", ("portion", None, 1)),
        ("deliveries_completed", None, (None, None, 1)),
        ("deliveries_claimed", "city", (None, "4314902", 1)),
        ("deliveries_returned", None, None),
        ("time_to_claim_s", None, (None, None, 600)),
    ],
)
async def test_a_metric_by_its_group(
    client: httpx.AsyncClient, world: World, metric: str, group_by: str | None, series: tuple[Any, ...] | None
) -> None:
    """Each metric is counted where it happened, and by unit wherever units mean anything."""
    ask = {"metric": metric, "organization_id": world.giver} | ({"group_by": group_by} if group_by else {})

    found = (await _get(client, world.manager, "/v1/analytics/timeseries", **ask, **PERIOD))["series"]

    shown = [(each["unit"], each["group"], sum(p["value"] or 0 for p in each["points"])) for each in found]
    assert shown == ([series] if series else [])


async def test_organizations_are_compared_by_coordinators_only(client: httpx.AsyncClient, world: World) -> None:
    """The split by organization of the whole platform is 403 for others; within one's own it is just the one."""
    ask = {"metric": "offered", "group_by": "organization", **PERIOD}

    refused = await client.get("/v1/analytics/timeseries", params=ask, headers=world.manager.headers)
    found = await _get(client, world.coordinator, "/v1/analytics/timeseries", **ask)
    own = await _get(client, world.manager, "/v1/analytics/timeseries", organization_id=world.giver, **ask)

    assert (refused.status_code, refused.json()["code"]) == (403, "coordinator-only")
    assert str(world.giver) in {each["group"] for each in found["series"]}
    assert [each["group"] for each in own["series"]] == [str(world.giver)]


@pytest.mark.parametrize(
    ("path", "parameters", "code"),
    [
        ("dashboard", {"from": "2026-03-02", "to": "2026-03-01"}, "period-invalid"),
        ("dashboard", {"from": "0001-01-01", "to": "0001-01-02"}, "period-invalid"),
        ("dashboard", {"to": "9999-12-31"}, "period-invalid"),
        ("dashboard", {"from": "2000-01-01", "to": "2026-01-01"}, "period-too-long"),
        ("dashboard", {"from": "2026-02-30"}, "invalid-input"),
        ("dashboard", {"from": "1700000000"}, "invalid-input"),
        ("dashboard", {"organization_id": "x"}, "invalid-input"),
        ("timeseries", {"metric": "money"}, "invalid-input"),
        ("timeseries", {}, "invalid-input"),
        ("timeseries", {"metric": "lost", "from": "2025-01-01", "to": "2026-01-02"}, "period-too-long"),
        ("timeseries", {"metric": "time_to_claim_s", "group_by": "category"}, "group-not-possible"),
        ("export", {"from": "2026-03-02", "to": "2026-03-01"}, "period-invalid"),
    ],
)
async def test_bad_questions_are_422(
    client: httpx.AsyncClient, world: World, path: str, parameters: dict[str, str], code: str
) -> None:
    """Whatever is asked, the answer is a problem with a stable code, never an error."""
    answer = await client.get(f"/v1/analytics/{path}", params=parameters, headers=world.manager.headers)

    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_leap_year_of_days_fits_one_series(client: httpx.AsyncClient, world: World) -> None:
    """366 points are the most, and they are possible."""
    ask = {"metric": "offered", "organization_id": world.giver, "from": "2025-03-11", "to": "2026-03-11"}

    found = await _get(client, world.manager, "/v1/analytics/timeseries", **ask)

    assert len(found["series"][0]["points"]) == 366


async def test_the_export_is_the_daily_table(client: httpx.AsyncClient, world: World) -> None:
    """A row per day, city, category and unit, each thing in the city where it happened."""
    ask = {"organization_id": str(world.giver), **PERIOD}
    answer = await client.get("/v1/analytics/export", params=ask, headers=world.partner.headers)

    assert answer.headers["content-type"].startswith("text/csv")
    assert "vouajudar-2026-03-09-2026-03-15.csv" in answer.headers["content-disposition"]
    rows = [tuple(row.values()) for row in csv.DictReader(io.StringIO(answer.text))]
    assert rows == [
        ("2026-03-10", "4314902", "prepared", "portion", "40", "10", "0", "0"),
        ("2026-03-11", "4304606", "prepared", "portion", "0", "0", "9", "0"),
        ("2026-03-11", "4314902", "prepared", "portion", "0", "0", "0", "1"),
    ]


async def test_the_export_of_an_empty_period_has_its_header(client: httpx.AsyncClient, world: World) -> None:
    """No rows are a table too."""
    ask = {"from": "1990-01-01", "to": "1990-01-02"}
    answer = await client.get("/v1/analytics/export", params=ask, headers=world.volunteer.headers)

    assert answer.text == "day,ibge_city,category,unit,offered,rescued,delivered,lost\r\n"


# -- audit trail -------------------------------------------------------------------------------------------------------


async def test_the_audit_trail_pages_through_everything_once(client: httpx.AsyncClient, world: World) -> None:
    """Newest first; following `next_cursor` gives each event once; a cursor of nobody's making is 400."""
    seen: list[dict[str, Any]] = []
    url: str | None = "/v1/audit-events?limit=2"
    while url:
        page = await client.get(url, headers=world.manager.headers)
        assert page.status_code == 200, page.text
        seen += page.json()["items"]
        url = page.links["next"]["url"] if "next" in page.links else None
    bad = await client.get("/v1/audit-events?cursor=abc", headers=world.manager.headers)

    concerned = [told for told in world.told if not isinstance(told.event, resources.ResourceRequestOpened)]
    assert sorted(each["event_id"] for each in seen) == sorted(str(told.id) for told in concerned)
    moments = [datetime.fromisoformat(each["occurred_at"]) for each in seen]
    assert moments == sorted(moments, reverse=True)
    assert (bad.status_code, bad.json()["code"]) == (400, "bad-cursor")


async def test_everybody_sees_the_events_of_their_organizations(client: httpx.AsyncClient, world: World) -> None:
    """As owner or party: the receiver sees the delivery, strangers and volunteers nothing, admins everything."""
    subject = str(world.delivery.id)
    ask = {"subject": subject, "limit": 50}
    counts = {
        name: len((await _get(client, getattr(world, name), "/v1/audit-events", **ask))["items"])
        for name in ("manager", "partner", "receiver_manager", "stranger", "volunteer", "coordinator", "admin")
    }

    own = {"manager": 5, "partner": 5, "receiver_manager": 5}
    assert counts == own | {"stranger": 0, "volunteer": 0, "coordinator": 0, "admin": 5}


async def test_the_audit_trail_is_narrowed_by_what_is_asked(client: httpx.AsyncClient, world: World) -> None:
    """By type or prefix, subject, actor and half-open time."""

    async def count(**ask: Any) -> int:
        return len((await _get(client, world.manager, "/v1/audit-events", **ask))["items"])

    planned = "vouajudar.deliveries.delivery.planned.v1"
    assert await count(type=planned) == 1
    assert await count(type=[planned, "vouajudar.batches.*"]) == 4
    assert await count(type="vouajudar.batches.batch.*", subject=world.delivery.id) == 0
    assert await count(actor_id=new_id()) == 0
    moment = {"from": NOON.isoformat().replace("+00:00", "Z"), "to": (NOON + timedelta(minutes=1)).isoformat()}
    assert await count(**moment) == 3
    assert await count(**{"from": moment["to"], "to": moment["from"]}) == 0


async def test_a_timeline_tells_what_happened_in_order(client: httpx.AsyncClient, world: World) -> None:
    """Oldest first, page by page; what is not the caller's, or never happened, is 404."""
    path = f"/v1/timeline/{world.delivery.id}"
    first = await client.get(path, params={"limit": 3}, headers=world.receiver_manager.headers)
    second = await client.get(first.links["next"]["url"], headers=world.receiver_manager.headers)
    versions = [each["version"] for page in (first, second) for each in page.json()["items"]]

    assert versions == [1, 2, 3, 4, 5]
    assert first.json()["items"][0]["data"]["delivery_id"] == str(world.delivery.id)
    for caller, subject in (
        (world.stranger, world.delivery.id),
        (world.volunteer, world.delivery.id),
        (world.admin, new_id()),
    ):
        answer = await client.get(f"/v1/timeline/{subject}", headers=caller.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "timeline-not-found")


async def test_counts_are_for_admins(client: httpx.AsyncClient, world: World) -> None:
    """The number of distinct events by type, whatever came twice; 403 for everybody else."""
    found = await _get(client, world.admin, "/v1/audit-events/counts")
    refused = await client.get("/v1/audit-events/counts", headers=world.manager.headers)

    assert found["total"] == sum(found["by_type"].values())
    assert found["by_type"]["vouajudar.deliveries.delivery.completed.v1"] == 1
    assert (refused.status_code, refused.json()["code"]) == (403, "admin-only")


async def test_without_dates_the_last_thirty_days_are_shown(client: httpx.AsyncClient, world: World) -> None:
    """The period is up to today and 30 days long."""
    found = await _get(client, world.manager, "/v1/analytics/dashboard")

    today = datetime.now(UTC).date()
    assert (found["from"], found["to"]) == ((today - 29 * DAY).isoformat(), today.isoformat())
