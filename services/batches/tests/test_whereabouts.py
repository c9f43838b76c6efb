"""What a recall needs on a live process: splits in any order, the trace, past states, alarms, and what is near."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from batches import queries
from batches.repository import BATCHES
from chassis.access import Principal
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import Bus, Callers, Tap, eventually
from chassis.testing.callers import Caller
from contracts.envelope import Event
from contracts.events import batches as own
from contracts.events import deliveries as events

from services.batches.tests.builders import Supply, a_batch, quantities


class Course:
    """A delivery of one batch as the deliveries service would tell of it; `version` counts its facts."""

    def __init__(self, bus: Bus, supply: Supply, planned: int) -> None:
        self.bus, self.supply = bus, supply
        self.id, self.line_id, self.version = new_id(), new_id(), 0
        self.line = {"planned": planned}
        self.told: dict[str, Any] = {"receiving_organization_id": new_id(), "receiving_place_id": new_id()}

    async def tell(self, kind: type[Event], **changes: Any) -> None:
        """Publish its next fact; quantities are of its line, the rest is of the delivery and stays."""
        counts = {name: value for name, value in changes.items() if name in ("planned", "picked", "delivered", "lost")}
        self.line |= counts
        self.told |= {name: value for name, value in changes.items() if name not in counts}
        self.version += 1
        fact = self.supply.fact(kind, delivery_id=self.id, line_id=self.line_id, told=self.told, **self.line)
        await self.bus.publish(fact, subject=self.id, version=self.version)

    def split(self, quantity: int) -> tuple[Course, list[dict[str, Any]]]:
        """A sibling with so much of it, and what both tell of that; nothing is published yet."""
        sibling = Course(self.bus, self.supply, quantity)
        moved = {
            "line_id": self.line_id, "sibling_line_id": sibling.line_id, "batch_id": self.supply.id, "quantity": quantity,
        }  # fmt: skip
        self.line["planned"] -= quantity
        return sibling, [moved]


async def _parts(client: httpx.AsyncClient, supply: Supply, **params: Any) -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/batches/{supply.id}/trace", params=params, headers=supply.headers)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def _whereabouts(item: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(part["where"], part["quantity"], part["place_id"] or part["volunteer_id"]) for part in item["parts"]]


# -- splits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["parent", "sibling"])
async def test_a_hold_is_split_once_whoever_tells_first(
    client: httpx.AsyncClient, supply: Supply, bus: Bus, tap: Tap, database: Database, first: str
) -> None:
    """The parent's fact and the sibling's mean the same; the second changes nothing, and both halves go their own way."""
    parent = Course(bus, supply, planned=10)
    await parent.tell(events.DeliveryPlanned)
    await tap.saw(own.BatchHeld, supply.id)
    sibling, moved = parent.split(4)

    async def by_parent() -> None:
        await parent.tell(events.DeliverySplit, sibling_id=sibling.id, moved=moved)

    async def by_sibling() -> None:
        await sibling.tell(events.DeliverySplitOff, parent_id=parent.id, moved=moved)

    for tell in (by_parent, by_sibling) if first == "parent" else (by_sibling, by_parent):
        await tell()
    await sibling.tell(events.PickupConfirmed, picked=4)
    await parent.tell(events.DeliveryCancelled, status="cancelled", reason="x")
    await tap.saw(own.BatchPickedUp, supply.id)
    await tap.saw(own.BatchHoldReleased, supply.id)

    assert len(tap.of(own.BatchHoldSplit, supply.id)) == 1
    expected = {"total": 40, "available": 36, "held": 0, "in_transit": 4, "delivered": 0, "lost": 0}
    assert await quantities(client, supply) == expected
    reading = database.reading()
    assert await BATCHES.get(reading, supply.id) == await BATCHES.as_of(reading, supply.id)


async def test_a_split_of_a_split_waits_for_the_first(
    client: httpx.AsyncClient, supply: Supply, bus: Bus, tap: Tap
) -> None:
    """A grandchild that is heard of first waits in the ladder until its parent's hold is known; the sums stay."""
    parent = Course(bus, supply, planned=10)
    await parent.tell(events.DeliveryPlanned)
    await tap.saw(own.BatchHeld, supply.id)
    child, to_child = parent.split(7)
    grandchild, to_grandchild = child.split(3)

    await grandchild.tell(events.DeliverySplitOff, parent_id=child.id, moved=to_grandchild)
    await grandchild.tell(events.PickupConfirmed, picked=3)
    await child.tell(events.DeliverySplitOff, parent_id=parent.id, moved=to_child)

    await tap.saw(own.BatchPickedUp, supply.id)
    ledger = await quantities(client, supply)
    assert (ledger["held"], ledger["in_transit"], ledger["available"]) == (7, 3, 30)
    held = {item["delivery_id"]: item["parts"][0]["quantity"] for item in await _parts(client, supply)}
    assert held == {str(parent.id): 3, str(child.id): 4, str(grandchild.id): 3}


