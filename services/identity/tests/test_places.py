"""The routes of places: managers add and change them, everybody finds those of verified organizations."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import Tap, eventually
from contracts.events import identity as events
from identity.repository import PLACES

from services.identity.tests.people import People, a_place


async def test_a_place_is_told_without_name_and_address(client: httpx.AsyncClient, people: People, tap: Tap) -> None:
    """The others hear where a place is and what it takes; how it is called and its street stay here."""
    tenant = await people.tenant(verified=False)
    body = a_place(
        tenant.id, accepts=["dairy", "bakery"], stop_list=["bakery", "7891000100103"], roles=["pickup", "receiving"],
        opening_hours="8-18", people_served=40,
    )  # fmt: skip

    answer = await client.post("/v1/places", json=body, headers=tenant.manager.headers)

    made = answer.json()
    assert (answer.status_code, made["version"], answer.headers["etag"]) == (201, 1, '"1"')
    assert answer.headers["location"] == f"/v1/places/{made['id']}"
    assert made.items() >= (body | {"cep": "90020007"}).items()
    fact = await tap.saw(events.PlaceAdded, UUID(made["id"]))
    assert fact.envelope.organizationid == tenant.id
    assert fact.envelope.data.keys() == {
        "place_id", "organization_id", "roles", "ibge_city", "lat", "lon", "tz", "accepts", "stop_list", "people_served",
    }  # fmt: skip
    assert (fact.envelope.data["stop_list"], fact.envelope.data["people_served"]) == (["bakery", "7891000100103"], 40)
    read = await client.get(f"/v1/places/{made['id']}", headers=tenant.staff.headers)
    assert (read.json(), read.headers["etag"]) == (made, '"1"')


async def test_only_managers_add_and_change_places(client: httpx.AsyncClient, people: People) -> None:
    """Staff may not, strangers may not, and of what they may not see they get 404."""
    public, hidden = await people.tenant(), await people.tenant(verified=False)
    stranger = await people.person()
    shown, unseen = await people.place(public), await people.place(hidden)
    change = {"name": "Outra"}

    answers = [
        await client.post("/v1/places", json=a_place(public.id), headers=public.staff.headers),
        await client.post("/v1/places", json=a_place(public.id), headers=stranger.headers),
        await client.post("/v1/places", json=a_place(hidden.id), headers=stranger.headers),
        await client.post("/v1/places", json=a_place(new_id()), headers=stranger.headers),
        await client.patch(f"/v1/places/{shown['id']}", json=change, headers=public.staff.headers),
        await client.patch(f"/v1/places/{shown['id']}", json=change, headers=stranger.headers),
        await client.patch(f"/v1/places/{unseen['id']}", json=change, headers=stranger.headers),
        await client.patch(f"/v1/places/{unseen['id']}", json=change, headers=stranger.headers | {"If-Match": '"9"'}),
        await client.get(f"/v1/places/{unseen['id']}", headers=stranger.headers),
        await client.get(f"/v1/places/{new_id()}", headers=stranger.headers),
    ]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [
        (403, "not-a-manager"),
        (403, "not-a-manager"),
        (404, "organization-not-found"),
        (404, "organization-not-found"),
        (403, "not-a-manager"),
        (403, "not-a-manager"),
        *[(404, "place-not-found")] * 4,
    ]


async def test_a_change_says_only_what_is_different(
    client: httpx.AsyncClient, people: People, tap: Tap, database: Database
) -> None:
    """What a change leaves out stays, null empties what may be empty, no difference is no news, a stale version is 412."""
    tenant = await people.tenant()
    place = await people.place(tenant, people_served=40)
    path, headers = f"/v1/places/{place['id']}", tenant.manager.headers

    change = {"accepts": ["baby"], "stop_list": ["pet"], "cep": None}
    changed = await client.patch(path, json=change, headers=headers | {"If-Match": '"1"'})
    same = await client.patch(path, json={"stop_list": ["pet"], "name": place["name"]}, headers=headers)
    stale = await client.patch(path, json={"name": "Outra"}, headers=headers | {"If-Match": '"1"'})

    assert changed.json() == place | change | {"version": 2}
    assert same.headers["etag"] == changed.headers["etag"] == '"2"'
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    told: Any = (await tap.saw(events.PlaceChanged, UUID(place["id"]))).event
    assert (told.accepts, told.stop_list, told.roles) == (["baby"], ["pet"], ["pickup"])
    assert len(tap.of(events.PlaceChanged, UUID(place["id"]))) == 1
    id_ = UUID(place["id"])
    assert await PLACES.get(database.reading(), id_) == await PLACES.as_of(database.reading(), id_)


@pytest.mark.parametrize(
    "changes",
    [
        {"lat": 90.1},
        {"lon": "1"},
        {"lat": None},
        {"roles": []},
        {"roles": ["pickup", "pickup"]},
        {"roles": ["shop"]},
        {"tz": "Brasil/Aqui"},
        {"tz": "../../etc/passwd"},
        {"ibge_city": "431490"},
        {"ibge_city": "٤٣١٤٩٠٢"},
        {"accepts": ["gold"]},
        {"stop_list": ["gold"]},
        {"stop_list": ["pet", "pet"]},
        {"stop_list": ["123"]},
        {"stop_list": [f"{n:013d}" for n in range(201)]},
        {"stop_list": None},
        {"cep": "9002-0007"},
        {"name": ""},
        {"name": None},
        {"people_served": -1},
        {"owner": "me"},
    ],
)
async def test_places_that_cannot_be_are_refused(
    client: httpx.AsyncClient, people: People, changes: dict[str, Any]
) -> None:
    """Points off the globe, unknown zones, roles, categories and members are 422, when adding and when changing."""
    headers = (await people.admin()).headers

    added = await client.post("/v1/places", json=a_place(new_id()) | changes, headers=headers)
    changed = await client.patch(f"/v1/places/{new_id()}", json=changes, headers=headers)

    assert [(a.status_code, a.json()["code"]) for a in (added, changed)] == [(422, "invalid-input")] * 2


async def test_places_are_found_by_distance_role_and_organization(client: httpx.AsyncClient, people: People) -> None:
    """Lists show public places within the circle, of the role and organization asked for, each once."""
    tenant, hidden = await people.tenant(), await people.tenant(verified=False)
    headers = (await people.person()).headers
    near = {(await people.place(tenant, lat=12.0 + n / 1000, lon=170.0))["id"] for n in range(5)}
    far = await people.place(tenant, lat=12.5, lon=170.0)
    receiving = await people.place(tenant, lat=12.0, lon=170.0, roles=["receiving"])
    unseen = await people.place(hidden, lat=12.0, lon=170.0)

    async def listed(query: str, by: dict[str, str] = headers) -> list[str]:
        seen: list[str] = []
        url: str | None = f"/v1/places?limit=2&{query}"
        while url:
            page = await client.get(url, headers=by)
            assert page.status_code == 200, page.text
            seen += [item["id"] for item in page.json()["items"]]
            url = page.links["next"]["url"] if "next" in page.links else None
        return seen

    around = await listed("near=12,170&radius_m=1000")
    assert set(around) == near | {receiving["id"]}
    assert len(around) == 6
    assert await listed("near=12,170&radius_m=1000&role=receiving") == [receiving["id"]]
    assert far["id"] in await listed("near=12,170&radius_m=60000")
    assert set(await listed(f"organization_id={tenant.id}")) == {*near, far["id"], receiving["id"]}
    assert await listed(f"organization_id={hidden.id}") == []
    assert await listed(f"organization_id={hidden.id}", hidden.staff.headers) == [unseen["id"]]
    assert await listed(f"organization_id={hidden.id}", (await people.admin()).headers) == [unseen["id"]]


async def test_suspension_hides_places_from_others(client: httpx.AsyncClient, people: People, tap: Tap) -> None:
    """The places of a suspended organization are its own to see; lifting the suspension shows them again."""
    tenant, stranger, admin = await people.tenant(), await people.person(), await people.admin()
    path = f"/v1/places/{(await people.place(tenant))['id']}"

    async def seen() -> list[int]:
        return [(await client.get(path, headers=p.headers)).status_code for p in (stranger, tenant.staff, admin)]

    before = await seen()
    await client.post(f"/v1/organizations/{tenant.id}/suspend", headers=admin.headers)
    meanwhile = await seen()
    await client.post(f"/v1/organizations/{tenant.id}/verify", headers=admin.headers)

    assert (before, meanwhile, await seen()) == ([200, 200, 200], [404, 200, 200], [200, 200, 200])
    await eventually(lambda: len(tap.of(events.OrganizationVerified, tenant.id)) == 2)


@pytest.mark.parametrize("query", ["near=91,0", "near=x", "near=1,2&radius_m=0", "role=shop", "limit=0", "limit=201"])
async def test_bad_queries_are_refused(client: httpx.AsyncClient, people: People, query: str) -> None:
    """Points off the globe, empty circles and pages out of range are 422."""
    answer = await client.get(f"/v1/places?{query}", headers=(await people.admin()).headers)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")
