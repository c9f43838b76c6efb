"""Identity's facts told again: the very bytes of the first time, whatever became of people and organizations meanwhile."""

from __future__ import annotations

from uuid import UUID

import httpx
from chassis.testing import Tap
from chassis.testing.replays import Asking, same_as_first_told
from contracts.events import identity as events

from services.identity.tests.people import People
from services.identity.tests.test_users import VOLUNTEER

AGGREGATES = ("organization", "place", "user", "api_key", "signing_key")


async def test_every_fact_is_told_again_as_it_was_told(
    client: httpx.AsyncClient, people: People, tap: Tap, broker_url: str
) -> None:
    """A replay of everything this process ever published: the same bytes, once, in order; the end mark counts them."""
    tenant = await people.tenant()
    headers = tenant.manager.headers
    place = await people.place(tenant, accepts=["prepared", "baby"])
    await client.patch(f"/v1/places/{place['id']}", json={"accepts": ["baby"]}, headers=headers)
    key = await people.key(tenant)
    await client.post(f"/v1/api-keys/{key['id']}/rotate", headers=headers)
    await client.delete(f"/v1/api-keys/{key['id']}", headers=headers)
    await client.put("/v1/me/volunteer-profile", json=VOLUNTEER, headers=tenant.staff.headers)
    await client.post("/v1/auth/logout", headers=tenant.staff.headers)
    await client.post(f"/v1/organizations/{tenant.id}/close", headers=headers)
    for kind in (events.UserSessionEnded, events.PlatformRoleGranted):
        await tap.saw(kind)
    await tap.saw(events.OrganizationClosed, tenant.id)
    await tap.saw(events.ApiKeyRevoked, UUID(key["id"]))
    heard = [*tap.received]

    async with Asking(broker_url, "identity") as asking:
        mark = await asking.replay(AGGREGATES)

    assert same_as_first_told(asking.received, heard) >= 12
    assert (mark.sent, mark.total, mark.error) == (len(asking.received), len(asking.received), None)
    assert {type(each.event) for each in asking.received} >= {
        events.SigningKeyPublished,
        events.VolunteerProfileChanged,
    }


async def test_only_the_aggregates_asked_for_are_told(people: People, tap: Tap, broker_url: str) -> None:
    """Who asks for places hears of places."""
    place = await people.place(await people.tenant())
    await tap.saw(events.PlaceAdded, UUID(place["id"]))

    async with Asking(broker_url, "identity") as asking:
        mark = await asking.replay(["place", "no_such_thing"])

    assert {each.event.aggregate for each in asking.received} == {"place"}
    assert UUID(place["id"]) in {each.envelope.subject for each in asking.received}
    assert mark.sent == mark.total == len(asking.received)