# -- trace -------------------------------------------------------------------------------------------------------------


async def test_a_recall_finds_every_holder(
    client: httpx.AsyncClient, supply: Supply, bus: Bus, tap: Tap, callers: Callers
) -> None:
    """Held at the provider's, carried by a volunteer, delivered at two doors: each part with its place, all of them together the ledger."""
    waiting, carried, brought = Course(bus, supply, 5), Course(bus, supply, 6), Course(bus, supply, 9)
    volunteer, school = new_id(), {"receiving_organization_id": new_id(), "receiving_place_id": new_id()}
    for course in (waiting, carried, brought):
        await course.tell(events.DeliveryPlanned)
    await waiting.tell(events.DeliveryClaimed, status="claimed", volunteer_id=volunteer)
    await carried.tell(events.PickupConfirmed, status="in_transit", picked=6, volunteer_id=volunteer)
    await brought.tell(events.PickupConfirmed, status="in_transit", picked=9, volunteer_id=volunteer)
    shelter = brought.told["receiving_place_id"]
    await brought.tell(events.DropoffRefused, status="rerouting", reason="full", delivered=4)
    await brought.tell(events.DeliveryRerouted, status="in_transit", **school)
    await brought.tell(events.DeliveryGoodsLost, reason="rain", lost=2)
    await brought.tell(events.DeliveryCompleted, status="delivered", delivered=7)

    async def delivered() -> bool:
        return (await quantities(client, supply))["delivered"] == 7

    await eventually(delivered)
    recalled = {"severity": "critical", "reason": "listeria"}
    manager = await callers.person(member_of=supply.organization_id)
    answer = await client.post(f"/v1/batches/{supply.id}/recall", json=recalled, headers=manager.headers)
    items = {item["delivery_id"]: item for item in await _parts(client, supply)}

    assert answer.status_code == 200, answer.text
    assert {key: item["delivery_status"] for key, item in items.items()} == {
        str(waiting.id): "claimed", str(carried.id): "in_transit", str(brought.id): "delivered",
    }  # fmt: skip
    assert _whereabouts(items[str(waiting.id)]) == [("held", 5, str(supply.place_id))]
    assert _whereabouts(items[str(carried.id)]) == [("in_transit", 6, str(volunteer))]
    assert _whereabouts(items[str(brought.id)]) == [
        ("delivered", 4, str(shelter)), ("delivered", 3, str(school["receiving_place_id"])), ("lost", 2, None),
    ]  # fmt: skip
    assert items[str(brought.id)]["receiving_place_id"] == str(school["receiving_place_id"])
    sums: Counter[str] = Counter()
    for item in items.values():
        sums.update({part["where"]: part["quantity"] for part in item["parts"] if part["where"] != "delivered"})
        sums["delivered"] += sum(part["quantity"] for part in item["parts"] if part["where"] == "delivered")
    ledger = await quantities(client, supply)
    assert all(sums[bucket] == ledger[bucket] for bucket in ("held", "in_transit", "delivered"))


async def test_a_trace_comes_in_pages(client: httpx.AsyncClient, supply: Supply, bus: Bus, tap: Tap) -> None:
    """Following `next_cursor` gives each holder once."""
    courses = [Course(bus, supply, planned=1) for _ in range(5)]
    for course in courses:
        await course.tell(events.DeliveryPlanned)
    await eventually(lambda: len(tap.of(own.BatchHeld, supply.id)) == 5)
    seen: list[str] = []
    url: str | None = f"/v1/batches/{supply.id}/trace?limit=2"
    while url:
        page = await client.get(url, headers=supply.headers)
        seen += [item["delivery_id"] for item in page.json()["items"]]
        url = page.links["next"]["url"] if "next" in page.links else None

    assert sorted(seen) == sorted(str(course.id) for course in courses)


