"""The internal port: who may ask how a person is reached, and that nobody else can."""

from __future__ import annotations

import httpx
import pytest
from chassis.kernel import new_id
from chassis.testing import LiveService

from services.identity.tests.people import People

TRUSTED = {"Authorization": "Bearer internal-token-for-tests-only-0000"}


async def test_other_services_learn_how_a_person_is_reached(live: LiveService, people: People) -> None:
    """With the internal token a contact is told; nobody is 404, no id is 422."""
    person = await people.person(locale="en")
    async with httpx.AsyncClient(base_url=live.ops_url, headers=TRUSTED) as other_service:
        found = await other_service.get(f"/internal/v1/contacts/{person.id}")
        nobody = await other_service.get(f"/internal/v1/contacts/{new_id()}")
        nonsense = await other_service.get("/internal/v1/contacts/me")

    assert found.json() == {
        "user_id": str(person.id),
        "email": person.email,
        "display_name": "Ana Clara",
        "locale": "en",
    }
    assert (nobody.status_code, nobody.json()["code"]) == (404, "user-not-found")
    assert nonsense.status_code == 422


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", "Basic internal-token-for-tests-only-0000", TRUSTED["Authorization"] + "0"],
)
async def test_nobody_else_learns_anything(live: LiveService, people: People, authorization: str | None) -> None:
    """Without the exact internal token there is no contact, not even whether there would be one."""
    person = await people.admin()
    headers = {} if authorization is None else {"Authorization": authorization}
    async with httpx.AsyncClient(base_url=live.ops_url, headers=headers) as stranger:
        answers = [await stranger.get(f"/internal/v1/contacts/{id_}") for id_ in (person.id, new_id())]

    assert {(a.status_code, a.json()["code"]) for a in answers} == {(401, "unauthenticated")}


async def test_the_public_port_knows_no_internal_route(client: httpx.AsyncClient, people: People) -> None:
    """Contacts, health and metrics are not there for the world, nor in the document of the API."""
    admin = await people.admin()

    paths = [f"/internal/v1/contacts/{admin.id}", "/readyz", "/livez", "/metrics"]
    answers = [await client.get(path, headers=TRUSTED) for path in paths]
    document = (await client.get("/openapi/identity.json")).text

    assert [a.status_code for a in answers] == [404] * 4
    assert "internal" not in document