async def test_only_the_provider_and_coordinators_trace(
    client: httpx.AsyncClient, supply: Supply, callers: Callers
) -> None:
    """Others who see the batch may not know who has it; who does not see it does not find it."""
    coordinator = await callers.person(platform_role="coordinator")
    stranger = await callers.person(member_of=await callers.organization())
    member = await callers.person(member_of=supply.organization_id, role="staff")
    producing = (await client.post("/v1/batches", json=a_batch(supply.place_id), headers=supply.headers)).json()

    async def asked(caller: Caller, batch_id: Any, what: str = "trace") -> tuple[int, str]:
        answer = await client.get(f"/v1/batches/{batch_id}/{what}", headers=caller.headers)
        body = answer.json()
        return answer.status_code, body.get("code", "") if isinstance(body, dict) else ""

    assert await asked(coordinator, supply.id) == await asked(member, supply.id) == (200, "")
    assert await asked(coordinator, supply.id, "history") == (200, "")
    assert await asked(stranger, supply.id) == (403, "not-your-batch")
    assert await asked(stranger, producing["id"]) == (404, "batch-not-found")
    assert await asked(coordinator, new_id()) == (404, "batch-not-found")


# -- past states -------------------------------------------------------------------------------------------------------


async def test_the_past_is_shown_as_it_was(client: httpx.AsyncClient, supply: Supply, callers: Callers) -> None:
    """`at` gives the state before the last command, and before each one; there was nothing before the first."""
    path, headers = f"/v1/batches/{supply.id}", supply.headers
    for quantity in (41, 42, 43):
        await client.post(f"{path}/adjust", json={"quantity": quantity, "reason": "x"}, headers=headers)
    history = (await client.get(f"{path}/history", headers=headers)).json()
    commands = [datetime.fromisoformat(event["occurred_at"]) for event in history]
    assert [event["type"] for event in history] == ["BatchCreated", "BatchReady", *["BatchAdjusted"] * 3]

    seen = []
    for moment in commands:
        before = await client.get(
            path, params={"at": (moment - timedelta(microseconds=1)).isoformat()}, headers=headers
        )
        body = before.json()
        seen.append((before.status_code, body.get("version"), body.get("quantities", {}).get("total")))
    now = (await client.get(path, headers=headers)).json()
    last = (await client.get(path, params={"at": commands[-1].isoformat()}, headers=headers)).json()
    stranger = await callers.person()
    other = await client.get(path, params={"at": commands[-1].isoformat()}, headers=stranger.headers)

    assert seen == [(404, None, None), (200, 1, 40), (200, 2, 40), (200, 3, 41), (200, 4, 42)]
    assert last == now
    assert (other.status_code, other.json()["code"]) == (403, "not-your-batch")


# -- temperatures ------------------------------------------------------------------------------------------------------


async def test_a_reading_out_of_band_is_an_alarm(
    client: httpx.AsyncClient, supply: Supply, callers: Callers, tap: Tap
) -> None:
    """The batch shows it, everybody is told by the fact; a reading in band ends it; a batch that is over takes none."""
    made = await client.post(
        "/v1/batches", json=a_batch(supply.place_id, storage="chilled", quantity=4), headers=supply.headers
    )
    path = f"/v1/batches/{made.json()['id']}"
    warm = await client.post(f"{path}/ready", json={"temperature_dc": 81}, headers=supply.headers)
    await client.post(f"{path}/ready", json={"temperature_dc": 80}, headers=supply.headers)

    shown = []
    for reading in (95, 40):
        answer = await client.post(
            f"{path}/temperatures", json={"temperature_dc": reading, "stage": "storage"}, headers=supply.headers
        )
        listed = await client.get(path, headers=supply.headers)
        shown.append([(a.json()["temperature_dc"], a.json()["temperature_alarm"]) for a in (answer, listed)])
    await client.post(f"{path}/cancel", json={"reason": "x"}, headers=supply.headers)
    over = await client.post(
        f"{path}/temperatures", json={"temperature_dc": 40, "stage": "storage"}, headers=supply.headers
    )

    assert (warm.status_code, warm.json()["code"]) == (409, "temperature-out-of-band")
    assert shown == [[(95, True)] * 2, [(40, False)] * 2]
    assert (over.status_code, over.json()["code"]) == (409, "invalid-transition")
    await eventually(lambda: len(tap.of(own.TemperatureRecorded, UUID(made.json()["id"]))) == 2)
    told: list[Any] = [each.event for each in tap.of(own.TemperatureRecorded, UUID(made.json()["id"]))]
    assert [event.in_band for event in told] == [False, True]


async def test_a_use_by_time_may_be_told_when_ready(client: httpx.AsyncClient, supply: Supply, tap: Tap) -> None:
    """Food announced without one is ready with one, never without; and it expires by itself at that time."""
    made = await client.post("/v1/batches", json=a_batch(supply.place_id, use_by_at=None), headers=supply.headers)
    path, tomorrow = f"/v1/batches/{made.json()['id']}", (datetime.now(UTC) + timedelta(days=1)).isoformat()

    without = await client.post(f"{path}/ready", json={}, headers=supply.headers)
    ready = await client.post(f"{path}/ready", json={"use_by_at": tomorrow}, headers=supply.headers)

    assert (without.status_code, without.json()["code"]) == (409, "use-by-required")
    assert ready.json()["status"] == "ready"
    assert datetime.fromisoformat(ready.json()["use_by_at"]) == datetime.fromisoformat(tomorrow)


# -- near --------------------------------------------------------------------------------------------------------------

CATHEDRAL = (-30.0336, -51.2305)  # Porto Alegre
AWAY_M: Sequence[tuple[float, float, int]] = (
    (-30.0336, -51.2305, 0),
    (-30.0786, -51.2305, 5_004),  # due south
    (-30.0336, -51.1266, 10_001),  # due east
    (-30.0786, -51.1266, 11_182),  # the corner of the box around the two
)  # fmt: skip


async def test_what_is_near_is_within_the_radius(client: httpx.AsyncClient, callers: Callers) -> None:
    """Distances are on the sphere: the corner of the box around a circle is outside it."""
    organization_id = await callers.organization()
    partner = await callers.partner(organization_id)
    made = {}
    for lat, lon, away_m in AWAY_M:
        place_id = await callers.place(organization_id, lat=lat, lon=lon)
        made[away_m] = (await client.post("/v1/batches", json=a_batch(place_id), headers=partner.headers)).json()["id"]

    async def within(radius_m: int) -> set[int]:
        query = {
            "near": f"{CATHEDRAL[0]},{CATHEDRAL[1]}",
            "radius_m": radius_m,
            "organization_id": str(organization_id),
        }
        found = {
            item["id"]
            for item in (await client.get("/v1/batches", params=query, headers=partner.headers)).json()["items"]
        }
        return {away_m for away_m, batch_id in made.items() if batch_id in found}

    assert await within(1) == {0}
    assert await within(5_050) == {0, 5_004}
    assert await within(10_100) == {0, 5_004, 10_001}
    assert await within(11_250) == {0, 5_004, 10_001, 11_182}


async def test_what_is_near_is_found_by_index(database: Database) -> None:
    """Among twenty thousand places and batches a search within 20 km reads neither table as a whole."""
    for statement in _CROWD:
        await database.pool.execute(statement)
    wanted = queries.Filter(near=(-30.03, -51.2), radius_m=20_000)
    statement, values = queries.statement(Principal(new_id(), "person", {}), wanted, limit=50, before=None)
    plan = await database.pool.fetch(f"EXPLAIN {statement.sql}", *statement.arguments(values))

    told = "\n".join(row[0] for row in plan)
    assert "access_places_point" in told
    assert "Seq Scan on batches" not in told
    assert "Seq Scan on access_places" not in told


_CROWD = (
    """INSERT INTO access_places (place_id, organization_id, roles, ibge_city, lat, lon, tz, accepts, version)
       SELECT gen_random_uuid(), gen_random_uuid(), '{pickup}', '', -33 + random() * 28, -60 + random() * 25, 'x', '{}', 1
       FROM generate_series(1, 20000)""",
    """INSERT INTO batches (id, version, state, organization_id, place_id, status, kind, category, product_name, unit, storage,
           pickup_from, pickup_to, total, available, held, in_transit, delivered, lost, created_at)
       SELECT gen_random_uuid(), 1, '{}', p.organization_id, p.place_id, 'closed', 'food', 'dry', 'x', 'g', 'ambient',
           now(), now(), 1, 1, 0, 0, 0, 0, now() FROM access_places p WHERE p.ibge_city = ''""",
    "ANALYZE access_places",
    "ANALYZE batches",
)
